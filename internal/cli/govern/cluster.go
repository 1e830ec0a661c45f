package govern

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

func newCluster(env frame.Env) *cobra.Command {
	cmd := frame.ParentCommand("cluster", "Register clusters, and enable image integrity in them",
		"Register clusters with the hub, see how far they are, and enable or disable image integrity in them.",
		newClusterRegister(env), newClusterList(env), newClusterShow(env), newClusterUpdate(env), newClusterKubeconfig(env), newClusterUnregister(env))
	cmd.GroupID = groupGovern
	return cmd
}

type clusterVerbFlags struct {
	hub                                                   hubFlags
	show                                                  showFlags
	name, group, subscription, scope, location, engineSet string
	managementGroups                                      []string
	dryRun                                                bool
}

func newClusterRegister(env frame.Env) *cobra.Command {
	var f clusterVerbFlags
	cmd := &cobra.Command{
		Use:   "register --name NAME [--scope PATH]",
		Short: "Register a cluster at the hub, with its scope",
		Long: `Register a cluster at the hub, with the path of its scope: what is assigned to this
path, or to one above it, applies to the cluster. A cluster that is registered already gets
what is said here; the rest stays as it is.`,
		Example: `    boltseal cluster register --name fra1 --scope /emea/production
    boltseal cluster register --name aks1 --subscription S --resource-group G --location westeurope`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return runClusterRegister(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.name, "name", "n", "", "`NAME` of the cluster")
	fl.StringVar(&f.scope, "scope", "", "`PATH` of its scope (default /)")
	fl.StringVar(&f.subscription, "subscription", "", "with --resource-group, in place of --scope: `ID` of the subscription")
	fl.StringVarP(&f.group, "resource-group", "g", "", "with --subscription, in place of --scope: `NAME` of the resource group")
	fl.StringVarP(&f.location, "location", "l", "", "`REGION`: where it is, such as westeurope")
	fl.StringSliceVar(&f.managementGroups, "management-groups", nil, "`IDS` of management groups above it")
	fl.StringVar(&f.engineSet, "engine", "", "`ENGINE`: what denies in it: Boltseal or Gatekeeper (default what it has)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "print the object as YAML, and ask no cluster")
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

// place is the path that the flags name, "" for none.
func (f clusterVerbFlags) place() (string, error) {
	switch {
	case f.scope != "" && (f.group != "" || f.subscription != ""):
		return "", errors.New("choose one of --scope and --subscription with --resource-group")
	case (f.group == "") != (f.subscription == ""):
		return "", errors.New("--resource-group and --subscription go together; or name the path with --scope")
	case f.group != "":
		return "/subscriptions/" + f.subscription + "/resourceGroups/" + f.group, nil
	}
	return f.scope, nil
}

func (f clusterVerbFlags) apply(c *v1alpha1.Cluster) error {
	at, err := f.place()
	if err != nil {
		return err
	}
	if f.engineSet != "" {
		engine, err := oneOf("--engine", f.engineSet, string(v1alpha1.EngineBoltseal), string(v1alpha1.EngineGatekeeper))
		if err != nil {
			return err
		}
		c.Spec.Engine = v1alpha1.Engine(engine)
	}
	c.Spec.Scope = cmp.Or(at, c.Spec.Scope, "/")
	c.Spec.Location = cmp.Or(f.location, c.Spec.Location)
	if len(f.managementGroups) > 0 {
		c.Spec.ManagementGroups = f.managementGroups
	}
	_, err = scope.At(c)
	return err
}

func runClusterRegister(cmd *cobra.Command, env frame.Env, f clusterVerbFlags) error {
	ctx := cmd.Context()
	if err := f.show.check(cmd); err != nil {
		return err
	}
	c := &v1alpha1.Cluster{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindCluster}, ObjectMeta: metav1.ObjectMeta{Name: f.name}}
	if err := cmp.Or(checkName("--name", f.name), f.apply(c)); err != nil {
		return frame.UsageFailure(cmd, err)
	}
	if f.dryRun {
		return printYAML(env.Stdout, c)
	}
	h, err := f.hub.open(env)
	if err != nil {
		return err
	}
	var there v1alpha1.Cluster
	switch err = h.client.Get(ctx, client.ObjectKey{Name: f.name}, &there); {
	case apierrors.IsNotFound(err):
		err = h.client.Create(ctx, c)
	case err == nil:
		c = &there
		if err := f.apply(c); err != nil {
			return err
		}
		err = h.client.Update(ctx, c)
	}
	if err != nil {
		return explainAnswer("registering the cluster", err)
	}
	return showCluster(env, f.show, c)
}

func clusterNoun() noun[v1alpha1.Cluster, *v1alpha1.Cluster] {
	return noun[v1alpha1.Cluster, *v1alpha1.Cluster]{name: "cluster", path: "cluster",
		list:  func(ctx context.Context, h *hub) ([]v1alpha1.Cluster, error) { return h.clusters(ctx) },
		shape: func(c *v1alpha1.Cluster) any { return clusterOf(c) }, table: writeClusters}
}

func newClusterList(env frame.Env) *cobra.Command {
	var group string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List clusters, and how far they are",
		Example: `    boltseal cluster list
    boltseal cluster list -g myResourceGroup -o json`,
	}
	cmd.Flags().StringVarP(&group, "resource-group", "g", "", "only clusters of the resource group `NAME`")
	return clusterNoun().listVerb(env, cmd, func() (func(*v1alpha1.Cluster) bool, error) {
		return func(c *v1alpha1.Cluster) bool { return group == "" || strings.EqualFold(groupOf(c), group) }, nil
	})
}

func groupOf(c *v1alpha1.Cluster) string { return definition.FieldsOf(*c).ResourceGroup }

// onCluster is a verb about one that exists; check may be nil.
func onCluster(env frame.Env, cmd *cobra.Command, check func() error, do func(context.Context, *hub, *v1alpha1.Cluster, showFlags) error) *cobra.Command {
	var group string
	cmd.Flags().StringVarP(&group, "resource-group", "g", "", "`NAME` of the resource group that it must be in")
	return clusterNoun().oneVerb(env, cmd, verbAbout[v1alpha1.Cluster]{naming: "its `NAME`", check: check, do: do,
		find: func(ctx context.Context, h *hub, name string) (*v1alpha1.Cluster, error) {
			return h.cluster(ctx, name, group)
		}})
}

func (h *hub) cluster(ctx context.Context, name, group string) (*v1alpha1.Cluster, error) {
	var c v1alpha1.Cluster
	err := h.client.Get(ctx, client.ObjectKey{Name: strings.ToLower(name)}, &c)
	if apierrors.IsNotFound(err) {
		all, err := h.clusters(ctx)
		if err != nil {
			return nil, err
		}
		return nil, noSuchName("cluster", name, namesOf(all), "boltseal cluster list")
	}
	if err != nil {
		return nil, explainAnswer("reading the cluster", err)
	}
	if group != "" && !strings.EqualFold(groupOf(&c), group) {
		return nil, fmt.Errorf("cluster %s is in resource group %s, not in %s", c.Name, cmp.Or(groupOf(&c), "none"), strict.Label(group))
	}
	return &c, nil
}

func newClusterShow(env frame.Env) *cobra.Command {
	cmd := &cobra.Command{Use: "show --name NAME", Short: "Show a cluster, and what applies to it",
		Example: `    boltseal cluster show --name fra1
    boltseal cluster show --name fra1 --query compliance.state -o tsv`}
	return onCluster(env, cmd, nil, func(_ context.Context, _ *hub, c *v1alpha1.Cluster, show showFlags) error {
		return showCluster(env, show, c)
	})
}

// shownCluster has the shape of az's, and what is known beside.
type shownCluster struct {
	ID               string                   `json:"id"`
	Name             string                   `json:"name"`
	Type             string                   `json:"type"`
	Location         string                   `json:"location,omitempty"`
	ResourceGroup    string                   `json:"resourceGroup,omitempty"`
	Scope            string                   `json:"scope"`
	ManagementGroups []string                 `json:"managementGroups,omitempty"`
	Engine           v1alpha1.Engine          `json:"engine,omitempty"`
	SecurityProfile  v1alpha1.SecurityProfile `json:"securityProfile"`
	AddonProfiles    v1alpha1.AddonProfiles   `json:"addonProfiles"`
	// Pending is true where the hub has not taken up what was changed last: what is
	// below is of before.
	Pending     bool                       `json:"pending,omitempty"`
	AddOn       v1alpha1.AddOnState        `json:"addOn,omitempty"`
	Version     string                     `json:"version,omitempty"`
	LastSeen    *metav1.Time               `json:"lastSeen,omitempty"`
	Compliance  *v1alpha1.ClusterTotals    `json:"compliance,omitempty"`
	Assignments []v1alpha1.AssignmentState `json:"assignments,omitempty"`
	Conditions  []metav1.Condition         `json:"conditions,omitempty"`
}

func clusterOf(c *v1alpha1.Cluster) shownCluster {
	out := shownCluster{ID: c.Status.ID, Name: c.Name, Type: scope.ClusterType, Location: c.Spec.Location, ResourceGroup: groupOf(c), Scope: cmp.Or(c.Spec.Scope, "/"),
		ManagementGroups: c.Spec.ManagementGroups, Engine: c.Spec.Engine, SecurityProfile: c.Spec.SecurityProfile, AddonProfiles: c.Spec.AddonProfiles,
		Pending: !takenUp(c), AddOn: c.Status.AddOn, Version: c.Status.Version, LastSeen: c.Status.LastSeen, Compliance: c.Status.Compliance, Assignments: c.Status.Assignments, Conditions: c.Status.Conditions}
	if p, err := scope.At(c); err == nil {
		out.ID = p.ID()
	}
	return out
}

func showCluster(env frame.Env, f showFlags, c *v1alpha1.Cluster) error {
	return f.show(env, clusterOf(c), func(w io.Writer, st frame.Style) error {
		if err := writeClusters(w, st, []v1alpha1.Cluster{*c}); err != nil || len(c.Status.Assignments) == 0 {
			return err
		}
		fmt.Fprintln(w)
		return writeStates(w, st, c.Status.Assignments)
	})
}

func writeStates(w io.Writer, st frame.Style, as []v1alpha1.AssignmentState) error {
	var rows []frame.Row
	for _, a := range as {
		word, colour := stateWord(a.State)
		r := frame.Row{Cells: []string{frame.SafeText(a.Assignment), frame.SafeText(a.PolicyDefinitionReferenceID), frame.SafeText(a.Effect), word, frame.OrDash(frame.SafeText(a.Reason))}, Colours: []string{"", "", "", colour}}
		if a.Message != "" {
			r.Below = []string{frame.SafeText(a.Message)}
		}
		rows = append(rows, r)
	}
	return frame.WriteTable(w, st, []string{"ASSIGNMENT", "REFERENCE", "EFFECT", "STATE", "REASON"}, rows)
}

func writeClusters(w io.Writer, st frame.Style, cs []v1alpha1.Cluster) error {
	var rows []frame.Row
	for i := range cs {
		c := &cs[i]
		integrity, state, colour, violations, seen := "by assignment", "-", "", "-", "never"
		if e := c.Spec.SecurityProfile.ImageIntegrity.Enabled; e != nil {
			integrity = map[bool]string{true: "enabled", false: "disabled"}[*e]
		}
		if t := c.Status.Compliance; t != nil {
			state, colour = stateWord(t.State)
			violations = strconv.Itoa(int(t.Violations))
		}
		addOn := frame.OrDash(string(c.Status.AddOn))
		if !takenUp(c) {
			addOn, state, colour, violations = "pending", "-", "", "-" // what the status says is of before
		}
		if c.Status.LastSeen != nil {
			seen = c.Status.LastSeen.UTC().Format(time.RFC3339)
		}
		rows = append(rows, frame.Row{Cells: []string{c.Name, frame.SafeText(cmp.Or(c.Spec.Scope, "/")), integrity, addOn, state, violations, seen},
			Colours: []string{"", "", "", "", colour}, Below: notReady(st, c.Status.Status)})
	}
	return frame.WriteTable(w, st, []string{"NAME", "SCOPE", "IMAGE INTEGRITY", "ADD-ON", "STATE", "VIOLATIONS", "SEEN"}, rows)
}
