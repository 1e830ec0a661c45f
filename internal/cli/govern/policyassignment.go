package govern

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

func newPolicyAssignment(env frame.Env) *cobra.Command {
	return frame.ParentCommand("assignment", "Assign a definition or an initiative to a scope",
		"Assign a definition or an initiative to all clusters of a scope.",
		newAssignmentCreate(env), newAssignmentShow(env), newAssignmentList(env), newAssignmentDelete(env))
}

type assignmentFlags struct {
	hub                                     hubFlags
	show                                    showFlags
	name, displayName, description          string
	policy, set, version, scope             string
	notScopes                               []string
	params, selectors, overrides, messages  string
	enforcement                             string
	location, role, identityScope, identity string
	systemAssigned, dryRun                  bool
}

func newAssignmentCreate(env frame.Env) *cobra.Command {
	var f assignmentFlags
	cmd := &cobra.Command{
		Use:   "create --name NAME --scope PATH -d NAME|ID",
		Short: "Make an assignment, or replace the one with this name",
		Long: `Assign a definition or an initiative to all clusters at a scope and below it. The
assignment that has the name already is replaced, where it has the same scope.

A scope is a path: /subscriptions/S/resourceGroups/G as in Azure, or one of your own
such as /emea/production, or / for all clusters.

--location, --mi-system-assigned, --mi-user-assigned, --role and --identity-scope are
taken so that az's command works as it is, and have no effect: nothing here needs an
identity in a cloud.`,
		Example: `    boltseal policy assignment create --name deploy-trustedimages \
      --policy-set-definition image-integrity --scope /emea \
      --display-name 'Only trusted images'

  The same, and deny:
    boltseal policy assignment create --name deploy-trustedimages \
      --policy-set-definition image-integrity --scope /emea \
      --params '{"effect": {"value": "Deny"}}'`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runAssignmentCreate(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.name, "name", "n", "", "`NAME` of the assignment")
	fl.StringVar(&f.displayName, "display-name", "", "`TEXT`: its name for people")
	fl.StringVar(&f.description, "description", "", "`TEXT`: what it is for")
	fl.StringVar(&f.policy, "policy", "", "`NAME` or ID of the definition to assign")
	fl.StringVarP(&f.set, "policy-set-definition", "d", "", "`NAME` or ID of the initiative to assign")
	fl.StringVar(&f.version, "definition-version", "", "`VERSIONS`: versions of it that will do, such as 1.*.*")
	fl.StringVar(&f.scope, "scope", "", "`PATH` that it is assigned to")
	fl.StringArrayVar(&f.notScopes, "not-scopes", nil, "`PATHS` below it that are left out, with blanks between them; may be repeated")
	fl.StringVarP(&f.params, "params", "p", "", "parameters: JSON, or a `FILE` with it")
	fl.StringVarP(&f.enforcement, "enforcement-mode", "e", "Default", "`MODE`: Default, or DoNotEnforce to report only")
	fl.StringVar(&f.selectors, "resource-selectors", "", "which clusters of the scope: JSON, or a `FILE` with it")
	fl.StringVar(&f.overrides, "overrides", "", "effects or versions to change: JSON, or a `FILE` with it")
	fl.StringVar(&f.messages, "non-compliance-messages", "", "what is said to whoever is denied: JSON, or a `FILE` with it")
	fl.StringVarP(&f.location, "location", "l", "", "`REGION`: without effect")
	fl.BoolVar(&f.systemAssigned, "mi-system-assigned", false, "without effect")
	fl.StringVar(&f.identity, "mi-user-assigned", "", "`ID`: without effect")
	fl.StringVar(&f.role, "role", "", "`ROLE`: without effect")
	fl.StringVar(&f.identityScope, "identity-scope", "", "`SCOPE`: without effect")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the object as YAML, and ask no cluster")
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

// noEffect says which flags of az's were given that do nothing here.
func noEffect(env frame.Env, cmd *cobra.Command, names ...string) {
	var given []string
	cmd.Flags().Visit(func(fl *pflag.Flag) {
		if slices.Contains(names, fl.Name) {
			given = append(given, "--"+fl.Name)
		}
	})
	if len(given) > 0 {
		verb := "have"
		if len(given) == 1 {
			verb = "has"
		}
		fmt.Fprintf(env.Stderr, "note: %s %s no effect: no identity in a cloud is needed\n", strings.Join(given, ", "), verb)
	}
}

// jsonFlag reads JSON that stands in a flag, or in the file that it names.
func jsonFlag(env frame.Env, flag, value string, into any) error {
	if value == "" {
		return nil
	}
	name, data := "--"+flag, []byte(value)
	if t := strings.TrimSpace(value); !strings.HasPrefix(t, "{") && !strings.HasPrefix(t, "[") {
		sources, err := input.ReadNamed(env, "--"+flag, []string{strings.TrimPrefix(value, "@")})
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w; it takes JSON such as {\"effect\": {\"value\": \"Deny\"}}, or a file with it", err)
		}
		if err != nil {
			return err
		}
		name, data = sources[0].Name, sources[0].Data
	}
	docs, err := strict.Documents(name, data)
	if err != nil {
		return err
	}
	if len(docs) != 1 {
		return fmt.Errorf("--%s: one JSON value is wanted, and there are %d", flag, len(docs))
	}
	return docs[0].Decode(into)
}

// oneOf is the word of a list that was meant, in any case.
func oneOf(flag, word string, words ...string) (string, error) {
	for _, w := range words {
		if strings.EqualFold(w, word) {
			return w, nil
		}
	}
	return "", fmt.Errorf("%s: %s is not %s%s", flag, strict.Label(word), strings.Join(words, " or "), nearest.Hint(word, words))
}

func (f assignmentFlags) object(env frame.Env) (*v1alpha1.PolicyAssignment, error) {
	if err := checkName("--name", f.name); err != nil {
		return nil, err
	}
	switch {
	case f.scope == "":
		return nil, errors.New("--scope is missing: the path whose clusters are meant, or / for all")
	case f.policy == "" && f.set == "":
		return nil, errors.New("say what to assign, with --policy or --policy-set-definition: 'boltseal policy definition list' shows what there is")
	case f.policy != "" && f.set != "":
		return nil, errors.New("choose one of --policy and --policy-set-definition")
	}
	mode, err := oneOf("--enforcement-mode", f.enforcement, string(v1alpha1.EnforceDefault), string(v1alpha1.DoNotEnforce))
	if err != nil {
		return nil, err
	}
	a := &v1alpha1.PolicyAssignment{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindPolicyAssignment},
		ObjectMeta: metav1.ObjectMeta{Name: f.name},
		Spec: v1alpha1.PolicyAssignmentSpec{DisplayName: f.displayName, Description: f.description, Scope: f.scope,
			PolicyDefinitionID: cmp.Or(f.policy, f.set), DefinitionVersion: f.version, EnforcementMode: v1alpha1.EnforcementMode(mode)},
	}
	for _, s := range f.notScopes {
		a.Spec.NotScopes = append(a.Spec.NotScopes, strings.Fields(s)...)
	}
	return a, errors.Join(
		jsonFlag(env, "params", f.params, &a.Spec.Parameters),
		jsonFlag(env, "resource-selectors", f.selectors, &a.Spec.ResourceSelectors),
		jsonFlag(env, "overrides", f.overrides, &a.Spec.Overrides),
		jsonFlag(env, "non-compliance-messages", f.messages, &a.Spec.NonComplianceMessages))
}

