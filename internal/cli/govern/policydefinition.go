package govern

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/governance/definition"
)

// newPolicy has what is assigned, to whom, and what is taken out of it.
func newPolicy(env frame.Env) *cobra.Command {
	cmd := frame.ParentCommand("policy", "Assign trusted images to clusters, exempt, remediate, look ahead",
		`Assign "only trusted images" to all clusters of a scope, take something out of it
for a while, give clusters what they lack at once, and see what a change would deny
before it is made. The objects are custom resources of the hub cluster.`,
		newPolicyDefinition(env), newPolicyAssignment(env), newPolicyExemption(env), newRemediation(env), newWhatIf(env))
	cmd.GroupID = groupGovern
	return cmd
}

// newPolicyDefinition has the verbs of definitions and initiatives. az has two
// nouns for them; here they share one.
func newPolicyDefinition(env frame.Env) *cobra.Command {
	cmd := frame.ParentCommand("definition", "Import and show what can be assigned", "Import and show what can be assigned: definitions, and initiatives (policy set definitions).",
		newDefinitionImport(env), newDefinitionList(env), newDefinitionShow(env), newDefinitionDelete(env))
	cmd.Aliases = []string{"set-definition"}
	return cmd
}

func newDefinitionImport(env frame.Env) *cobra.Command {
	var f struct {
		hub    hubFlags
		name   string
		dryRun bool
	}
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Import Azure Policy's JSON, unmodified",
		Long: `Import definitions and initiatives from Azure Policy's JSON, as it is published or as
'az policy definition show' prints it. Everything is checked first; what is not
supported is refused with its place and the reason, and then nothing is imported.`,
		Example: `    boltseal policy definition import AKS_ImageIntegrity.json --name image-integrity-preview
    az policy definition show -n NAME | boltseal policy definition import - --dry-run`,
		Args: frame.CheckArgs(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, files []string) error {
			if f.name != "" {
				if err := checkName("--name", f.name); err != nil {
					return frame.BadUsage(cmd, "%w", err)
				}
				if len(files) > 1 {
					return frame.BadUsage(cmd, "--name goes with one file only")
				}
			}
			sources, err := input.ReadNamed(env, "FILE", files)
			if err != nil {
				return err
			}
			var all []definition.Object
			for _, s := range sources {
				objects, err := definition.Import(f.name, s.Data)
				if err != nil {
					return fmt.Errorf("%s:\n%w", s.Name, err)
				}
				all = append(all, objects...)
			}
			if f.dryRun {
				return printYAML(env.Stdout, anyOf(all)...)
			}
			h, err := f.hub.open(env)
			if err != nil {
				return err
			}
			for _, o := range all {
				if err := importOne(cmd.Context(), env, h, o); err != nil {
					return err
				}
			}
			return nil
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.name, "name", "", "`NAME` of the object; needed where the file has none")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the objects as YAML, and change nothing")
	f.hub.register(cmd)
	return cmd
}

func anyOf(objects []definition.Object) []any {
	var out []any
	for _, o := range objects {
		if o.Set != nil {
			out = append(out, o.Set)
		} else {
			out = append(out, o.Definition)
		}
	}
	return out
}

// importOne makes an object, or brings the one that has its name up to date.
func importOne(ctx context.Context, env frame.Env, h *hub, o definition.Object) error {
	kind, did := kindOf(o.Set != nil), "imported"
	var existing client.Object = &v1alpha1.PolicyDefinition{}
	if o.Set != nil {
		existing = &v1alpha1.PolicySetDefinition{}
	}
	err := h.client.Get(ctx, client.ObjectKey{Name: o.Name()}, existing)
	switch {
	case apierrors.IsNotFound(err):
		var object client.Object = o.Definition
		if o.Set != nil {
			object = o.Set
		}
		err = h.client.Create(ctx, object)
	case err == nil:
		did = "brought up to date"
		annotations := existing.GetAnnotations()
		delete(annotations, definition.AnnotationID)
		if annotations == nil {
			annotations = map[string]string{}
		}
		switch e := existing.(type) {
		case *v1alpha1.PolicyDefinition:
			e.Spec = o.Definition.Spec
			maps.Copy(annotations, o.Definition.Annotations)
		case *v1alpha1.PolicySetDefinition:
			e.Spec = o.Set.Spec
			maps.Copy(annotations, o.Set.Annotations)
		}
		existing.SetAnnotations(annotations)
		err = h.client.Update(ctx, existing)
	}
	if err != nil {
		return explainAnswer("importing "+kind+" "+o.Name(), err)
	}
	_, err = fmt.Fprintf(env.Stdout, "%s %s: %s\n", kind, o.Name(), did)
	return err
}

