package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

// States of one cluster of a remediation.
const (
	deploymentPending = "Pending"
	deploymentRunning = "Running"
	deploymentFailed  = "Failed"
)

// Azure's defaults, where the API server did not fill them in, and limits.
const (
	defaultResourceCount = 500
	defaultParallel      = 10
	maxParallel          = 30
	maxDeployments       = 100 // told of in the status
	// assignmentGrace is how long a remediation waits for an assignment that was
	// made together with it.
	assignmentGrace = 10 * time.Second
)

// remediations moves every remediation on by a step. All that is known of one
// stands in its status: clusters are taken in the order of their names, those up
// to the cursor were begun with.
func (r *run) remediations(ctx context.Context, w *world) error {
	var errs []error
	for i := range w.remediations {
		m := &w.remediations[i]
		switch m.Status.ProvisioningState {
		case v1alpha1.RemediationSucceeded, v1alpha1.RemediationComplete, v1alpha1.RemediationFailed, v1alpha1.RemediationCanceled:
			continue
		}
		st := *m.Status.DeepCopy()
		err := r.remediate(ctx, w, m, &st)
		if err == nil && !equality.Semantic.DeepEqual(m.Status, st) {
			st.LastUpdatedOn = r.now()
			if st.CreatedOn == nil {
				st.CreatedOn = st.LastUpdatedOn
			}
			next := &v1alpha1.Remediation{TypeMeta: m.TypeMeta, ObjectMeta: *m.ObjectMeta.DeepCopy(), Spec: m.Spec, Status: st}
			err = r.putStatus(ctx, "remediation status", next)
			signalChannel(r.changed) // its next step
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remediation %s: %w", m.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (r *run) now() *metav1.Time {
	t := metav1.NewTime(r.o.Clock().UTC().Truncate(time.Second))
	return &t
}

// job is what a remediation deploys.
type job struct{ assignment, reference string }

// find returns what is to be deployed. The error says why nothing can be.
func (r *run) find(w *world, m *v1alpha1.Remediation) (job, error) {
	for i := range w.assignments {
		a := &w.assignments[i]
		at, err := scope.Parse(a.Spec.Scope)
		if err != nil {
			continue
		}
		named, err := scope.NamesAssignment(m.Spec.PolicyAssignmentID, at, a.Name)
		if err != nil {
			return job{}, err
		}
		if !named {
			continue
		}
		reference, id := m.Spec.PolicyDefinitionReferenceID, a.Spec.PolicyDefinitionID
		if set, ok := r.library.Set(id); ok {
			if reference == "" {
				return job{}, fmt.Errorf("assignment %s is of an initiative: say which of its definitions with policyDefinitionReferenceId", a.Name)
			}
			refs := set.Object.Spec.PolicyDefinitions
			n := slices.IndexFunc(refs, func(d v1alpha1.PolicyDefinitionReference) bool {
				return strings.EqualFold(d.PolicyDefinitionReferenceID, reference)
			})
			if n < 0 {
				return job{}, fmt.Errorf("initiative %s has no definition %q", set.Object.Name, reference)
			}
			reference, id = refs[n].PolicyDefinitionReferenceID, refs[n].PolicyDefinitionID
		}
		d, ok := r.library.Definition(id)
		switch {
		case !ok:
			return job{}, fmt.Errorf("there is no definition %q: import it", id)
		case d.Compiled.Mode != definition.ModeIndexed:
			return job{}, fmt.Errorf("definition %s checks what runs, and deploys nothing", d.Object.Name)
		}
		return job{a.Name, cmp.Or(reference, d.Object.Name)}, nil
	}
	return job{}, fmt.Errorf("there is no assignment %q", m.Spec.PolicyAssignmentID)
}

// remediationTargets returns the clusters after the cursor that lack what the job deploys,
// in order of their names. They were all judged just now: the two discovery modes
// find the same.
func remediationTargets(w *world, j job, m *v1alpha1.Remediation, cursor string) []string {
	var out []string
	for i := range w.clusters {
		c := &w.clusters[i]
		p := w.plans[c.Name]
		if p == nil || c.Name <= cursor || !matchesLocation(m.Spec.Filters, c.Spec.Location) {
			continue
		}
		if d, s, ok := p.stateOf(j.assignment, j.reference); ok && d.Effect == definition.EffectDeployIfNotExists && s.State == v1alpha1.NonCompliant {
			out = append(out, c.Name)
		}
	}
	return out
}

func matchesLocation(f *v1alpha1.RemediationFilters, location string) bool {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
	return f == nil || len(f.Locations) == 0 ||
		slices.ContainsFunc(f.Locations, func(l string) bool { return plain(l) == plain(location) })
}

// remediate moves one remediation on.
func (r *run) remediate(ctx context.Context, w *world, m *v1alpha1.Remediation, st *v1alpha1.RemediationStatus) error {
	j, fault := r.find(w, m)
	switch st.ProvisioningState {
	case "", v1alpha1.RemediationAccepted:
		switch {
		case m.Spec.Cancel:
			st.ProvisioningState, st.StatusMessage = v1alpha1.RemediationCanceled, "it was cancelled before anything was begun"
			return nil
		case fault != nil && r.o.Clock().Sub(m.CreationTimestamp.Time) < assignmentGrace:
			st.ProvisioningState, st.StatusMessage = v1alpha1.RemediationAccepted, printableText(fault.Error(), maxSentence)
			return nil
		case fault != nil:
			st.ProvisioningState, st.StatusMessage = v1alpha1.RemediationFailed, printableText(fault.Error(), maxSentence)
			return nil
		}
		st.ProvisioningState, st.StatusMessage = v1alpha1.RemediationRunning, ""
		most := cmp.Or(m.Spec.ResourceCount, defaultResourceCount)
		st.DeploymentStatus.TotalDeployments = int32(min(int(most), len(remediationTargets(w, j, m, ""))))
	}
	count := &st.DeploymentStatus
	var left []v1alpha1.Deployment
	active := 0
	for _, d := range st.Deployments {
		if d.Status != deploymentPending && d.Status != deploymentRunning {
			left = append(left, d)
			continue
		}
		done, err := r.advance(ctx, w, j, &d)
		if err != nil {
			return err
		}
		switch {
		case d.Status == deploymentFailed:
			count.FailedDeployments++
			left = append(left, d)
		case done:
			count.SuccessfulDeployments++
		default:
			active++
			left = append(left, d)
		}
	}
	st.Deployments = left
	threshold, exceeded := thresholdOf(m.Spec.FailureThreshold, count.FailedDeployments, count.TotalDeployments)
	var next []string
	begun := int(count.SuccessfulDeployments) + int(count.FailedDeployments) + active
	if room := int(count.TotalDeployments) - begun; room > 0 && fault == nil && !m.Spec.Cancel && !exceeded {
		next = remediationTargets(w, j, m, st.Cursor)
		next = next[:min(room, len(next))]
	}
	parallel := min(int(cmp.Or(m.Spec.ParallelDeployments, defaultParallel)), maxParallel)
	for _, name := range next[:min(max(0, parallel-active), len(next))] {
		st.Deployments = append(st.Deployments, v1alpha1.Deployment{Cluster: name, Status: deploymentPending, BegunOn: r.now()})
		st.Cursor = name
		active++
		begun++
	}
	st.Deployments = boundDeployments(st.Deployments)
	if active > 0 {
		if m.Spec.Cancel {
			st.ProvisioningState, st.StatusMessage = v1alpha1.RemediationCancelling, fmt.Sprintf("%d clusters that are under way are waited for", active)
		}
		return nil
	}
	concludeRemediation(m, st, begun, threshold, exceeded, fault)
	return nil
}

// thresholdOf is how many of a hundred clusters may fail, and whether more did. Without a
// threshold all may.
func thresholdOf(f *v1alpha1.FailureThreshold, failed, total int32) (percentage int32, exceeded bool) {
	percentage = 100
	if f != nil {
		percentage = f.Percentage
	}
	return percentage, int64(failed)*100 > int64(percentage)*int64(total)
}

// concludeRemediation ends a remediation of which nothing is under way.
func concludeRemediation(m *v1alpha1.Remediation, st *v1alpha1.RemediationStatus, begun int, threshold int32, exceeded bool, fault error) {
	count := &st.DeploymentStatus
	remain := int(count.TotalDeployments) - begun
	switch {
	case exceeded:
		st.ProvisioningState = v1alpha1.RemediationFailed
		st.StatusMessage = fmt.Sprintf("%d of %d clusters failed, which is more than %d%%; %d were not begun with", count.FailedDeployments, count.TotalDeployments, threshold, remain)
	case m.Spec.Cancel:
		st.ProvisioningState, st.StatusMessage = v1alpha1.RemediationCanceled, fmt.Sprintf("it was cancelled; %d clusters were not begun with", remain)
	case fault != nil && remain > 0:
		st.ProvisioningState, st.StatusMessage = v1alpha1.RemediationFailed, printableText(fault.Error(), maxSentence)
	case count.FailedDeployments > 0:
		count.TotalDeployments = int32(begun) // what remained needs nothing any more
		st.ProvisioningState, st.StatusMessage = v1alpha1.RemediationComplete, fmt.Sprintf("%d of %d clusters failed", count.FailedDeployments, count.TotalDeployments)
	default:
		count.TotalDeployments = int32(begun)
		st.ProvisioningState, st.StatusMessage = v1alpha1.RemediationSucceeded, ""
	}
}

// boundDeployments drops the oldest failures where there are too many to tell.
func boundDeployments(all []v1alpha1.Deployment) []v1alpha1.Deployment {
	for len(all) > maxDeployments {
		n := slices.IndexFunc(all, func(d v1alpha1.Deployment) bool { return d.Status == deploymentFailed })
		if n < 0 {
			return all
		}
		all = slices.Delete(all, n, n+1)
	}
	return all
}

// advance moves one cluster on. done says that it has what it lacked. Doing it
// twice, because the status could not be stored, does no harm.
func (r *run) advance(ctx context.Context, w *world, j job, d *v1alpha1.Deployment) (done bool, err error) {
	fail := func(format string, args ...any) {
		d.Status, d.Message = deploymentFailed, printableText(fmt.Sprintf(format, args...), maxSentence)
	}
	p := w.plans[d.Cluster]
	if p == nil {
		fail("the cluster was deleted")
		return false, nil
	}
	deployment, state, ok := p.stateOf(j.assignment, j.reference)
	switch {
	case !ok:
		fail("the assignment does not apply to the cluster any more")
		return false, nil
	case state.State == v1alpha1.Exempt:
		fail("the cluster is exempt by now")
		return false, nil
	case d.BegunOn != nil && r.o.Clock().Sub(d.BegunOn.Time) > r.o.DeploymentTimeout:
		fail("the cluster did not report that the add-on is installed within %s: %s", r.o.DeploymentTimeout, cmp.Or(state.Message, "read the log of its agent"))
		return false, nil
	}
	need := missingDeployment(p.cluster, deployment.Deploy, true)
	if d.Status == deploymentRunning {
		if need != (definition.Deploy{}) {
			fail("somebody disabled the add-on while it was being installed")
			return false, nil
		}
		return r.arrived(p, deployment.Deploy, fail), nil
	}
	if need != (definition.Deploy{}) {
		return false, r.deploy(ctx, p.cluster, need) // its new generation is judged next
	}
	if p.bundle == nil {
		return false, nil
	}
	if deployment.Deploy.ImageIntegrity && failedNow(p) {
		next := p.bundle.DeepCopy()
		next.Spec.AddOn.Attempt++
		if err := r.stored("bundle", r.putBundle(ctx, next, false)); err != nil {
			return false, err
		}
		if next.ResourceVersion == p.bundle.ResourceVersion {
			return false, nil
		}
		p.bundle = next
	}
	d.Status = deploymentRunning
	return false, nil
}

// failedNow tells whether the agent gave up the attempt that is asked for.
func failedNow(p *plan) bool {
	return p.fresh && p.report.Report.AddOn.State == v1alpha1.AddOnFailed && p.report.Report.AddOn.Attempt == p.bundle.Spec.AddOn.Attempt
}

// arrived tells whether a cluster has what was deployed.
func (r *run) arrived(p *plan, deploy definition.Deploy, fail func(string, ...any)) bool {
	switch {
	case !p.fresh || p.bundle == nil:
		return false
	case !deploy.ImageIntegrity:
		return true // it is the agent that renders assignments, and the agent is there
	case failedNow(p):
		fail("%s", cmp.Or(p.report.Report.AddOn.Message, "the add-on could not be installed; read the log of the cluster's agent"))
		return false
	}
	return p.report.Report.AddOn.State == v1alpha1.AddOnInstalled && p.report.Report.BundleGeneration == p.bundle.Generation
}
