package govern

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/whatif"
	"github.com/boltseal/boltseal/trust"
)

type whatIfFlags struct {
	hub                                   hubFlags
	show                                  showFlags
	files, without, revoked               []string
	assignment, effect, mode, at, cluster string
}

func newWhatIf(env frame.Env) *cobra.Command {
	var f whatIfFlags
	cmd := &cobra.Command{
		Use:   "what-if [-f FILE]...",
		Short: "Say what a change would deny, before it is made",
		Long: `Say which images that run now would be denied after a change: assignments, exemptions
and definitions from files (in place of those with their names), another effect, an
exemption that is gone, the exemptions that are over by a time, or a certificate that is
revoked or taken out of the trust stores. Nothing is changed.

It goes by what clusters report of images that run. Where no assignment checks
something yet, it says so: assign it with the effect Audit first.`,
		Annotations: frame.ExitCodes("no image that runs now would be denied",
			"at least one image would certainly be denied",
			"an image may be denied, or something is unknown; or the command failed"),
		Example: `    boltseal policy what-if --assignment deploy-trustedimages --effect Deny
    boltseal policy what-if -f assignment.yaml
    boltseal policy what-if --without-exemption legacy
    boltseal policy what-if --at 2027-03-01
    boltseal policy what-if --revoked old-signer.crt`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runWhatIf(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.files, "filename", "f", nil, "YAML `FILE` with PolicyAssignments, PolicyExemptions or definitions; may be repeated")
	fl.StringVar(&f.assignment, "assignment", "", "`NAME` or ID of the assignment that --effect and --enforcement-mode are about")
	fl.StringVar(&f.effect, "effect", "", "another `EFFECT` of it, such as Deny")
	fl.StringVar(&f.mode, "enforcement-mode", "", "`MODE`: another enforcement mode of it: Default or DoNotEnforce")
	fl.StringArrayVar(&f.without, "without-exemption", nil, "`NAME` of an exemption to leave out; may be repeated")
	fl.StringVar(&f.at, "at", "", "a day, or a `TIME`: exemptions that end until then are over")
	fl.StringArrayVar(&f.revoked, "revoked", nil, "`CERT` that is trusted no more, of a signer or a CA: a file, a fingerprint (sha256:…), or a\nsubject such as 'CN=signer,O=Acme'; may be repeated")
	fl.StringVar(&f.cluster, "cluster", "", "only the cluster `NAME`")
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

func (f whatIfFlags) check() error {
	switch {
	case f.assignment == "" && (f.effect != "" || f.mode != ""):
		return errors.New("--effect and --enforcement-mode need --assignment")
	case f.assignment != "" && f.effect == "" && f.mode == "":
		return errors.New("--assignment needs --effect or --enforcement-mode: what would change?")
	case len(f.files)+len(f.without)+len(f.revoked) == 0 && f.assignment == "" && f.at == "":
		return errors.New("name a change: -f, --assignment with --effect, --without-exemption, --at or --revoked")
	}
	return nil
}

func runWhatIf(cmd *cobra.Command, env frame.Env, f whatIfFlags) error {
	ctx := cmd.Context()
	if err := f.show.check(cmd); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return frame.UsageFailure(cmd, err)
	}
	now := time.Now()
	at := now
	if f.at != "" {
		var err error
		if at, err = parseTime(f.at); err != nil {
			return frame.BadUsage(cmd, "--at: %w", err)
		}
	}
	changes, err := readChanges(env, f.files)
	if err != nil {
		return err
	}
	revoked, err := readCertificates(env, f.revoked)
	if err != nil {
		return err
	}
	h, err := f.hub.open(env)
	if err != nil {
		return err
	}
	in, err := f.input(ctx, env, h, changes)
	if err != nil {
		return err
	}
	in.Now, in.Before.At, in.After.At, in.Revoked = now, now, at, revoked
	result := whatif.Look(in)
	data, err := frame.EncodeVersioned(result)
	if err != nil {
		return err
	}
	err = f.show.show(env, data, func(w io.Writer, st frame.Style) error { return writeWhatIf(w, st, result) })
	if err != nil {
		return err
	}
	return whatIfExit(result)
}

// whatIfExit is how the command ends: what would be denied for certain comes before
// what is not known, and that is never nothing.
func whatIfExit(r whatif.Result) error {
	switch {
	case slices.ContainsFunc(r.Denied, func(d whatif.Denied) bool { return d.Certain }):
		return frame.ExitError(frame.ExitNotTrusted)
	case len(r.Denied)+len(r.Gaps) > 0:
		return frame.ExitError(frame.ExitUnknown)
	}
	return nil
}

var fingerprintGrammar = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// readCertificates are those that are named by a file, a fingerprint or a subject.
func readCertificates(env frame.Env, names []string) (out []whatif.Certificate, err error) {
	for _, name := range names {
		plain := strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(name), "sha256:"), ":", ""))
		switch {
		case fingerprintGrammar.MatchString("sha256:" + plain):
			out = append(out, whatif.Certificate{Fingerprint: "sha256:" + plain})
			continue
		case strings.Contains(name, "="):
			out = append(out, whatif.Certificate{Subject: name})
			continue
		}
		sources, err := input.ReadNamed(env, "--revoked", []string{name})
		if err != nil {
			return nil, err
		}
		for _, s := range sources {
			certs, err := trust.ParseCertificates(s.Data)
			if err != nil {
				return nil, fmt.Errorf("--revoked %s: %w", s.Name, err)
			}
			for _, c := range certs {
				out = append(out, whatif.Certificate{Fingerprint: trust.Fingerprint(c), Subject: c.Subject.String()})
			}
		}
	}
	return out, nil
}