func kindOf(set bool) string {
	if set {
		return v1alpha1.KindPolicySetDefinition
	}
	return v1alpha1.KindPolicyDefinition
}

// shownDefinition has the shape of az's.
type shownDefinition struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	PolicyType string `json:"policyType"`
	BuiltIn    bool   `json:"builtIn"`
	v1alpha1.PolicyDefinitionSpec
}

type shownSet struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	PolicyType string `json:"policyType"`
	BuiltIn    bool   `json:"builtIn"`
	v1alpha1.PolicySetDefinitionSpec
}

// summary is a row of the list.
type definitionSummary struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	DisplayName string `json:"displayName"`
	Version     string `json:"version"`
	Mode        string `json:"mode,omitempty"`
	PolicyType  string `json:"policyType"`
	Problem     string `json:"problem,omitempty"`
}

const (
	typeDefinition = "Microsoft.Authorization/policyDefinitions"
	typeSet        = "Microsoft.Authorization/policySetDefinitions"
)

func definitionID(annotations map[string]string, typ, name string) string {
	return cmp.Or(annotations[definition.AnnotationID], "/providers/"+typ+"/"+name)
}

func summaryOf(d *v1alpha1.PolicyDefinition, builtIn bool) definitionSummary {
	return definitionSummary{ID: definitionID(d.Annotations, typeDefinition, d.Name), Name: d.Name, Kind: "definition",
		DisplayName: d.Spec.DisplayName, Version: cmp.Or(d.Spec.Version, "1.0.0"), Mode: d.Spec.Mode, PolicyType: policyType(builtIn, d.Spec.PolicyType)}
}

func summaryOfSet(s *v1alpha1.PolicySetDefinition, builtIn bool) definitionSummary {
	return definitionSummary{ID: definitionID(s.Annotations, typeSet, s.Name), Name: s.Name, Kind: "initiative",
		DisplayName: s.Spec.DisplayName, Version: cmp.Or(s.Spec.Version, "1.0.0"), PolicyType: policyType(builtIn, s.Spec.PolicyType)}
}

func policyType(builtIn bool, written string) string {
	if builtIn {
		return "BuiltIn"
	}
	return cmp.Or(written, "Custom")
}

func newDefinitionList(env frame.Env) *cobra.Command {
	var f struct {
		hub  hubFlags
		show showFlags
	}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List what can be assigned",
		Example: `    boltseal policy definition list`,
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.show.check(cmd); err != nil {
				return err
			}
			h, err := f.hub.open(env)
			if err != nil {
				return err
			}
			out, err := listDefinitions(cmd.Context(), h)
			if err != nil {
				return err
			}
			return f.show.show(env, out, func(w io.Writer, st frame.Style) error {
				var rows []frame.Row
				for _, s := range out {
					r := frame.Row{Cells: []string{s.Name, s.Kind, s.Version, s.PolicyType, frame.OrDash(frame.SafeText(s.DisplayName))}}
					if s.Problem != "" {
						r.Below = []string{st.Paint(frame.Red, "cannot be assigned: ") + frame.SafeText(s.Problem)}
					}
					rows = append(rows, r)
				}
				return frame.WriteTable(w, st, []string{"NAME", "KIND", "VERSION", "TYPE", "DISPLAY NAME"}, rows)
			})
		},
	}
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

