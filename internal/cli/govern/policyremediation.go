package govern

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

// Limits of a remediation, as the custom resource and Azure have them.
const (
	maxRemediated = 50_000
	maxParallel   = 30
)

func newRemediation(env frame.Env) *cobra.Command {
	return frame.ParentCommand("remediation", "Give clusters at once what they lack",
		"Give clusters at once what an assignment says that they lack, in place of at their next update.",
		newRemediationCreate(env), newRemediationShow(env), newRemediationList(env), newRemediationCancel(env), newRemediationDelete(env))
}

type remediationFlags struct {
	hub                         hubFlags
	show                        showFlags
	name, assignment, reference string
	group, discovery            string
	locations                   []string
	count, parallel, threshold  int32
	dryRun                      bool
}

func newRemediationCreate(env frame.Env) *cobra.Command {
	var f remediationFlags
	cmd := &cobra.Command{
		Use:   "create --name NAME --policy-assignment NAME|ID",
		Short: "Begin a remediation",
		Long: `Give the clusters of an assignment at once what its deployIfNotExists definition says
that they lack. A remediation does not change once it was made, but can be cancelled.

--resource-group is checked, as a remediation is for all clusters of its assignment:
the assignment must be for this resource group, or for something in it.`,
		Example: `    boltseal policy remediation create -a deploy-trustedimages \
      --definition-reference-id deployAKSImageIntegrity -n remediation`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runRemediationCreate(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.name, "name", "n", "", "`NAME` of the remediation")
	fl.StringVarP(&f.assignment, "policy-assignment", "a", "", "`NAME` or ID of the assignment")
	fl.StringVar(&f.reference, "definition-reference-id", "", "`REFERENCE` of the definition in the initiative")
	fl.StringVarP(&f.group, "resource-group", "g", "", "`NAME` of the resource group that the assignment is for")
	fl.StringSliceVar(&f.locations, "location-filters", nil, "`REGIONS`: only clusters in these locations")
	fl.StringVar(&f.discovery, "resource-discovery-mode", "ExistingNonCompliant", "`MODE`: ExistingNonCompliant, or ReEvaluateCompliance to look anew first")
	fl.Int32Var(&f.count, "resource-count", 500, "`N`: how many clusters at most")
	fl.Int32Var(&f.parallel, "parallel-deployments", 10, "`N`: how many clusters at a time")
	fl.Int32Var(&f.threshold, "failure-threshold", 100, "`PERCENT` of clusters that may fail before nothing else is begun")
	fl.BoolVar(&f.dryRun, "dry-run", false, "check, print the object as YAML, and change nothing")
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

func (f remediationFlags) object() (*v1alpha1.Remediation, error) {
	if err := checkName("--name", f.name); err != nil {
		return nil, err
	}
	mode, err := oneOf("--resource-discovery-mode", f.discovery, "ExistingNonCompliant", "ReEvaluateCompliance")
	switch {
	case err != nil:
		return nil, err
	case f.assignment == "":
		return nil, errors.New("--policy-assignment is missing: the name or ID of the assignment")
	case f.count < 1 || f.count > maxRemediated:
		return nil, fmt.Errorf("--resource-count must be between 1 and %d", maxRemediated)
	case f.parallel < 1 || f.parallel > maxParallel:
		return nil, fmt.Errorf("--parallel-deployments must be between 1 and %d", maxParallel)
	case f.threshold < 0 || f.threshold > 100:
		return nil, errors.New("--failure-threshold must be between 0 and 100")
	}
	r := &v1alpha1.Remediation{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindRemediation},
		ObjectMeta: metav1.ObjectMeta{Name: f.name},
		Spec: v1alpha1.RemediationSpec{ResourceCount: f.count, ParallelDeployments: f.parallel, ResourceDiscoveryMode: mode,
			FailureThreshold: &v1alpha1.FailureThreshold{Percentage: f.threshold}},
	}
	if len(f.locations) > 0 {
		r.Spec.Filters = &v1alpha1.RemediationFilters{Locations: f.locations}
	}
	return r, nil
}

func runRemediationCreate(cmd *cobra.Command, env frame.Env, f remediationFlags) error {
	ctx := cmd.Context()
	if err := f.show.check(cmd); err != nil {
		return err
	}
	r, err := f.object()
	if err != nil {
		return frame.UsageFailure(cmd, err)
	}
	h, err := f.hub.open(env)
	if err != nil {
		return err
	}
	a, err := h.find(ctx, f.assignment, "")
	if err != nil {
		return err
	}
	if err := inGroup(a, f.group); err != nil {
		return err
	}
	lib, err := h.library(ctx, env)
	if err != nil {
		return err
	}
	r.Spec.PolicyAssignmentID = assignmentID(a)
	if r.Spec.PolicyDefinitionReferenceID, err = findDeploying(a, lib, f.reference); err != nil {
		return err
	}
	if f.dryRun {
		return printYAML(env.Stdout, r)
	}
	switch err := h.client.Create(ctx, r); {
	case apierrors.IsAlreadyExists(err):
		var there v1alpha1.Remediation
		if err := h.client.Get(ctx, client.ObjectKeyFromObject(r), &there); err != nil {
			return explainAnswer("reading the remediation", err)
		}
		return fmt.Errorf("a remediation %s exists already (%s), and does not change: choose another name, or delete it with 'boltseal policy remediation delete --name %s'",
			r.Name, cmp.Or(there.Status.ProvisioningState, v1alpha1.RemediationAccepted), r.Name)
	case err != nil:
		return explainAnswer("making the remediation", err)
	}
	return showRemediation(env, f.show, r)
}

// inGroup makes sure that an assignment is for nothing outside a resource group.
func inGroup(a *v1alpha1.PolicyAssignment, group string) error {
	if group == "" {
		return nil
	}
	at, err := scope.Parse(a.Spec.Scope)
	if err != nil {
		return fmt.Errorf("the scope of assignment %s: %w", a.Name, err)
	}
	if in, ok := at.ResourceGroup(); !ok || !strings.EqualFold(in, group) {
		return fmt.Errorf("assignment %s is for %s, and not only for resource group %s: leave --resource-group out to remediate all its clusters, or make an assignment for the group", a.Name, a.Spec.Scope, strict.Label(group))
	}
	return nil
}

// findDeploying finds the deployIfNotExists definition that is meant.
func findDeploying(a *v1alpha1.PolicyAssignment, lib definition.Library, reference string) (string, error) {
	deploys := func(id string) bool {
		e, ok := lib.Definition(id)
		return ok && e.Compiled.Mode == definition.ModeIndexed && slices.Contains(e.Compiled.AllowedEffects(), definition.EffectDeployIfNotExists)
	}
	set, isSet := lib.Set(a.Spec.PolicyDefinitionID)
	if !isSet {
		if !deploys(a.Spec.PolicyDefinitionID) {
			return "", fmt.Errorf("assignment %s has nothing that deploys: only deployIfNotExists can be remediated", a.Name)
		}
		if reference != "" {
			return "", fmt.Errorf("assignment %s is of one definition: leave --definition-reference-id out", a.Name)
		}
		return "", nil
	}
	var can, all []string
	for _, d := range set.Object.Spec.PolicyDefinitions {
		all = append(all, d.PolicyDefinitionReferenceID)
		if deploys(d.PolicyDefinitionID) {
			can = append(can, d.PolicyDefinitionReferenceID)
		}
	}
	same := func(s string) bool { return strings.EqualFold(s, reference) }
	switch i := slices.IndexFunc(can, same); {
	case i >= 0:
		return can[i], nil
	case reference == "":
		return "", fmt.Errorf("--definition-reference-id is missing: assignment %s is of an initiative, and deploys by %s", a.Name, cmp.Or(strings.Join(can, " or "), "none of its definitions"))
	case slices.ContainsFunc(all, same):
		return "", fmt.Errorf("%s deploys nothing: only deployIfNotExists can be remediated, such as %s", reference, strings.Join(can, " or "))
	}
	return "", fmt.Errorf("assignment %s has no definition %s%s", a.Name, strict.Label(reference), nearest.Hint(reference, all))
}

type shownRemediation struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	Type string `json:"type"`
	v1alpha1.RemediationSpec
	ProvisioningState v1alpha1.RemediationState `json:"provisioningState"`
	StatusMessage     string                    `json:"statusMessage,omitempty"`
	DeploymentStatus  v1alpha1.DeploymentCounts `json:"deploymentStatus"`
	Deployments       []v1alpha1.Deployment     `json:"deployments,omitempty"`
	CreatedOn         *metav1.Time              `json:"createdOn,omitempty"`
	LastUpdatedOn     *metav1.Time              `json:"lastUpdatedOn,omitempty"`
}