// naming makes sure that what is assigned is of the kind that the flag says.
func (f assignmentFlags) naming(a *v1alpha1.PolicyAssignment, lib definition.Library) error {
	id := a.Spec.PolicyDefinitionID
	set, isSet := lib.Set(id)
	one, isOne := lib.Definition(id)
	switch {
	case !isSet && !isOne:
		return noSuchName("definition or initiative", id, []string{lib.Nearest(id)}, "boltseal policy definition list")
	case f.set != "" && !isSet:
		return fmt.Errorf("%s is a definition, not an initiative: name it with --policy", strict.Label(id))
	case f.policy != "" && !isOne:
		return fmt.Errorf("%s is an initiative, not a definition: name it with --policy-set-definition", strict.Label(id))
	case isSet && isOne && f.set != "":
		a.Spec.PolicyDefinitionID = definitionID(set.Object.Annotations, typeSet, set.Object.Name)
	case isSet && isOne:
		a.Spec.PolicyDefinitionID = definitionID(one.Object.Annotations, typeDefinition, one.Object.Name)
	}
	return nil
}

// checkAssignment checks an assignment as the hub will. What may become right later,
// such as a feature that is not registered yet, is a warning only.
func checkAssignment(env frame.Env, a *v1alpha1.PolicyAssignment, lib definition.Library, features []v1alpha1.FeatureRegistration) error {
	in := resolve.Input{Library: lib, Assignments: []v1alpha1.PolicyAssignment{*a}, Features: features}
	problems := resolve.New(in).Problems()
	// Parameters, effects and versions are checked for a cluster that stands at the
	// scope, whichever clusters are left out.
	everywhere := *a.DeepCopy()
	everywhere.Spec.NotScopes, everywhere.Spec.ResourceSelectors = nil, nil
	in.Assignments = []v1alpha1.PolicyAssignment{everywhere}
	some := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "any"}, Spec: v1alpha1.ClusterSpec{Scope: a.Spec.Scope}}
	if len(problems) == 0 {
		problems = resolve.New(in).ForCluster(some).Problems
	}
	var wrong []error
	for _, p := range problems {
		message := p.Message
		if p.Reference != "" {
			message = p.Reference + ": " + message
		}
		switch p.Reason {
		case resolve.ReasonUndecided, resolve.ReasonInvalidCluster:
		case resolve.ReasonFeatureNotThere:
			fmt.Fprintln(env.Stderr, "warning:", frame.SafeText(message))
		default:
			wrong = append(wrong, errors.New(message))
		}
	}
	return errors.Join(wrong...)
}

