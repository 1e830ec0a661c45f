package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
)

// Labels of what the hub writes.
const (
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "boltseal"
)

// pass judges everything, and writes what differs from what stands there.
func (r *run) pass(ctx context.Context) error {
	begun := r.o.Clock()
	w, err := r.load(ctx)
	if err != nil {
		return err
	}
	r.compile(w)
	resolver := resolve.New(resolve.Input{Library: r.library, Assignments: w.assignments, Exemptions: w.exemptions, Features: w.features, Clock: r.o.Clock})
	w.problems = resolver.Problems()
	var errs []error
	for i := range w.clusters {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p := &plan{cluster: &w.clusters[i], outcome: resolver.ForCluster(&w.clusters[i])}
		p.report = w.reports[p.cluster.Name]
		p.fresh = compliance.Fresh(compliance.Input{Report: p.report, Clock: r.o.Clock, StaleAfter: r.o.StaleAfter})
		w.plans[p.cluster.Name] = p
		w.problems = append(w.problems, p.outcome.Problems...)
		errs = append(errs, r.cluster(ctx, w, p))
	}
	errs = append(errs, r.sweep(ctx, w), r.remediations(ctx, w))
	ready, err := r.statuses(ctx, w)
	errs = append(errs, err)
	now := r.o.Clock()
	r.metrics.found(w, ready, now)
	r.metrics.took.Set(now.Sub(begun).Seconds())
	return errors.Join(errs...)
}

// stored tells what a write came to. A conflict means that the cache was behind:
// it is tried again, and is nobody's fault.
func (r *run) stored(what string, err error) error {
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) {
		r.retry = true
		return nil
	}
	r.metrics.wrote(what, err)
	return err
}

// cluster brings one cluster's spec, bundle and status up to what is demanded.
func (r *run) cluster(ctx context.Context, w *world, p *plan) error {
	name := p.cluster.Name
	// Azure deploys after a cluster was created or updated, and only then.
	if p.cluster.Generation != p.cluster.Status.ObservedGeneration {
		var deploy definition.Deploy
		for i := range p.outcome.Deployments {
			if d := &p.outcome.Deployments[i]; d.Automatic && d.State == v1alpha1.NonCompliant {
				deploy.ImageIntegrity = deploy.ImageIntegrity || d.Deploy.ImageIntegrity
				deploy.PolicyAddOn = deploy.PolicyAddOn || d.Deploy.PolicyAddOn
			}
		}
		if need := missingDeployment(p.cluster, deploy, false); need != (definition.Deploy{}) {
			p.bundle, p.states = w.bundles[name], p.judge()
			if err := r.deploy(ctx, p.cluster, need); err != nil {
				return fmt.Errorf("cluster %s: deploying: %w", name, err)
			}
			return nil // its new generation is judged next
		}
	}
	bundle, err := r.bundle(ctx, w, p)
	p.bundle = bundle
	p.states = p.judge()
	if err != nil {
		err = fmt.Errorf("bundle of cluster %s: %w", name, err)
	}
	return errors.Join(err, r.clusterStatus(ctx, p))
}

// deploy sets what a cluster is to have.
func (r *run) deploy(ctx context.Context, c *v1alpha1.Cluster, d definition.Deploy) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	on := v1alpha1.AddonProfile{Enabled: new(true)}
	var patch struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Spec struct {
			SecurityProfile *struct {
				ImageIntegrity v1alpha1.AddonProfile `json:"imageIntegrity"`
			} `json:"securityProfile,omitempty"`
			AddonProfiles *v1alpha1.AddonProfiles `json:"addonProfiles,omitempty"`
		} `json:"spec"`
	}
	patch.Metadata.ResourceVersion = c.ResourceVersion
	if d.ImageIntegrity {
		patch.Spec.SecurityProfile = &struct {
			ImageIntegrity v1alpha1.AddonProfile `json:"imageIntegrity"`
		}{on}
	}
	if d.PolicyAddOn {
		patch.Spec.AddonProfiles = &v1alpha1.AddonProfiles{AzurePolicy: on}
	}
	body, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	target := &v1alpha1.Cluster{}
	target.Name = c.Name
	err = r.client.Patch(ctx, target, client.RawPatch(types.MergePatchType, body))
	if err == nil {
		r.events.Event(c, corev1.EventTypeNormal, "Deployed", "the add-on that the cluster lacked is enabled, as an assignment requires")
	}
	return r.stored("cluster", err)
}

// bundle stores what is demanded of a cluster, and returns it as it is stored.
func (r *run) bundle(ctx context.Context, w *world, p *plan) (*v1alpha1.ClusterBundle, error) {
	name, have := p.cluster.Name, w.bundles[p.cluster.Name]
	want := p.outcome.Bundle
	for _, q := range p.outcome.Problems {
		if q.Reason == resolve.ReasonInvalidCluster {
			return have, nil // where it stands is not known: nothing is added, and nothing is taken away
		}
	}
	if have != nil {
		want.AddOn.Attempt = have.Spec.AddOn.Attempt
		want.Demands = keepUnresolved(want.Demands, have.Spec.Demands, w, p)
	} else if p.report != nil {
		want.AddOn.Attempt = p.report.Report.AddOn.Attempt // the bundle was lost
	}
	if have != nil && have.Labels[managedByLabel] == managedBy && equality.Semantic.DeepEqual(have.Spec, want) {
		delete(r.refused, name)
		return have, nil
	}
	out := &v1alpha1.ClusterBundle{}
	if have != nil {
		out = have.DeepCopy()
	}
	out.Name, out.Spec = name, want
	out.Labels = map[string]string{managedByLabel: managedBy}
	err := r.putBundle(ctx, out, have == nil)
	switch {
	case err == nil:
		delete(r.refused, name)
	case apierrors.IsInvalid(err), apierrors.IsRequestEntityTooLargeError(err):
		r.refused[name] = printableText(err.Error(), maxSentence)
	}
	if err = r.stored("bundle", err); err != nil || out.ResourceVersion == "" {
		return have, err
	}
	return out, nil
}