func remediationOf(r *v1alpha1.Remediation) shownRemediation {
	const typ = scope.Provider + "/remediations"
	s := r.Status
	out := shownRemediation{ID: scopedID(r.Spec.PolicyAssignmentID, typ, r.Name), Name: r.Name, Type: typ, RemediationSpec: r.Spec,
		ProvisioningState: cmp.Or(s.ProvisioningState, v1alpha1.RemediationAccepted), StatusMessage: s.StatusMessage, DeploymentStatus: s.DeploymentStatus,
		Deployments: s.Deployments, CreatedOn: s.CreatedOn, LastUpdatedOn: s.LastUpdatedOn}
	if out.CreatedOn == nil {
		out.CreatedOn = createdAt(r.ObjectMeta).CreatedAt
	}
	return out
}

func showRemediation(env frame.Env, f showFlags, r *v1alpha1.Remediation) error {
	return f.show(env, remediationOf(r), func(w io.Writer, st frame.Style) error {
		if err := writeRemediations(w, st, []v1alpha1.Remediation{*r}); err != nil || len(r.Status.Deployments) == 0 {
			return err
		}
		var rows []frame.Row
		for _, d := range r.Status.Deployments {
			rows = append(rows, frame.Row{Cells: []string{frame.SafeText(d.Cluster), frame.SafeText(d.Status), frame.OrDash(frame.SafeText(d.Message))}})
		}
		fmt.Fprintln(w)
		return frame.WriteTable(w, st, []string{"CLUSTER", "STATE", "MESSAGE"}, rows)
	})
}

