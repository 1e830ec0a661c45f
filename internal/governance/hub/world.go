package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
)

// world is all that is known at one time. Its objects are the cache's: they are
// replaced, never changed.
type world struct {
	definitions  []v1alpha1.PolicyDefinition
	sets         []v1alpha1.PolicySetDefinition
	assignments  []v1alpha1.PolicyAssignment
	exemptions   []v1alpha1.PolicyExemption
	remediations []v1alpha1.Remediation
	features     []v1alpha1.FeatureRegistration
	clusters     []v1alpha1.Cluster
	bundles      map[string]*v1alpha1.ClusterBundle
	reports      map[string]*v1alpha1.ClusterReport
	plans        map[string]*plan // by cluster
	problems     []resolve.Problem
}

// plan is what is demanded of one cluster, and how it stands.
type plan struct {
	cluster *v1alpha1.Cluster
	outcome resolve.Outcome
	bundle  *v1alpha1.ClusterBundle // as it is stored, nil where it is not
	report  *v1alpha1.ClusterReport // nil where there is none
	fresh   bool                    // the report can be believed to be of now
	states  []v1alpha1.AssignmentState
}

func (r *run) load(ctx context.Context) (*world, error) {
	w := &world{bundles: map[string]*v1alpha1.ClusterBundle{}, reports: map[string]*v1alpha1.ClusterReport{}, plans: map[string]*plan{}}
	var errs []error
	list := func(l client.ObjectList) { errs = append(errs, r.cache.List(ctx, l, client.UnsafeDisableDeepCopy)) }
	var (
		definitions  v1alpha1.PolicyDefinitionList
		sets         v1alpha1.PolicySetDefinitionList
		assignments  v1alpha1.PolicyAssignmentList
		exemptions   v1alpha1.PolicyExemptionList
		remediations v1alpha1.RemediationList
		features     v1alpha1.FeatureRegistrationList
		clusters     v1alpha1.ClusterList
		bundles      v1alpha1.ClusterBundleList
		reports      v1alpha1.ClusterReportList
	)
	for _, l := range []client.ObjectList{&definitions, &sets, &assignments, &exemptions, &remediations, &features, &clusters, &bundles, &reports} {
		list(l)
	}
	w.definitions, w.sets, w.assignments, w.exemptions = definitions.Items, sets.Items, assignments.Items, exemptions.Items
	w.remediations, w.features, w.clusters = remediations.Items, features.Items, clusters.Items
	slices.SortFunc(w.assignments, func(a, b v1alpha1.PolicyAssignment) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(w.clusters, func(a, b v1alpha1.Cluster) int { return strings.Compare(a.Name, b.Name) })
	for i := range bundles.Items {
		w.bundles[bundles.Items[i].Name] = &bundles.Items[i]
	}
	governed := map[string]bool{}
	for i := range w.clusters {
		governed[w.clusters[i].Name] = true
	}
	for i := range reports.Items {
		if name := reports.Items[i].Name; governed[name] {
			w.reports[name] = believedReport(&reports.Items[i])
		}
	}
	return w, errors.Join(errs...)
}

// compile compiles the definitions where one of them changed.
func (r *run) compile(w *world) {
	var key strings.Builder
	for i := range w.definitions {
		o := &w.definitions[i]
		fmt.Fprintf(&key, "d%s/%s/%d/%s\n", o.Name, o.UID, o.Generation, o.Annotations[definition.AnnotationID])
	}
	for i := range w.sets {
		o := &w.sets[i]
		fmt.Fprintf(&key, "s%s/%s/%d/%s\n", o.Name, o.UID, o.Generation, o.Annotations[definition.AnnotationID])
	}
	if r.faults != nil && key.String() == r.libraryKey {
		return
	}
	library, faults := definition.BuiltIns(), map[string]error{}
	add := func(kind string, o definition.Object) {
		if err := library.Add(o); err != nil {
			faults[kind+"/"+o.Name()] = err
		}
	}
	for i := range w.definitions {
		add(v1alpha1.KindPolicyDefinition, definition.Object{Definition: &w.definitions[i]})
	}
	for i := range w.sets {
		add(v1alpha1.KindPolicySetDefinition, definition.Object{Set: &w.sets[i]})
	}
	r.library, r.faults, r.libraryKey = library, faults, key.String()
}