// changes is what files bring.
type changes struct {
	assignments []v1alpha1.PolicyAssignment
	exemptions  []v1alpha1.PolicyExemption
	definitions []definition.Object
}

func readChanges(env frame.Env, files []string) (changes, error) {
	var out changes
	sources, err := input.ReadNamed(env, "--filename", files)
	if err != nil {
		return out, err
	}
	kinds := []string{v1alpha1.KindPolicyAssignment, v1alpha1.KindPolicyExemption, v1alpha1.KindPolicyDefinition, v1alpha1.KindPolicySetDefinition}
	var wrong []error
	for _, s := range sources {
		docs, err := strict.Documents(s.Name, s.Data)
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		for _, d := range docs {
			var err error
			switch kind := d.Text("kind"); {
			case !strings.EqualFold(d.Text("apiVersion"), v1alpha1.GroupVersion.String()):
				err = d.At("apiVersion", "must be %s", v1alpha1.GroupVersion)
			case kind == v1alpha1.KindPolicyAssignment:
				var a v1alpha1.PolicyAssignment
				err = d.Decode(&a)
				out.assignments = append(out.assignments, a)
			case kind == v1alpha1.KindPolicyExemption:
				var e v1alpha1.PolicyExemption
				err = d.Decode(&e)
				out.exemptions = append(out.exemptions, e)
			case kind == v1alpha1.KindPolicyDefinition:
				var o v1alpha1.PolicyDefinition
				err = d.Decode(&o)
				out.definitions = append(out.definitions, definition.Object{Definition: &o})
			case kind == v1alpha1.KindPolicySetDefinition:
				var o v1alpha1.PolicySetDefinition
				err = d.Decode(&o)
				out.definitions = append(out.definitions, definition.Object{Set: &o})
			default:
				err = d.At("kind", "%s is not %s%s", strict.Label(kind), strings.Join(kinds, ", "), nearest.Hint(kind, kinds))
			}
			if err == nil && d.Text("metadata", "name") == "" {
				err = d.At("metadata.name", "is missing")
			}
			if err != nil {
				wrong = append(wrong, err)
			}
		}
	}
	return out, errors.Join(wrong...)
}

func (f whatIfFlags) input(ctx context.Context, env frame.Env, h *hub, c changes) (in whatif.Input, err error) {
	lib, err := h.library(ctx, env)
	if err != nil {
		return in, err
	}
	if in.Before.Assignments, err = h.assignments(ctx); err != nil {
		return in, err
	}
	if in.Before.Exemptions, err = h.exemptions(ctx); err != nil {
		return in, err
	}
	if in.Before.Features, err = h.features(ctx); err != nil {
		return in, err
	}
	if in.Clusters, err = h.clusters(ctx); err != nil {
		return in, err
	}
	if f.cluster != "" {
		all := namesOf(in.Clusters)
		if in.Clusters = slices.DeleteFunc(in.Clusters, func(c v1alpha1.Cluster) bool { return c.Name != f.cluster }); len(in.Clusters) == 0 {
			return in, noSuchName("cluster", f.cluster, all, "boltseal cluster list")
		}
	}
	if in.Reports, err = h.reports(ctx); err != nil {
		return in, err
	}
	in.Before.Library = lib
	in.After = in.Before
	after := lib
	if len(c.definitions) > 0 {
		if after, err = h.library(ctx, env); err != nil {
			return in, err
		}
		if err := after.Add(c.definitions...); err != nil {
			return in, err
		}
	}
	in.After.Library = after
	in.After.Assignments = replaceNamed(in.Before.Assignments, c.assignments, func(a *v1alpha1.PolicyAssignment) string { return a.Name })
	in.After.Exemptions = replaceNamed(in.Before.Exemptions, c.exemptions, func(e *v1alpha1.PolicyExemption) string { return e.Name })
	for _, name := range f.without {
		n := len(in.After.Exemptions)
		if in.After.Exemptions = slices.DeleteFunc(in.After.Exemptions, func(e v1alpha1.PolicyExemption) bool { return e.Name == name }); len(in.After.Exemptions) == n {
			return in, noSuchName("exemption", name, namesOf(in.Before.Exemptions), "boltseal policy exemption list")
		}
	}
	if f.assignment == "" {
		return in, nil
	}
	found, err := h.find(ctx, f.assignment, "")
	if err != nil {
		return in, err
	}
	for i := range in.After.Assignments {
		if a := &in.After.Assignments[i]; a.Name == found.Name {
			*a = *a.DeepCopy() // what was before stays as it is
			if err := f.change(a, after); err != nil {
				return in, err
			}
		}
	}
	return in, nil
}