func runAssignmentCreate(cmd *cobra.Command, env frame.Env, f assignmentFlags) error {
	ctx := cmd.Context()
	if err := f.show.check(cmd); err != nil {
		return err
	}
	a, err := f.object(env)
	if err != nil {
		return frame.UsageFailure(cmd, err)
	}
	lib, features := definition.BuiltIns(), []v1alpha1.FeatureRegistration(nil)
	var h *hub
	if !f.dryRun {
		if h, err = f.hub.open(env); err != nil {
			return err
		}
		if lib, err = h.library(ctx, env); err != nil {
			return err
		}
		if features, err = h.features(ctx); err != nil {
			return err
		}
	}
	if err := f.naming(a, lib); err != nil {
		return err
	}
	if err := checkAssignment(env, a, lib, features); err != nil {
		return err
	}
	noEffect(env, cmd, "location", "mi-system-assigned", "mi-user-assigned", "role", "identity-scope")
	if f.dryRun {
		return printYAML(env.Stdout, a)
	}
	if a, err = h.assign(ctx, a); err != nil {
		return err
	}
	return showAssignment(env, f.show, a)
}

// assign makes an assignment, or replaces the one with its name and scope.
func (h *hub) assign(ctx context.Context, a *v1alpha1.PolicyAssignment) (*v1alpha1.PolicyAssignment, error) {
	var there v1alpha1.PolicyAssignment
	err := h.client.Get(ctx, client.ObjectKey{Name: a.Name}, &there)
	switch {
	case apierrors.IsNotFound(err):
		return a, explainAnswer("making the assignment", h.client.Create(ctx, a))
	case err != nil:
		return nil, explainAnswer("reading the assignment", err)
	}
	if same, err := sameScope(there.Spec.Scope, a.Spec.Scope); err != nil {
		return nil, err
	} else if !same {
		return nil, fmt.Errorf("an assignment %s exists already, with the scope %s: choose another name, or delete it first", a.Name, there.Spec.Scope)
	}
	there.Spec = a.Spec
	return &there, explainAnswer("replacing the assignment", h.client.Update(ctx, &there))
}

func sameScope(a, b string) (bool, error) {
	p, err := scope.Parse(a)
	if err != nil {
		return false, err
	}
	q, err := scope.Parse(b)
	return err == nil && p.Equal(q), err
}

// assignmentID is an assignment's ID, and its scope.
func assignmentID(a *v1alpha1.PolicyAssignment) string {
	at, err := scope.Parse(a.Spec.Scope)
	if err != nil {
		return a.Status.ID
	}
	return scope.AssignmentID(at, a.Name)
}

// find returns the assignment that a name or an ID names, at a scope where one is given.
func (h *hub) find(ctx context.Context, ref, at string) (*v1alpha1.PolicyAssignment, error) {
	if ref == "" {
		return nil, errors.New("no assignment: give its name or its ID")
	}
	all, err := h.assignments(ctx)
	if err != nil {
		return nil, err
	}
	elsewhere := ""
	for i := range all {
		a := &all[i]
		p, err := scope.Parse(a.Spec.Scope)
		if err != nil {
			if a.Name == ref {
				return a, nil
			}
			continue
		}
		named, err := scope.NamesAssignment(ref, p, a.Name)
		if err != nil {
			return nil, err
		}
		if named && at != "" {
			if named, err = sameScope(a.Spec.Scope, at); err != nil {
				return nil, fmt.Errorf("--scope: %w", err)
			}
		}
		if named {
			return a, nil
		}
		if strings.EqualFold(a.Name, ref[strings.LastIndexByte(ref, '/')+1:]) {
			elsewhere = a.Spec.Scope
		}
	}
	if elsewhere != "" {
		return nil, fmt.Errorf("there is no assignment %s at this scope; there is one at %s", strict.Label(ref), elsewhere)
	}
	return nil, noSuchName("assignment", ref, namesOf(all), "boltseal policy assignment list")
}

