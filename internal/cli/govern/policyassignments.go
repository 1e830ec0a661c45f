package govern

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

func newAssignmentShow(env frame.Env) *cobra.Command {
	var f struct {
		hub         hubFlags
		show        showFlags
		name, scope string
	}
	cmd := &cobra.Command{
		Use:   "show --name NAME|ID",
		Short: "Show an assignment",
		Example: `    boltseal policy assignment show -n deploy-trustedimages -o json
    boltseal policy assignment show -n deploy-trustedimages --query id -o tsv`,
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
			a, err := h.find(cmd.Context(), name, f.scope)
			if err != nil {
				return err
			}
			return showAssignment(env, f.show, a)
		},
	}
	cmd.Flags().StringVarP(&f.name, "name", "n", "", "its `NAME` or ID")
	cmd.Flags().StringVar(&f.scope, "scope", "", "`PATH` that it is assigned to")
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

func newAssignmentList(env frame.Env) *cobra.Command {
	var f struct {
		hub   hubFlags
		show  showFlags
		scope string
	}
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List assignments, and how far their clusters are",
		Example: `    boltseal policy assignment list
    boltseal policy assignment list --scope /emea`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.show.check(cmd); err != nil {
				return err
			}
			var within scope.Path
			if f.scope != "" {
				var err error
				if within, err = scope.Parse(f.scope); err != nil {
					return frame.BadUsage(cmd, "--scope: %w", err)
				}
			}
			h, err := f.hub.open(env)
			if err != nil {
				return err
			}
			all, err := h.assignments(cmd.Context())
			if err != nil {
				return err
			}
			if f.scope != "" {
				all = slices.DeleteFunc(all, func(a v1alpha1.PolicyAssignment) bool {
					p, err := scope.Parse(a.Spec.Scope)
					return err != nil || !within.Contains(p)
				})
			}
			shown := []shownAssignment{}
			for i := range all {
				shown = append(shown, shownOf(&all[i]))
			}
			return f.show.show(env, shown, func(w io.Writer, st frame.Style) error { return writeAssignments(w, st, all) })
		},
	}
	cmd.Flags().StringVar(&f.scope, "scope", "", "only those at this `PATH` and below it")
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

func newAssignmentDelete(env frame.Env) *cobra.Command {
	var f struct {
		hub         hubFlags
		name, scope string
	}
	cmd := &cobra.Command{
		Use:   "delete --name NAME|ID",
		Short: "Delete an assignment",
		Long: `Delete an assignment. Clusters no longer require what it required, and keep the add-on
until 'boltseal cluster update --disable-image-integrity'. Its exemptions stay, and
are without effect.`,
		Example: `    boltseal policy assignment delete --name deploy-trustedimages`,
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
			a, err := h.find(cmd.Context(), name, f.scope)
			if err != nil {
				return err
			}
			if err := explainAnswer("deleting the assignment", h.client.Delete(cmd.Context(), a)); err != nil {
				return err
			}
			_, err = fmt.Fprintf(env.Stdout, "assignment %s: deleted\n", a.Name)
			return err
		},
	}
	cmd.Flags().StringVarP(&f.name, "name", "n", "", "its `NAME` or ID")
	cmd.Flags().StringVar(&f.scope, "scope", "", "`PATH` that it is assigned to")
	f.hub.register(cmd)
	return cmd
}