// replaceNamed puts objects in place of those with their names.
func replaceNamed[T any](old, next []T, name func(*T) string) []T {
	out := slices.Clone(old)
	for i := range next {
		j := slices.IndexFunc(out, func(o T) bool { return name(&o) == name(&next[i]) })
		if j < 0 {
			out = append(out, next[i])
		} else {
			out[j] = next[i]
		}
	}
	return out
}

// change sets the effect and the mode: by the parameter effect where there is one,
// as somebody would who makes the change.
func (f whatIfFlags) change(a *v1alpha1.PolicyAssignment, lib definition.Library) error {
	if f.mode != "" {
		mode, err := oneOf("--enforcement-mode", f.mode, string(v1alpha1.EnforceDefault), string(v1alpha1.DoNotEnforce))
		if err != nil {
			return err
		}
		a.Spec.EnforcementMode = v1alpha1.EnforcementMode(mode)
	}
	if f.effect == "" {
		return nil
	}
	effect, err := oneOf("--effect", f.effect, "Audit", "Deny", "Disabled")
	if err != nil {
		return err
	}
	var parameters map[string]v1alpha1.Parameter
	if s, ok := lib.Set(a.Spec.PolicyDefinitionID); ok {
		parameters = s.Object.Spec.Parameters
	} else if d, ok := lib.Definition(a.Spec.PolicyDefinitionID); ok {
		parameters = d.Object.Spec.Parameters
	}
	if _, ok := parameters["effect"]; !ok {
		return fmt.Errorf("what assignment %s assigns has no parameter effect: write the assignment as you want it into a file, and name it with -f", a.Name)
	}
	if a.Spec.Parameters == nil {
		a.Spec.Parameters = map[string]v1alpha1.ParameterValue{}
	}
	a.Spec.Parameters["effect"] = v1alpha1.ParameterValue{Value: apiextensionsv1.JSON{Raw: []byte(`"` + effect + `"`)}}
	return checkAssignment(frame.Env{Stderr: io.Discard}, a, lib, nil)
}

func writeWhatIf(w io.Writer, st frame.Style, r whatif.Result) error {
	var rows []frame.Row
	certain, pods := 0, 0
	for _, d := range r.Denied {
		word, colour := "denied", frame.Red
		if !d.Certain {
			word, colour = "perhaps", frame.Yellow
		} else {
			certain++
			pods += int(d.Pods)
		}
		out := frame.Row{Cells: []string{frame.SafeText(d.Cluster), frame.SafeText(d.Namespace), frame.SafeText(frame.ShortImage(d.Image)), word, formatNumber(d.Pods), frame.SafeText(d.Assignment)}, Colours: []string{"", "", "", colour}}
		for _, line := range []string{d.Message, d.Doubt} {
			if line != "" {
				out.Below = append(out.Below, frame.SafeText(line))
			}
		}
		rows = append(rows, out)
	}
	if len(rows) > 0 {
		if err := frame.WriteTable(w, st, []string{"CLUSTER", "NAMESPACE", "IMAGE", "WOULD BE", "PODS", "ASSIGNMENT"}, rows); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, p := range r.Problems {
		who := p.Assignment
		if who == "" {
			who = p.Exemption
		}
		if p.Cluster != "" {
			who += " at " + p.Cluster
		}
		fmt.Fprintln(w, st.Paint(frame.Red, "not active: ")+frame.SafeText(who+": "+p.Message))
	}
	for _, g := range r.Gaps {
		who := g.Cluster
		if g.Assignment != "" {
			who += ", " + g.Assignment
		}
		fmt.Fprintln(w, st.Paint(frame.Yellow, "not known: ")+frame.SafeText(who+": "+g.Message))
	}
	last := fmt.Sprintf("%s in %s would be denied, %d perhaps", frame.CountNoun(certain, "image"), frame.CountNoun(pods, "Pod"), len(r.Denied)-certain)
	if len(r.Gaps) > 0 {
		last = "of what is known, " + last + "; there is more that is not known (see above)"
	}
	_, err := fmt.Fprintln(w, last)
	return err
}