func (r *run) putBundle(ctx context.Context, b *v1alpha1.ClusterBundle, create bool) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if create {
		return r.client.Create(ctx, b)
	}
	return r.client.Update(ctx, b)
}

// keepUnresolved adds what was demanded before and cannot be resolved now: a slip in an
// assignment must not switch off what it demanded. What is deleted, is disabled,
// or is opted out of goes.
func keepUnresolved(want, have []v1alpha1.Demand, w *world, p *plan) []v1alpha1.Demand {
	for _, d := range have {
		if len(want) >= resolve.MaxDemands {
			break
		}
		if slices.ContainsFunc(want, func(o v1alpha1.Demand) bool { return o.Name == d.Name }) {
			continue
		}
		broken := slices.ContainsFunc(w.problems, func(q resolve.Problem) bool {
			return q.Assignment == d.Assignment && (q.Cluster == "" || q.Cluster == p.cluster.Name) &&
				(q.Reference == "" || q.Reference == compliance.Reference(d)) &&
				q.Reason != resolve.ReasonFeatureNotThere && q.Reason != resolve.ReasonTooManyDemands
		})
		if broken {
			want = append(want, d)
		}
	}
	slices.SortFunc(want, func(a, b v1alpha1.Demand) int { return strings.Compare(a.Name, b.Name) })
	return want
}

// sweep deletes bundles of clusters that are gone.
func (r *run) sweep(ctx context.Context, w *world) error {
	var errs []error
	for name, b := range w.bundles {
		if w.plans[name] != nil {
			continue
		}
		delete(r.written, name)
		delete(r.refused, name)
		ctx, cancel := context.WithTimeout(ctx, writeTimeout)
		err := r.client.Delete(ctx, b.DeepCopy(), client.Preconditions{UID: &b.UID})
		cancel()
		if err = r.stored("bundle", client.IgnoreNotFound(err)); err != nil {
			errs = append(errs, fmt.Errorf("bundle %s of a cluster that was deleted: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// clusterStatus writes how a cluster stands, and tells of what changed.
func (r *run) clusterStatus(ctx context.Context, p *plan) error {
	c, now := p.cluster, r.o.Clock()
	st := compliance.ForCluster(compliance.Input{Cluster: c, ID: clusterID(c), Bundle: p.bundle, Report: p.report, Judged: p.states,
		Clock: r.o.Clock, StaleAfter: r.o.StaleAfter})
	if st.LastSeen != nil && st.LastSeen.After(now.Add(compliance.MaxSkew)) {
		st.LastSeen = c.Status.LastSeen // nobody was seen in times to come
	}
	st.ObservedGeneration = c.Generation
	ready := conditionTrue("Governed", "what is assigned to the cluster applies")
	for _, q := range p.outcome.Problems {
		if q.Reason == resolve.ReasonInvalidCluster {
			ready = conditionFalse(q.Reason, q.Message)
		}
	}
	if why := r.refused[c.Name]; why != "" {
		ready = conditionFalse("BundleRefused", "what is required of the cluster cannot be stored: "+why)
	}
	st.Conditions = setCondition(st.Conditions, ready, c.Generation, now)
	if !r.due(c, &st, now) {
		return nil
	}
	next := &v1alpha1.Cluster{}
	next.TypeMeta, next.ObjectMeta, next.Spec, next.Status = c.TypeMeta, *c.ObjectMeta.DeepCopy(), c.Spec, st
	if err := r.putStatus(ctx, "cluster status", next); err != nil {
		return fmt.Errorf("status of cluster %s: %w", c.Name, err)
	}
	if next.ResourceVersion == c.ResourceVersion {
		return nil // it conflicted
	}
	changes := compliance.Changes(c.Name, c.Status, st)
	c.Status = st
	r.written[c.Name] = now
	r.tell(c, changes, next.ResourceVersion, now)
	return nil
}

// due tells whether a status is to be written now. An agent can make its own
// cluster's change as often as it likes, but not the writes.
func (r *run) due(c *v1alpha1.Cluster, st *v1alpha1.ClusterStatus, now time.Time) bool {
	if equality.Semantic.DeepEqual(c.Status, *st) {
		return false
	}
	since, known := r.written[c.Name]
	if !known || c.Status.ObservedGeneration != st.ObservedGeneration {
		return true
	}
	seen := *st
	seen.LastSeen = c.Status.LastSeen
	if equality.Semantic.DeepEqual(c.Status, seen) {
		return now.Sub(since) >= r.o.SeenEvery
	}
	if now.Sub(since) >= r.o.StatusEvery {
		return true
	}
	signalChannel(r.later)
	return false
}

// putStatus writes a status; on a conflict the object's resource version stays.
func (r *run) putStatus(ctx context.Context, what string, o client.Object) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return r.stored(what, r.client.Status().Update(ctx, o))
}
