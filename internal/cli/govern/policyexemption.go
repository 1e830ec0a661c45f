package govern

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/render"
	"github.com/boltseal/boltseal/internal/governance/resolve"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

func newPolicyExemption(env frame.Env) *cobra.Command {
	return frame.ParentCommand("exemption", "Take something out of an assignment for a while",
		"Take clusters, namespaces, images or workloads out of an assignment for a while.",
		newExemptionCreate(env), newExemptionList(env), newExemptionDelete(env))
}

type exemptionFlags struct {
	hub                                      hubFlags
	show                                     showFlags
	name, displayName, description           string
	assignment, category, expires, scope     string
	references, namespaces, images, workload []string
	dryRun                                   bool
}

func newExemptionCreate(env frame.Env) *cobra.Command {
	var f exemptionFlags
	cmd := &cobra.Command{
		Use:   "create --name NAME -a NAME|ID -e Waiver|Mitigated",
		Short: "Make an exemption, or replace the one with this name",
		Long: `Take clusters out of an assignment, or, with --namespaces, --images or --workloads,
some of what runs in them. What is exempt is counted, and is never denied. The end
is announced 30, 7 and 1 days before, and holds even where the hub is away.`,
		Example: `    boltseal policy exemption create --name legacy -a deploy-trustedimages \
      --exemption-category Waiver --expires-on 2027-03-01 --namespaces 'legacy-*'
    boltseal policy exemption create --name web -a deploy-trustedimages \
      -e Mitigated --expires-on 2027-03-01 --namespace shop --workload Deployment/web`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runExemptionCreate(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.name, "name", "n", "", "`NAME` of the exemption")
	fl.StringVar(&f.displayName, "display-name", "", "`TEXT`: its name for people")
	fl.StringVar(&f.description, "description", "", "`TEXT`: why")
	fl.StringVarP(&f.assignment, "policy-assignment", "a", "", "`NAME` or ID of the assignment")
	fl.StringVarP(&f.category, "exemption-category", "e", "", "`CATEGORY`: Waiver (the risk is accepted) or Mitigated (met in another way)")
	fl.StringVar(&f.expires, "expires-on", "", "its end: a day, or a `TIME` such as 2027-03-01T12:00:00Z (default never)")
	fl.StringVar(&f.scope, "scope", "", "only clusters at this `PATH` and below it (default all of the assignment)")
	fl.StringSliceVarP(&f.references, "policy-definition-reference-ids", "r", nil, "`REFERENCES`: only these definitions of the initiative")
	fl.StringSliceVar(&f.namespaces, "namespaces", nil, "`NAMESPACES`: only what runs in these namespaces; a trailing * matches any ending")
	fl.StringSliceVar(&f.images, "images", nil, "`IMAGES`: only these images: exact, or a beginning with a trailing *")
	fl.StringSliceVar(&f.workload, "workloads", nil, "`KIND/NAME`: only these workloads and their Pods, such as Deployment/web; with --namespaces")
	fl.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName { // one or several
		switch name {
		case "namespace", "image", "workload":
			name += "s"
		}
		return pflag.NormalizedName(name)
	})
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the object as YAML, and ask no cluster")
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

func (f exemptionFlags) object() (*v1alpha1.PolicyExemption, error) {
	if err := checkName("--name", f.name); err != nil {
		return nil, err
	}
	if f.assignment == "" {
		return nil, errors.New("--policy-assignment is missing: the name or ID of the assignment")
	}
	if f.category == "" {
		return nil, errors.New("--exemption-category is missing: Waiver, the risk is accepted, or Mitigated, met in another way")
	}
	category, err := oneOf("--exemption-category", f.category, "Waiver", "Mitigated")
	if err != nil {
		return nil, err
	}
	e := &v1alpha1.PolicyExemption{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindPolicyExemption},
		ObjectMeta: metav1.ObjectMeta{Name: f.name},
		Spec: v1alpha1.PolicyExemptionSpec{DisplayName: f.displayName, Description: f.description, PolicyAssignmentID: f.assignment,
			PolicyDefinitionReferenceIDs: f.references, ExemptionCategory: category, Scope: f.scope},
	}
	if f.expires != "" {
		end, err := parseTime(f.expires)
		if err != nil {
			return nil, fmt.Errorf("--expires-on: %w", err)
		}
		e.Spec.ExpiresOn = &metav1.Time{Time: end}
	}
	if len(f.namespaces)+len(f.images)+len(f.workload) > 0 {
		e.Spec.Within = &v1alpha1.ExemptionWithin{Namespaces: f.namespaces, Images: f.images, Workloads: f.workload}
		if _, err := render.Exemption(&v1alpha1.BundleExemption{Name: e.Name, Category: category, Within: e.Spec.Within}); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// parseTime reads a time, or a day, which begins at midnight UTC.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is neither a day such as 2027-03-01 nor a time such as 2027-03-01T12:00:00Z", frame.SafeText(s))
}

func runExemptionCreate(cmd *cobra.Command, env frame.Env, f exemptionFlags) error {
	ctx := cmd.Context()
	if err := f.show.check(cmd); err != nil {
		return err
	}
	e, err := f.object()
	if err != nil {
		return frame.UsageFailure(cmd, err)
	}
	if end := e.Spec.ExpiresOn; end != nil && !end.After(time.Now()) {
		return frame.BadUsage(cmd, "--expires-on: %s is over", end.UTC().Format(time.RFC3339))
	}
	if e.Spec.ExpiresOn == nil {
		fmt.Fprintln(env.Stderr, "note: the exemption never ends: --expires-on says when it does")
	}
	if f.dryRun {
		return printYAML(env.Stdout, e)
	}
	h, err := f.hub.open(env)
	if err != nil {
		return err
	}
	a, err := h.find(ctx, e.Spec.PolicyAssignmentID, "")
	if err != nil {
		return err
	}
	e.Spec.PolicyAssignmentID = assignmentID(a)
	lib, err := h.library(ctx, env)
	if err != nil {
		return err
	}
	if err := exemptionWrong(e, a, lib); err != nil {
		return err
	}
	var there v1alpha1.PolicyExemption
	switch err = h.client.Get(ctx, client.ObjectKey{Name: e.Name}, &there); {
	case apierrors.IsNotFound(err):
		err = h.client.Create(ctx, e)
	case err == nil:
		there.Spec = e.Spec
		e, err = &there, h.client.Update(ctx, &there)
	}
	if err != nil {
		return explainAnswer("making the exemption", err)
	}
	return f.show.show(env, exemptionOf(e), func(w io.Writer, st frame.Style) error { return writeExemptions(w, st, []v1alpha1.PolicyExemption{*e}) })
}

// exemptionWrong tells what the hub would say of an exemption.
func exemptionWrong(e *v1alpha1.PolicyExemption, a *v1alpha1.PolicyAssignment, lib definition.Library) error {
	r := resolve.New(resolve.Input{Library: lib, Assignments: []v1alpha1.PolicyAssignment{*a}, Exemptions: []v1alpha1.PolicyExemption{*e}})
	var wrong []error
	for _, p := range r.Problems() {
		if p.Exemption != "" {
			wrong = append(wrong, errors.New(p.Message))
		}
	}
	return errors.Join(wrong...)
}

type shownExemption struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Type string `json:"type"`
	v1alpha1.PolicyExemptionSpec
	Expired    bool               `json:"expired"`
	SystemData systemData         `json:"systemData"`
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// scopedID is the ID of what belongs to an assignment.
func scopedID(assignment, typ, name string) string {
	at, _, err := scope.ParseAssignmentID(assignment)
	if err != nil {
		return "/providers/" + typ + "/" + name
	}
	return strings.TrimSuffix(at.String(), "/") + "/providers/" + typ + "/" + name
}

func exemptionOf(e *v1alpha1.PolicyExemption) shownExemption {
	const typ = scope.Provider + "/policyExemptions"
	return shownExemption{ID: scopedID(e.Spec.PolicyAssignmentID, typ, e.Name), Name: e.Name, Type: typ, PolicyExemptionSpec: e.Spec,
		Expired: e.Spec.ExpiresOn != nil && !e.Spec.ExpiresOn.After(time.Now()), SystemData: createdAt(e.ObjectMeta), Conditions: e.Status.Conditions}
}

func writeExemptions(w io.Writer, st frame.Style, es []v1alpha1.PolicyExemption) error {
	var rows []frame.Row
	for i := range es {
		e := &es[i]
		end, colour := "never", frame.Yellow
		if t := e.Spec.ExpiresOn; t != nil {
			end, colour = t.UTC().Format(time.RFC3339), ""
			if !t.After(time.Now()) {
				end, colour = end+" (over)", frame.Red
			}
		}
		a := e.Spec.PolicyAssignmentID
		rows = append(rows, frame.Row{Cells: []string{e.Name, frame.SafeText(a[strings.LastIndexByte(a, '/')+1:]), e.Spec.ExemptionCategory, end, frame.SafeText(exemptedParts(e.Spec))},
			Colours: []string{"", "", "", colour}, Below: notReady(st, e.Status)})
	}
	return frame.WriteTable(w, st, []string{"NAME", "ASSIGNMENT", "CATEGORY", "EXPIRES", "WHAT"}, rows)
}

// exemptedParts says what is taken out.
func exemptedParts(s v1alpha1.PolicyExemptionSpec) string {
	var parts []string
	if w := s.Within; w != nil {
		for _, p := range []struct {
			what  string
			names []string
		}{{"namespaces", w.Namespaces}, {"images", w.Images}, {"workloads", w.Workloads}} {
			if len(p.names) > 0 {
				parts = append(parts, p.what+" "+strings.Join(p.names, ", "))
			}
		}
	}
	return cmp.Or(strings.Join(parts, " and "), "whole clusters") + " at " + cmp.Or(s.Scope, "the assignment's scope")
}

func exemptionNoun() noun[v1alpha1.PolicyExemption, *v1alpha1.PolicyExemption] {
	return noun[v1alpha1.PolicyExemption, *v1alpha1.PolicyExemption]{name: "exemption", path: "policy exemption",
		list:  func(ctx context.Context, h *hub) ([]v1alpha1.PolicyExemption, error) { return h.exemptions(ctx) },
		shape: func(e *v1alpha1.PolicyExemption) any { return exemptionOf(e) }, table: writeExemptions}
}

func newExemptionList(env frame.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List exemptions, and when they end", Example: `    boltseal policy exemption list`}
	return exemptionNoun().listVerb(env, cmd, nil)
}

func newExemptionDelete(env frame.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "delete --name NAME", Short: "Delete an exemption", Example: `    boltseal policy exemption delete --name legacy`}
	return exemptionNoun().oneVerb(env, cmd, verbAbout[v1alpha1.PolicyExemption]{naming: "its `NAME`", quiet: true, do: exemptionNoun().deleteOne(env),
		find: func(_ context.Context, _ *hub, name string) (*v1alpha1.PolicyExemption, error) { // it need not be read
			return &v1alpha1.PolicyExemption{ObjectMeta: metav1.ObjectMeta{Name: name}}, nil
		}})
}