func writeRemediations(w io.Writer, st frame.Style, rs []v1alpha1.Remediation) error {
	var rows []frame.Row
	for i := range rs {
		v := remediationOf(&rs[i])
		n, colour := v.DeploymentStatus, ""
		switch v.ProvisioningState {
		case v1alpha1.RemediationSucceeded:
			colour = frame.Green
		case v1alpha1.RemediationFailed:
			colour = frame.Red
		case v1alpha1.RemediationComplete, v1alpha1.RemediationCanceled, v1alpha1.RemediationCancelling:
			colour = frame.Yellow
		}
		a := v.PolicyAssignmentID
		r := frame.Row{Cells: []string{v.Name, frame.SafeText(a[strings.LastIndexByte(a, '/')+1:]), frame.OrDash(frame.SafeText(v.PolicyDefinitionReferenceID)), string(v.ProvisioningState),
			strconv.Itoa(int(n.TotalDeployments)), strconv.Itoa(int(n.SuccessfulDeployments)), strconv.Itoa(int(n.FailedDeployments))}, Colours: []string{"", "", "", colour}}
		if v.StatusMessage != "" {
			r.Below = []string{frame.SafeText(v.StatusMessage)}
		}
		rows = append(rows, r)
	}
	return frame.WriteTable(w, st, []string{"NAME", "ASSIGNMENT", "REFERENCE", "STATE", "CLUSTERS", "DONE", "FAILED"}, rows)
}

// remediation returns one by its name, or by the end of its ID.
func (h *hub) remediation(ctx context.Context, name string) (*v1alpha1.Remediation, error) {
	name = name[strings.LastIndexByte(name, '/')+1:]
	var r v1alpha1.Remediation
	err := h.client.Get(ctx, client.ObjectKey{Name: name}, &r)
	if apierrors.IsNotFound(err) {
		all, err := h.remediations(ctx)
		if err != nil {
			return nil, err
		}
		return nil, noSuchName("remediation", name, namesOf(all), "boltseal policy remediation list")
	}
	return &r, explainAnswer("reading the remediation", err)
}

func remediationNoun() noun[v1alpha1.Remediation, *v1alpha1.Remediation] {
	return noun[v1alpha1.Remediation, *v1alpha1.Remediation]{name: "remediation", path: "policy remediation",
		list:  func(ctx context.Context, h *hub) ([]v1alpha1.Remediation, error) { return h.remediations(ctx) },
		shape: func(r *v1alpha1.Remediation) any { return remediationOf(r) }, table: writeRemediations}
}

// onRemediation is a verb about one that exists.
func onRemediation(env frame.Env, use, short string, do func(context.Context, *hub, *v1alpha1.Remediation, showFlags) error) *cobra.Command {
	var group string
	cmd := &cobra.Command{Use: use + " --name NAME", Short: short, Example: "    boltseal policy remediation " + use + " --name remediation"}
	cmd.Flags().StringVarP(&group, "resource-group", "g", "", "`NAME` of the resource group that it must be for")
	return remediationNoun().oneVerb(env, cmd, verbAbout[v1alpha1.Remediation]{naming: "its `NAME`", do: do,
		find: func(ctx context.Context, h *hub, name string) (*v1alpha1.Remediation, error) {
			r, err := h.remediation(ctx, name)
			if err != nil || group == "" {
				return r, err
			}
			at, _, err := scope.ParseAssignmentID(r.Spec.PolicyAssignmentID)
			if in, ok := at.ResourceGroup(); err == nil && (!ok || !strings.EqualFold(in, group)) {
				return nil, fmt.Errorf("remediation %s is for %s, and not for resource group %s", r.Name, at, strict.Label(group))
			}
			return r, nil
		}})
}

func newRemediationShow(env frame.Env) *cobra.Command {
	return onRemediation(env, "show", "Show how far a remediation is", func(_ context.Context, _ *hub, r *v1alpha1.Remediation, f showFlags) error {
		return showRemediation(env, f, r)
	})
}

func newRemediationCancel(env frame.Env) *cobra.Command {
	return onRemediation(env, "cancel", "Finish what is under way, and begin nothing else", func(ctx context.Context, h *hub, r *v1alpha1.Remediation, f showFlags) error {
		switch s := r.Status.ProvisioningState; s {
		case v1alpha1.RemediationSucceeded, v1alpha1.RemediationComplete, v1alpha1.RemediationFailed, v1alpha1.RemediationCanceled:
			return fmt.Errorf("remediation %s has ended: %s", r.Name, s)
		}
		r.Spec.Cancel = true
		if err := explainAnswer("cancelling the remediation", h.client.Update(ctx, r)); err != nil {
			return err
		}
		return showRemediation(env, f, r)
	})
}

func newRemediationDelete(env frame.Env) *cobra.Command {
	return onRemediation(env, "delete", "Delete a remediation", remediationNoun().deleteOne(env))
}

func newRemediationList(env frame.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List remediations", Example: `    boltseal policy remediation list`}
	return remediationNoun().listVerb(env, cmd, nil)
}