// builtInNames are the names of what is built in.
func builtInNames() []string {
	return []string{definition.SetImageIntegrity, definition.DeployImageIntegrity, definition.DeployPolicyAddOn, definition.VerifyImages}
}

// listDefinitions are what was imported and what is built in; the former hides the latter.
func listDefinitions(ctx context.Context, h *hub) ([]definitionSummary, error) {
	ds, err := h.definitions(ctx)
	if err != nil {
		return nil, err
	}
	ss, err := h.sets(ctx)
	if err != nil {
		return nil, err
	}
	out := []definitionSummary{}
	for i := range ds {
		s := summaryOf(&ds[i], false)
		if _, err := definition.Compile(ds[i].Spec); err != nil {
			s.Problem = err.Error()
		}
		out = append(out, s)
	}
	for i := range ss {
		s := summaryOfSet(&ss[i], false)
		if _, err := definition.CompileSet(ss[i].Spec); err != nil {
			s.Problem = err.Error()
		}
		out = append(out, s)
	}
	lib := definition.BuiltIns()
	for _, name := range builtInNames() {
		if e, ok := lib.Set(name); ok && !slices.ContainsFunc(ss, func(s v1alpha1.PolicySetDefinition) bool { return s.Name == name }) {
			out = append(out, summaryOfSet(&e.Object, true))
		}
		if e, ok := lib.Definition(name); ok && !slices.ContainsFunc(ds, func(d v1alpha1.PolicyDefinition) bool { return d.Name == name }) {
			out = append(out, summaryOf(&e.Object, true))
		}
	}
	slices.SortFunc(out, func(a, b definitionSummary) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return out, nil
}

func newDefinitionShow(env frame.Env) *cobra.Command {
	var f struct {
		hub  hubFlags
		show showFlags
		name string
	}
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show one, with its parameters",
		Example: `    boltseal policy definition show image-integrity
    boltseal policy definition show image-integrity --query parameters -o yaml`,
		Args: frame.CheckArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := oneName(cmd, f.name, args)
			if err != nil {
				return err
			}
			if err := f.show.check(cmd); err != nil {
				return err
			}
			h, err := f.hub.open(env)
			if err != nil {
				return err
			}
			lib, err := h.library(cmd.Context(), env)
			if err != nil {
				return err
			}
			if e, ok := lib.Set(name); ok {
				v := shownSet{definitionID(e.Object.Annotations, typeSet, e.Object.Name), e.Object.Name, typeSet, policyType(e.BuiltIn, e.Object.Spec.PolicyType), e.BuiltIn, e.Object.Spec}
				return f.show.show(env, v, func(w io.Writer, st frame.Style) error {
					s := e.Object.Spec
					if err := writeAbout(w, st, summaryOfSet(&e.Object, e.BuiltIn), s.Description, s.Parameters); err != nil {
						return err
					}
					var rows []frame.Row
					for _, d := range s.PolicyDefinitions {
						rows = append(rows, frame.Row{Cells: []string{d.PolicyDefinitionReferenceID, d.PolicyDefinitionID, frame.OrDash(d.DefinitionVersion)}})
					}
					fmt.Fprintln(w)
					return frame.WriteTable(w, st, []string{"REFERENCE", "DEFINITION", "VERSION"}, rows)
				})
			}
			e, ok := lib.Definition(name)
			if !ok {
				return noSuchName("definition or initiative", name, []string{lib.Nearest(name)}, "boltseal policy definition list")
			}
			v := shownDefinition{definitionID(e.Object.Annotations, typeDefinition, e.Object.Name), e.Object.Name, typeDefinition, policyType(e.BuiltIn, e.Object.Spec.PolicyType), e.BuiltIn, e.Object.Spec}
			return f.show.show(env, v, func(w io.Writer, st frame.Style) error {
				return writeAbout(w, st, summaryOf(&e.Object, e.BuiltIn), e.Object.Spec.Description, e.Object.Spec.Parameters)
			})
		},
	}
	cmd.Flags().StringVarP(&f.name, "name", "n", "", "its `NAME` or ID")
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

