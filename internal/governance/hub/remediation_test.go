package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/resolve"
)

// fleet is a hub with clusters that one assignment of the built-in deploy-image-integrity is about, and a remediation.
type fleet struct {
	*run
	w      *world
	m      *v1alpha1.Remediation
	now    time.Time
	refuse error // of the API server, for what is written to clusters
}

func newFleet(t *testing.T, names ...string) *fleet {
	t.Helper()
	f := &fleet{now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	h := &Hub{o: Options{Clock: func() time.Time { return f.now }, DeploymentTimeout: time.Hour, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, metrics: newMetrics()}
	f.run = &run{Hub: h, changed: make(chan struct{}, 1), later: make(chan struct{}, 1), written: map[string]time.Time{}, refused: map[string]string{},
		events: record.NewFakeRecorder(100), library: definition.BuiltIns()}
	f.w = &world{plans: map[string]*plan{}, assignments: []v1alpha1.PolicyAssignment{{ObjectMeta: metav1.ObjectMeta{Name: "a"},
		Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/subscriptions/S/resourceGroups/G", PolicyDefinitionID: "deploy-image-integrity"}}}}
	var objects []client.Object
	for _, name := range names {
		c := saying(nil, nil)
		c.Name = name
		c.ResourceVersion = ""
		objects = append(objects, c)
	}
	f.client = interceptor.NewClient(fake.NewClientBuilder().WithScheme(newScheme()).WithObjects(objects...).Build(), interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			if f.refuse != nil {
				return f.refuse
			}
			return c.Patch(ctx, o, p, opts...)
		}})
	f.m = &v1alpha1.Remediation{ObjectMeta: metav1.ObjectMeta{Name: "m", CreationTimestamp: metav1.NewTime(f.now)},
		Spec: v1alpha1.RemediationSpec{PolicyAssignmentID: "a"}}
	f.see(t, names...)
	return f
}

// see reads the clusters anew, as a pass does. What the add-on of each is reported to be stays.
func (f *fleet) see(t *testing.T, names ...string) {
	t.Helper()
	f.w.clusters = make([]v1alpha1.Cluster, len(names))
	before := f.w.plans
	f.w.plans = map[string]*plan{}
	for i, name := range names {
		if err := f.client.Get(t.Context(), client.ObjectKey{Name: name}, &f.w.clusters[i]); err != nil {
			t.Fatal(err)
		}
		p := &plan{cluster: &f.w.clusters[i], fresh: true, bundle: &v1alpha1.ClusterBundle{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1}}, report: reporting(v1alpha1.AddOnAbsent)}
		if old := before[name]; old != nil {
			p.report, p.fresh = old.report, old.fresh
		}
		state := v1alpha1.NonCompliant
		if integrity, _ := deployFields(p.cluster); integrity != nil && *integrity {
			state = v1alpha1.Compliant
		}
		p.outcome.Deployments = []resolve.Deployment{{Assignment: "a", Reference: "deploy-image-integrity", Effect: definition.EffectDeployIfNotExists,
			Deploy: definition.Deploy{ImageIntegrity: true, PolicyAddOn: true}, State: state}}
		p.states = p.judge()
		f.w.plans[name] = p
	}
}

// reports has a cluster's agent say how far the add-on is.
func (f *fleet) reports(name string, state v1alpha1.AddOnState, message string) {
	f.w.plans[name].report = &v1alpha1.ClusterReport{Report: v1alpha1.ClusterReportContent{BundleGeneration: 1, AddOn: v1alpha1.AddOnReport{State: state, Message: message}}}
}

// step moves the remediation on, as often as it asks for.
func (f *fleet) step(t *testing.T, names ...string) v1alpha1.RemediationStatus {
	t.Helper()
	for range 4 { // pending, deployed, running
		switch f.m.Status.ProvisioningState {
		case v1alpha1.RemediationSucceeded, v1alpha1.RemediationComplete, v1alpha1.RemediationFailed, v1alpha1.RemediationCanceled:
			return f.m.Status // a pass leaves out what has ended
		}
		if err := f.remediate(t.Context(), f.w, f.m, &f.m.Status); err != nil {
			t.Fatal(err)
		}
		f.see(t, names...)
	}
	return f.m.Status
}

// TestRemediationWaitsUntilEachClusterHasIt: a cluster is done when its agent reports it, not when it was told to.
func TestRemediationWaitsUntilEachClusterHasIt(t *testing.T) {
	t.Parallel()
	names := []string{"one", "two", "three"}
	f := newFleet(t, names...)
	st := f.step(t, names...)
	if st.ProvisioningState != v1alpha1.RemediationRunning || st.DeploymentStatus.TotalDeployments != 3 || st.DeploymentStatus.SuccessfulDeployments != 0 {
		t.Fatalf("%+v", st)
	}
	for _, name := range names {
		if integrity, addOn := deployFields(f.w.plans[name].cluster); integrity == nil || !*integrity || addOn == nil || !*addOn {
			t.Errorf("%s was not told to have it", name)
		}
	}
	f.reports("one", v1alpha1.AddOnInstalled, "")
	f.reports("two", v1alpha1.AddOnFailed, "no room")
	if st = f.step(t, names...); st.DeploymentStatus.SuccessfulDeployments != 1 || st.DeploymentStatus.FailedDeployments != 1 || st.ProvisioningState != v1alpha1.RemediationRunning {
		t.Fatalf("%+v", st)
	}
	f.w.plans["three"].fresh = false // it falls silent
	f.reports("three", v1alpha1.AddOnInstalled, "")
	if st = f.step(t, names...); st.DeploymentStatus.SuccessfulDeployments != 1 {
		t.Errorf("a report of long ago is taken for one of now: %+v", st)
	}
	f.now = f.now.Add(2 * time.Hour)
	st = f.step(t, names...)
	if st.ProvisioningState != v1alpha1.RemediationComplete || st.DeploymentStatus.FailedDeployments != 2 || !strings.Contains(st.StatusMessage, "2 of 3 clusters failed") {
		t.Errorf("%+v", st)
	}
	var messages []string
	for _, d := range st.Deployments {
		messages = append(messages, d.Cluster+": "+d.Message)
	}
	if all := strings.Join(messages, "\n"); !strings.Contains(all, "two: no room") || !strings.Contains(all, "three: the cluster did not report") {
		t.Errorf("%s", all)
	}
}

// TestRemediationHasBounds: so many at a time, so many in all, and none after too many failed.
func TestRemediationHasBounds(t *testing.T) {
	t.Parallel()
	var names []string
	for i := range 9 {
		names = append(names, fmt.Sprint("c", i))
	}
	f := newFleet(t, names...)
	f.m.Spec.ResourceCount, f.m.Spec.ParallelDeployments, f.m.Spec.FailureThreshold = 6, 2, &v1alpha1.FailureThreshold{Percentage: 20}
	st := f.step(t, names...)
	if len(st.Deployments) != 2 || st.DeploymentStatus.TotalDeployments != 6 {
		t.Fatalf("%+v", st)
	}
	told := func() (n int) {
		for _, name := range names {
			if integrity, _ := deployFields(f.w.plans[name].cluster); integrity != nil {
				n++
			}
		}
		return n
	}
	if told() != 2 {
		t.Errorf("%d clusters were told at a time, not 2", told())
	}
	f.reports("c0", v1alpha1.AddOnFailed, "x")
	f.reports("c1", v1alpha1.AddOnFailed, "x")
	st = f.step(t, names...)
	if st.ProvisioningState != v1alpha1.RemediationFailed || told() != 2 || !strings.Contains(st.StatusMessage, "more than 20%; 4 were not begun with") {
		t.Errorf("%d told, %+v", told(), st)
	}
}

// TestCancelledRemediationsEndWhatIsUnderWay: nothing new is begun, and what is under way is waited for.
func TestCancelledRemediationsEndWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	names := []string{"one", "two"}
	f := newFleet(t, names...)
	f.m.Spec.ParallelDeployments = 1
	f.step(t, names...)
	f.m.Spec.Cancel = true
	if st := f.step(t, names...); st.ProvisioningState != v1alpha1.RemediationCancelling {
		t.Fatalf("%+v", st)
	}
	f.reports("one", v1alpha1.AddOnInstalled, "")
	if st := f.step(t, names...); st.ProvisioningState != v1alpha1.RemediationCanceled || st.DeploymentStatus.SuccessfulDeployments != 1 || !strings.Contains(st.StatusMessage, "1 clusters were not begun with") {
		t.Errorf("%+v", st)
	}
	early := newFleet(t, names...)
	early.m.Spec.Cancel = true
	if st := early.step(t, names...); st.ProvisioningState != v1alpha1.RemediationCanceled || len(st.Deployments) > 0 {
		t.Errorf("%+v", st)
	}
}

// TestRemediationOfNothing: what it names must exist and deploy something; an assignment that is made together with it is
// waited for, but not for ever.
func TestRemediationOfNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*fleet)
		want   string
	}{
		"no such assignment": {func(f *fleet) { f.m.Spec.PolicyAssignmentID = "b" }, `there is no assignment "b"`},
		"no such definition": {func(f *fleet) { f.w.assignments[0].Spec.PolicyDefinitionID = "gone" }, `there is no definition "gone"`},
		"it deploys nothing": {func(f *fleet) { f.w.assignments[0].Spec.PolicyDefinitionID = "image-integrity-verification" }, "deploys nothing"},
		"which of several":   {func(f *fleet) { f.w.assignments[0].Spec.PolicyDefinitionID = "image-integrity" }, "say which of its definitions"},
		"none of the several": {func(f *fleet) {
			f.w.assignments[0].Spec.PolicyDefinitionID, f.m.Spec.PolicyDefinitionReferenceID = "image-integrity", "x"
		}, `has no definition "x"`},
	} {
		f := newFleet(t, "one")
		c.change(f)
		if st := f.step(t, "one"); st.ProvisioningState != v1alpha1.RemediationAccepted || !strings.Contains(st.StatusMessage, c.want) {
			t.Errorf("%s: %+v", name, st)
		}
		f.now = f.now.Add(assignmentGrace)
		if st := f.step(t, "one"); st.ProvisioningState != v1alpha1.RemediationFailed || !strings.Contains(st.StatusMessage, c.want) {
			t.Errorf("%s: %+v", name, st)
		}
		if integrity, _ := deployFields(f.w.plans["one"].cluster); integrity != nil {
			t.Errorf("%s: the cluster was changed", name)
		}
	}
}

// TestRemediationGoesOnAfterAFailedWrite: what could not be written is no failure of a cluster.
func TestRemediationGoesOnAfterAFailedWrite(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "one")
	f.refuse = errors.New("the API server is away")
	var failed error
	for range 3 {
		if err := f.remediate(t.Context(), f.w, f.m, &f.m.Status); err != nil {
			failed = err
		}
	}
	if failed == nil || f.m.Status.DeploymentStatus.FailedDeployments != 0 {
		t.Errorf("%v, %+v", failed, f.m.Status)
	}
	f.refuse = nil
	f.step(t, "one")
	f.reports("one", v1alpha1.AddOnInstalled, "")
	if st := f.step(t, "one"); st.ProvisioningState != v1alpha1.RemediationSucceeded {
		t.Errorf("%+v", st)
	}
}