// shownAssignment has the shape of az's, and the compliance beside.
type shownAssignment struct {
	ID                    string                             `json:"id"`
	Name                  string                             `json:"name"`
	Type                  string                             `json:"type"`
	Scope                 string                             `json:"scope"`
	NotScopes             []string                           `json:"notScopes"`
	DisplayName           string                             `json:"displayName"`
	Description           string                             `json:"description"`
	PolicyDefinitionID    string                             `json:"policyDefinitionId"`
	DefinitionVersion     string                             `json:"definitionVersion,omitempty"`
	EnforcementMode       v1alpha1.EnforcementMode           `json:"enforcementMode"`
	Parameters            map[string]v1alpha1.ParameterValue `json:"parameters"`
	NonComplianceMessages []v1alpha1.NonComplianceMessage    `json:"nonComplianceMessages"`
	ResourceSelectors     []v1alpha1.ResourceSelector        `json:"resourceSelectors"`
	Overrides             []v1alpha1.Override                `json:"overrides"`
	ResourceGroup         string                             `json:"resourceGroup,omitempty"`
	SystemData            systemData                         `json:"systemData"`
	Compliance            *v1alpha1.Compliance               `json:"compliance,omitempty"`
	Conditions            []metav1.Condition                 `json:"conditions,omitempty"`
}

type systemData struct {
	CreatedAt *metav1.Time `json:"createdAt,omitempty"`
}

func createdAt(m metav1.ObjectMeta) systemData {
	if m.CreationTimestamp.IsZero() {
		return systemData{}
	}
	return systemData{&m.CreationTimestamp}
}

func shownOf(a *v1alpha1.PolicyAssignment) shownAssignment {
	s := a.Spec
	out := shownAssignment{ID: assignmentID(a), Name: a.Name, Type: scope.Provider + "/policyAssignments", Scope: s.Scope, NotScopes: s.NotScopes,
		DisplayName: s.DisplayName, Description: s.Description, PolicyDefinitionID: s.PolicyDefinitionID, DefinitionVersion: s.DefinitionVersion,
		EnforcementMode: cmp.Or(s.EnforcementMode, v1alpha1.EnforceDefault), Parameters: s.Parameters, NonComplianceMessages: s.NonComplianceMessages,
		ResourceSelectors: s.ResourceSelectors, Overrides: s.Overrides, SystemData: createdAt(a.ObjectMeta),
		Compliance: a.Status.Compliance, Conditions: a.Status.Conditions}
	if p, err := scope.Parse(s.Scope); err == nil {
		out.ResourceGroup, _ = p.ResourceGroup()
	}
	return out
}

func showAssignment(env frame.Env, f showFlags, a *v1alpha1.PolicyAssignment) error {
	return f.show(env, shownOf(a), func(w io.Writer, st frame.Style) error {
		return writeAssignments(w, st, []v1alpha1.PolicyAssignment{*a})
	})
}

func writeAssignments(w io.Writer, st frame.Style, as []v1alpha1.PolicyAssignment) error {
	var rows []frame.Row
	for i := range as {
		a := &as[i]
		state, colour, percent := "-", "", "-"
		if c := a.Status.Compliance; c != nil {
			state, colour = stateWord(c.State)
			percent = frame.OrDash(c.CompliantPercent)
			if c.Unknown > 0 {
				percent += fmt.Sprintf(", %d unknown", c.Unknown)
			}
		}
		r := frame.Row{Cells: []string{a.Name, frame.SafeText(a.Spec.Scope), frame.SafeText(a.Spec.PolicyDefinitionID), string(cmp.Or(a.Spec.EnforcementMode, v1alpha1.EnforceDefault)), state, percent},
			Colours: []string{"", "", "", "", colour}}
		if a.Spec.DisplayName != "" {
			r.Below = append(r.Below, st.Paint(frame.Faint, frame.SafeText(a.Spec.DisplayName)))
		}
		r.Below = append(r.Below, notReady(st, a.Status.Status)...)
		rows = append(rows, r)
	}
	return frame.WriteTable(w, st, []string{"NAME", "SCOPE", "DEFINITION", "MODE", "STATE", "% OF KNOWN"}, rows)
}

// notReady says why an object is not in force as it is written.
func notReady(st frame.Style, s v1alpha1.Status) []string {
	for _, c := range s.Conditions {
		if c.Type == "Ready" && c.Status != metav1.ConditionTrue {
			return []string{st.Paint(frame.Red, "not active: ") + frame.SafeText(c.Message)}
		}
	}
	return nil
}

func stateWord(s v1alpha1.ComplianceState) (word, colour string) {
	switch s {
	case v1alpha1.Compliant:
		return string(s), frame.Green
	case v1alpha1.NonCompliant, v1alpha1.Failed:
		return string(s), frame.Red
	case "":
		return "-", ""
	}
	return frame.SafeText(string(s)), frame.Yellow
}