// oneName is a name given as az takes it, by --name, or as an argument.
func oneName(cmd *cobra.Command, flag string, args []string) (string, error) {
	name := flag
	if len(args) > 0 {
		if flag != "" && flag != args[0] {
			return "", frame.BadUsage(cmd, "two names: %s and %s", strict.Label(flag), strict.Label(args[0]))
		}
		name = args[0]
	}
	if name == "" {
		return "", frame.BadUsage(cmd, "no name: give one with --name")
	}
	return name, nil
}

func writeAbout(w io.Writer, st frame.Style, s definitionSummary, description string, parameters map[string]v1alpha1.Parameter) error {
	fmt.Fprintf(w, "%s  %s %s, %s\n", st.Paint(frame.Bold, s.Name), s.Kind, s.Version, s.PolicyType)
	for _, line := range []string{s.DisplayName, description} {
		if line != "" {
			fmt.Fprintln(w, frame.SafeText(line))
		}
	}
	var rows []frame.Row
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		p := parameters[name]
		standard, allowed := "-", ""
		if p.DefaultValue != nil {
			standard = string(p.DefaultValue.Raw)
		}
		for i, v := range p.AllowedValues {
			if i > 0 {
				allowed += ", "
			}
			allowed += string(v.Raw)
		}
		rows = append(rows, frame.Row{Cells: []string{frame.SafeText(name), p.Type, frame.SafeText(standard), frame.OrDash(frame.SafeText(allowed))}})
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return frame.WriteTable(w, st, []string{"PARAMETER", "TYPE", "DEFAULT", "ALLOWED"}, rows)
}

func newDefinitionDelete(env frame.Env) *cobra.Command {
	var f struct {
		hub  hubFlags
		name string
	}
	cmd := &cobra.Command{
		Use:     "delete NAME",
		Short:   "Delete what was imported",
		Example: `    boltseal policy definition delete image-integrity-preview`,
		Args:    frame.CheckArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := oneName(cmd, f.name, args)
			if err != nil {
				return err
			}
			h, err := f.hub.open(env)
			if err != nil {
				return err
			}
			return deleteDefinition(cmd.Context(), env, h, name)
		},
	}
	cmd.Flags().StringVarP(&f.name, "name", "n", "", "its `NAME`")
	f.hub.register(cmd)
	return cmd
}

func deleteDefinition(ctx context.Context, env frame.Env, h *hub, name string) error {
	as, err := h.assignments(ctx)
	if err != nil {
		return err
	}
	lib, err := h.library(ctx, env)
	if err != nil {
		return err
	}
	for _, a := range as {
		set, isSet := lib.Set(a.Spec.PolicyDefinitionID)
		one, isOne := lib.Definition(a.Spec.PolicyDefinitionID)
		if isSet && !set.BuiltIn && set.Object.Name == name || isOne && !one.BuiltIn && one.Object.Name == name {
			return fmt.Errorf("%s is assigned by %s: delete that first, with 'boltseal policy assignment delete --name %s'", name, a.Name, a.Name)
		}
	}
	deleted := false
	for _, o := range []client.Object{&v1alpha1.PolicyDefinition{}, &v1alpha1.PolicySetDefinition{}} {
		o.SetName(name)
		err := h.client.Delete(ctx, o)
		if err != nil && !apierrors.IsNotFound(err) {
			return explainAnswer("deleting "+name, err)
		}
		deleted = deleted || err == nil
	}
	if !deleted {
		if slices.Contains(builtInNames(), name) {
			return fmt.Errorf("%s is built in, and stays", name)
		}
		return noSuchName("definition or initiative", name, []string{lib.Nearest(name)}, "boltseal policy definition list")
	}
	_, err = fmt.Fprintf(env.Stdout, "%s: deleted\n", name)
	return err
}
