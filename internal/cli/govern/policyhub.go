package govern

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/governance/definition"
)

// Limits on what is read of a hub at once, and altogether.
const (
	hubPage  = 200
	hubLimit = 50_000
)

// hubFlags say which cluster has the objects of governance.
type hubFlags struct{ at input.Kubeconfig }

func (f *hubFlags) register(cmd *cobra.Command) {
	f.at.Register(cmd.Flags(), "hub cluster")
}

// hub is the cluster that has the objects of governance.
type hub struct{ client client.Client }

func (f *hubFlags) open(env frame.Env) (*hub, error) {
	config, err := f.at.Config(env)
	if err != nil {
		return nil, err
	}
	return hubOf(config)
}

// hubOf is the hub that a configuration leads to.
func hubOf(config *rest.Config) (*hub, error) {
	scheme := runtime.NewScheme()
	scheme.AddKnownTypes(v1alpha1.GroupVersion,
		&v1alpha1.PolicyDefinition{}, &v1alpha1.PolicyDefinitionList{}, &v1alpha1.PolicySetDefinition{}, &v1alpha1.PolicySetDefinitionList{},
		&v1alpha1.PolicyAssignment{}, &v1alpha1.PolicyAssignmentList{}, &v1alpha1.PolicyExemption{}, &v1alpha1.PolicyExemptionList{},
		&v1alpha1.Remediation{}, &v1alpha1.RemediationList{}, &v1alpha1.FeatureRegistration{}, &v1alpha1.FeatureRegistrationList{},
		&v1alpha1.Cluster{}, &v1alpha1.ClusterList{}, &v1alpha1.ClusterBundle{}, &v1alpha1.ClusterBundleList{},
		&v1alpha1.ClusterReport{}, &v1alpha1.ClusterReportList{})
	metav1.AddToGroupVersion(scheme, v1alpha1.GroupVersion)
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	return &hub{client: c}, nil
}

// explainAnswer says what to do about an answer of the API server.
func explainAnswer(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case meta.IsNoMatchError(err):
		return fmt.Errorf("%s: the cluster does not know the kinds of policy.boltseal.dev: bring them with 'boltseal crds apply', or name the hub with --context", doing)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: you lack the right: %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// listAll returns all objects of one kind.
func listAll[T any](ctx context.Context, h *hub, what string, list client.ObjectList, items func() []T) ([]T, error) {
	var out []T
	next := ""
	for {
		if err := h.client.List(ctx, list, client.Limit(hubPage), client.Continue(next)); err != nil {
			return nil, explainAnswer("reading the "+what, err)
		}
		out = append(out, items()...)
		if len(out) > hubLimit {
			return nil, fmt.Errorf("reading the %s: there are more than %d", what, hubLimit)
		}
		if next = list.GetContinue(); next == "" {
			return out, nil
		}
	}
}

func (h *hub) definitions(ctx context.Context) ([]v1alpha1.PolicyDefinition, error) {
	var l v1alpha1.PolicyDefinitionList
	return listAll(ctx, h, "definitions", &l, func() []v1alpha1.PolicyDefinition { return l.Items })
}

func (h *hub) sets(ctx context.Context) ([]v1alpha1.PolicySetDefinition, error) {
	var l v1alpha1.PolicySetDefinitionList
	return listAll(ctx, h, "initiatives", &l, func() []v1alpha1.PolicySetDefinition { return l.Items })
}

func (h *hub) assignments(ctx context.Context) ([]v1alpha1.PolicyAssignment, error) {
	var l v1alpha1.PolicyAssignmentList
	return listAll(ctx, h, "assignments", &l, func() []v1alpha1.PolicyAssignment { return l.Items })
}

func (h *hub) exemptions(ctx context.Context) ([]v1alpha1.PolicyExemption, error) {
	var l v1alpha1.PolicyExemptionList
	return listAll(ctx, h, "exemptions", &l, func() []v1alpha1.PolicyExemption { return l.Items })
}

func (h *hub) remediations(ctx context.Context) ([]v1alpha1.Remediation, error) {
	var l v1alpha1.RemediationList
	return listAll(ctx, h, "remediations", &l, func() []v1alpha1.Remediation { return l.Items })
}

func (h *hub) features(ctx context.Context) ([]v1alpha1.FeatureRegistration, error) {
	var l v1alpha1.FeatureRegistrationList
	return listAll(ctx, h, "features", &l, func() []v1alpha1.FeatureRegistration { return l.Items })
}

func (h *hub) clusters(ctx context.Context) ([]v1alpha1.Cluster, error) {
	var l v1alpha1.ClusterList
	return listAll(ctx, h, "clusters", &l, func() []v1alpha1.Cluster { return l.Items })
}

func (h *hub) bundles(ctx context.Context) ([]v1alpha1.ClusterBundle, error) {
	var l v1alpha1.ClusterBundleList
	return listAll(ctx, h, "bundles", &l, func() []v1alpha1.ClusterBundle { return l.Items })
}

func (h *hub) reports(ctx context.Context) ([]v1alpha1.ClusterReport, error) {
	var l v1alpha1.ClusterReportList
	return listAll(ctx, h, "reports", &l, func() []v1alpha1.ClusterReport { return l.Items })
}

// library is what can be assigned: what is built in and what was imported. What
// was imported and cannot be read is said, and is not found.
func (h *hub) library(ctx context.Context, env frame.Env) (definition.Library, error) {
	lib := definition.BuiltIns()
	ds, err := h.definitions(ctx)
	if err != nil {
		return lib, err
	}
	ss, err := h.sets(ctx)
	if err != nil {
		return lib, err
	}
	for i := range ds {
		addTo(&lib, env, definition.Object{Definition: &ds[i]})
	}
	for i := range ss {
		addTo(&lib, env, definition.Object{Set: &ss[i]})
	}
	return lib, nil
}

func addTo(lib *definition.Library, env frame.Env, o definition.Object) {
	if err := lib.Add(o); err != nil {
		fmt.Fprintln(env.Stderr, "warning:", frame.SafeText(err.Error()))
	}
}

// noSuchName says that nothing has the name, and what somebody may have meant.
func noSuchName(what, name string, names []string, list string) error {
	slices.Sort(names)
	if near := nearest.Word(name, names); near != "" && near != name {
		return fmt.Errorf("there is no %s %q; did you mean %s?", what, name, near)
	}
	return fmt.Errorf("there is no %s %q: '%s' shows all", what, name, list)
}

// namesOf are the names of objects.
func namesOf[T any, P object[T]](items []T) []string {
	var out []string
	for i := range items {
		out = append(out, P(&items[i]).GetName())
	}
	return out
}

// checkName tells whether Kubernetes takes a name.
func checkName(flag, name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%s is missing", flag)
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		return fmt.Errorf("%s: %s cannot be a name: small letters, digits, - and . are allowed, such as deploy-trustedimages", flag, strict.Label(name))
	}
	return nil
}

var errNothingToChange = errors.New("nothing to change: see the flags")
