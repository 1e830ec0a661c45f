package govern

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

func assignmentNoun() noun[v1alpha1.PolicyAssignment, *v1alpha1.PolicyAssignment] {
	return noun[v1alpha1.PolicyAssignment, *v1alpha1.PolicyAssignment]{name: "assignment", path: "policy assignment",
		list:  func(ctx context.Context, h *hub) ([]v1alpha1.PolicyAssignment, error) { return h.assignments(ctx) },
		shape: func(a *v1alpha1.PolicyAssignment) any { return shownOf(a) }, table: writeAssignments}
}

// oneAssignment makes cmd a verb about one assignment, which --scope tells from others of its name.
func oneAssignment(env frame.Env, cmd *cobra.Command, quiet bool, do func(context.Context, *hub, *v1alpha1.PolicyAssignment, showFlags) error) *cobra.Command {
	var at string
	cmd.Flags().StringVar(&at, "scope", "", "`PATH` that it is assigned to")
	return assignmentNoun().oneVerb(env, cmd, verbAbout[v1alpha1.PolicyAssignment]{naming: "its `NAME` or ID", quiet: quiet, do: do,
		find: func(ctx context.Context, h *hub, name string) (*v1alpha1.PolicyAssignment, error) {
			return h.find(ctx, name, at)
		}})
}

func newAssignmentShow(env frame.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show --name NAME|ID",
		Short: "Show an assignment",
		Example: `    boltseal policy assignment show -n deploy-trustedimages -o json
    boltseal policy assignment show -n deploy-trustedimages --query id -o tsv`,
	}
	return oneAssignment(env, cmd, false, assignmentNoun().showOne(env))
}

func newAssignmentList(env frame.Env) *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List assignments, and how far their clusters are",
		Example: `    boltseal policy assignment list
    boltseal policy assignment list --scope /emea`,
	}
	cmd.Flags().StringVar(&at, "scope", "", "only those at this `PATH` and below it")
	return assignmentNoun().listVerb(env, cmd, func() (func(*v1alpha1.PolicyAssignment) bool, error) {
		if at == "" {
			return nil, nil
		}
		within, err := scope.Parse(at)
		if err != nil {
			return nil, fmt.Errorf("--scope: %w", err)
		}
		return func(a *v1alpha1.PolicyAssignment) bool {
			p, err := scope.Parse(a.Spec.Scope)
			return err == nil && within.Contains(p)
		}, nil
	})
}

func newAssignmentDelete(env frame.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete --name NAME|ID",
		Short: "Delete an assignment",
		Long: `Delete an assignment. Clusters no longer require what it required, and keep the add-on
until 'boltseal cluster update --disable-image-integrity'. Its exemptions stay, and
are without effect.`,
		Example: `    boltseal policy assignment delete --name deploy-trustedimages`,
	}
	return oneAssignment(env, cmd, true, assignmentNoun().deleteOne(env))
}
