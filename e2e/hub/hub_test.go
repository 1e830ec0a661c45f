package hub

import (
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/hub"
)

func state(c *v1alpha1.Cluster) v1alpha1.ComplianceState {
	if c.Status.Compliance == nil {
		return ""
	}
	return c.Status.Compliance.State
}

func reason(conditions []metav1.Condition) string {
	c := meta.FindStatusCondition(conditions, "Ready")
	if c == nil {
		return ""
	}
	return string(c.Status) + " " + c.Reason
}

func told(t *testing.T, typ, cluster string) {
	t.Helper()
	eventually(t, "a CloudEvent "+typ, func() error {
		hook.mu.Lock()
		defer hook.mu.Unlock()
		for _, e := range hook.events {
			if e.Type == typ && e.Subject == cluster && e.SpecVersion == "1.0" && e.Source == "/boltseal-system/hub" {
				return nil
			}
		}
		return fmt.Errorf("%d others", len(hook.events))
	})
}

// TestAssignment follows an assignment into the bundle, and the report back.
func TestAssignment(t *testing.T) {
	create(t, newCluster("a1", "/a"))
	var c v1alpha1.Cluster
	stands(t, "a1", &c, "judged", func() bool { return c.Status.ObservedGeneration == c.Generation })
	create(t, newAssignment("a", "/a", "Deny"))
	var b v1alpha1.ClusterBundle
	stands(t, "a1", &b, "has a demand that denies", func() bool {
		return len(b.Spec.Demands) == 1 && b.Spec.Demands[0].EnforcementAction == integrity.Deny && b.Spec.AddOn.Enabled == nil
	})
	stands(t, "a1", &c, "lacks the add-on", func() bool { return state(&c) == v1alpha1.NonCompliant })
	told(t, hub.TypeNonCompliant, "a1")

	// An update of the cluster deploys, as a new assignment alone does not.
	change(t, "a1", &c, func() { c.Spec.Location = "westeurope" })
	stands(t, "a1", &c, "is given the add-on", func() bool {
		on := c.Spec.SecurityProfile.ImageIntegrity.Enabled
		return on != nil && *on && c.Status.ObservedGeneration == c.Generation
	})
	stands(t, "a1", &b, "demands the add-on", func() bool { return b.Spec.AddOn.Enabled != nil && *b.Spec.AddOn.Enabled })
	report(t, "a1", v1alpha1.AddOnInstalled, v1alpha1.Compliant)
	stands(t, "a1", &c, "is compliant", func() bool { return state(&c) == v1alpha1.Compliant && c.Status.AddOn == v1alpha1.AddOnInstalled })
	var a v1alpha1.PolicyAssignment
	stands(t, "a", &a, "is compliant", func() bool {
		return a.Status.Compliance != nil && a.Status.Compliance.CompliantPercent == "100.0" && a.Status.ID != "" && reason(a.Status.Conditions) == "True Assigned"
	})
	report(t, "a1", v1alpha1.AddOnInstalled, v1alpha1.NonCompliant)
	stands(t, "a1", &c, "violates", func() bool { return state(&c) == v1alpha1.NonCompliant && c.Status.Compliance.Violations == 2 })
	report(t, "a1", v1alpha1.AddOnInstalled, v1alpha1.Compliant)
	told(t, hub.TypeCompliant, "a1")

	// A slip switches nothing off, and is told.
	change(t, "a", &a, func() { a.Spec.PolicyDefinitionID = "no-such" })
	stands(t, "a", &a, "is broken", func() bool { return reason(a.Status.Conditions) == "False DefinitionNotFound" })
	stands(t, "a1", &b, "keeps its demand", func() bool { return len(b.Spec.Demands) == 1 })
	change(t, "a", &a, func() { a.Spec.PolicyDefinitionID = "image-integrity" })
	stands(t, "a", &a, "is mended", func() bool { return reason(a.Status.Conditions) == "True Assigned" })

	// Hand edits are put back.
	change(t, "a1", &b, func() { b.Spec.Demands = nil })
	stands(t, "a1", &b, "is put back", func() bool { return len(b.Spec.Demands) == 1 })

	if err := admin.Delete(t.Context(), &a); err != nil {
		t.Fatal(err)
	}
	stands(t, "a1", &b, "demands nothing", func() bool { return len(b.Spec.Demands) == 0 })
	if err := admin.Delete(t.Context(), &c); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the bundle goes with its cluster", func() error {
		err := admin.Get(t.Context(), client.ObjectKey{Name: "a1"}, &b)
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
}

// TestNothingIsWrittenWhenNothingChanged looks at resource versions over several passes.
func TestNothingIsWrittenWhenNothingChanged(t *testing.T) {
	create(t, newCluster("i1", "/i"), newAssignment("i", "/i", "Audit"))
	var c v1alpha1.Cluster
	stands(t, "i1", &c, "judged", func() bool { return state(&c) != "" && c.Status.ObservedGeneration == c.Generation })
	report(t, "i1", v1alpha1.AddOnInstalled, v1alpha1.Compliant)
	stands(t, "i1", &c, "compliant", func() bool { return state(&c) == v1alpha1.Compliant })
	versions := func() (out [3]string) {
		var b v1alpha1.ClusterBundle
		var a v1alpha1.PolicyAssignment
		for n, o := range []client.Object{&c, &b, &a} {
			if err := admin.Get(t.Context(), client.ObjectKey{Name: []string{"i1", "i1", "i"}[n]}, o); err != nil {
				t.Fatal(err)
			}
			out[n] = o.GetResourceVersion()
		}
		return out
	}
	eventually(t, "a while without a write", func() error {
		before := versions()
		time.Sleep(1500 * time.Millisecond) // waits: some passes of the hub; on a slow machine fewer, which find nothing that is not there
		if after := versions(); after != before {
			return fmt.Errorf("%v, and then %v", before, after)
		}
		return nil
	})
}

// TestRemediation has three clusters, one of which fails, with a restart in the middle.
func TestRemediation(t *testing.T) {
	create(t, newCluster("r1", "/r"), newCluster("r2", "/r"), newCluster("r3", "/r"))
	var c v1alpha1.Cluster
	for _, name := range []string{"r1", "r2", "r3"} {
		stands(t, name, &c, "judged", func() bool { return c.Status.ObservedGeneration == c.Generation })
	}
	// What somebody disabled is left alone by assignments.
	change(t, "r3", &c, func() { c.Spec.SecurityProfile.ImageIntegrity.Enabled = new(false) })
	create(t, newAssignment("r", "/r", "Audit"))
	stands(t, "r3", &c, "stays disabled", func() bool {
		return state(&c) == v1alpha1.NonCompliant && !*c.Spec.SecurityProfile.ImageIntegrity.Enabled
	})
	m := &v1alpha1.Remediation{ObjectMeta: metav1.ObjectMeta{Name: "r"},
		Spec: v1alpha1.RemediationSpec{PolicyAssignmentID: "r", PolicyDefinitionReferenceID: "deployAKSImageIntegrity", ParallelDeployments: 1}}
	create(t, m)
	running := func(name string, success, failed int32) {
		t.Helper()
		stands(t, "r", m, name+" is under way", func() bool {
			d, n := m.Status.Deployments, m.Status.DeploymentStatus
			return len(d) > 0 && d[len(d)-1].Cluster == name && d[len(d)-1].Status == "Running" && n.TotalDeployments == 3 && n.SuccessfulDeployments == success && n.FailedDeployments == failed
		})
	}
	running("r1", 0, 0)
	report(t, "r1", v1alpha1.AddOnInstalled, v1alpha1.Compliant)
	running("r2", 1, 0)
	stop()
	report(t, "r2", v1alpha1.AddOnFailed, v1alpha1.Unknown)
	start()
	running("r3", 1, 1)
	report(t, "r3", v1alpha1.AddOnInstalled, v1alpha1.Compliant)
	stands(t, "r", m, "is complete", func() bool {
		n := m.Status.DeploymentStatus
		return m.Status.ProvisioningState == v1alpha1.RemediationComplete && n.SuccessfulDeployments == 2 && n.FailedDeployments == 1
	})
	if err := admin.Get(t.Context(), client.ObjectKey{Name: "r"}, m); err != nil {
		t.Fatal(err)
	}
	m.Spec.ResourceCount = 7
	if err := admin.Update(t.Context(), m); !apierrors.IsInvalid(err) {
		t.Errorf("a remediation that has started was changed: %v", err)
	}
	// Another one tries r2 again at once, and is cancelled: what is under way is finished.
	again := &v1alpha1.Remediation{ObjectMeta: metav1.ObjectMeta{Name: "again"}, Spec: m.Spec}
	again.Spec.ResourceCount = 0
	create(t, again)
	var b v1alpha1.ClusterBundle
	stands(t, "r2", &b, "is tried again", func() bool { return b.Spec.AddOn.Attempt == 1 })
	change(t, "again", again, func() { again.Spec.Cancel = true })
	stands(t, "again", again, "is cancelling", func() bool { return again.Status.ProvisioningState == v1alpha1.RemediationCancelling })
	report(t, "r2", v1alpha1.AddOnInstalled, v1alpha1.Compliant)
	stands(t, "again", again, "is canceled", func() bool {
		return again.Status.ProvisioningState == v1alpha1.RemediationCanceled && again.Status.DeploymentStatus.SuccessfulDeployments == 1
	})
}

func TestFailureThreshold(t *testing.T) {
	create(t, newCluster("f1", "/f"), newCluster("f2", "/f"))
	var c v1alpha1.Cluster
	for _, name := range []string{"f1", "f2"} {
		stands(t, name, &c, "judged", func() bool { return c.Status.ObservedGeneration == c.Generation })
	}
	create(t, newAssignment("f", "/f", "Audit"))
	m := &v1alpha1.Remediation{ObjectMeta: metav1.ObjectMeta{Name: "f"}, Spec: v1alpha1.RemediationSpec{PolicyAssignmentID: "f",
		PolicyDefinitionReferenceID: "deployAKSImageIntegrity", ParallelDeployments: 1, FailureThreshold: &v1alpha1.FailureThreshold{}}}
	stands(t, "f1", &c, "lacks the add-on", func() bool { return state(&c) == v1alpha1.NonCompliant })
	create(t, m)
	stands(t, "f", m, "f1 is under way", func() bool { return len(m.Status.Deployments) == 1 && m.Status.Deployments[0].Status == "Running" })
	report(t, "f1", v1alpha1.AddOnFailed, v1alpha1.Unknown)
	stands(t, "f", m, "failed", func() bool {
		return m.Status.ProvisioningState == v1alpha1.RemediationFailed && m.Status.DeploymentStatus.FailedDeployments == 1 && m.Status.Cursor == "f1"
	})
}

func TestExemption(t *testing.T) {
	create(t, newCluster("e1", "/e"), newAssignment("e", "/e", "Deny"))
	end := metav1.NewTime(time.Now().Add(time.Hour))
	e := &v1alpha1.PolicyExemption{ObjectMeta: metav1.ObjectMeta{Name: "e"}, Spec: v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: "e", ExemptionCategory: "Waiver", ExpiresOn: &end}}
	create(t, e)
	var b v1alpha1.ClusterBundle
	stands(t, "e1", &b, "is exempt", func() bool { return len(b.Spec.Demands) == 1 && len(b.Spec.Demands[0].Exemptions) == 1 })
	change(t, "e", e, func() {
		end = metav1.NewTime(time.Now().Add(3 * time.Second)) // the hub has seen it by then, or sees that it has ended
		e.Spec.ExpiresOn = &end
	})
	stands(t, "e", e, "is expired", func() bool { return reason(e.Status.Conditions) == "False Expired" })
	stands(t, "e1", &b, "is not exempt any more", func() bool { return len(b.Spec.Demands[0].Exemptions) == 0 })
	told(t, hub.TypeExemptionExpired, "e")
}

// TestStolenAgent does what an agent's credential allows, and tries what it must not.
func TestStolenAgent(t *testing.T) {
	create(t, newCluster("s1", "/s"), newCluster("s2", "/s"), newAssignment("s", "/s", "Deny"))
	if err := grant(t.Context(), "agent-s1", hub.AgentRules("s1")); err != nil {
		t.Fatal(err)
	}
	config, err := cluster.UserConfig("agent-s1")
	if err != nil {
		t.Fatal(err)
	}
	agent, err := client.New(config, client.Options{Scheme: newScheme()})
	if err != nil {
		t.Fatal(err)
	}
	var b v1alpha1.ClusterBundle
	stands(t, "s2", &b, "is there", func() bool { return len(b.Spec.Demands) == 1 })
	stands(t, "s1", &b, "is there", func() bool { return len(b.Spec.Demands) == 1 })
	ctx := t.Context()
	lie := func(name string) error {
		far := metav1.NewTime(time.Now().Add(100 * 365 * 24 * time.Hour))
		r := &v1alpha1.ClusterReport{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "ClusterReport"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
		r.Report = v1alpha1.ClusterReportContent{At: &far, Version: "\x1b[2J\nforged", Pods: -5, BundleGeneration: b.Generation,
			Demands: []v1alpha1.DemandReport{{Name: b.Spec.Demands[0].Name, State: v1alpha1.Compliant, Violations: -1}}}
		return agent.Patch(ctx, r, client.Apply, client.FieldOwner("agent"))
	}
	if err := agent.Get(ctx, client.ObjectKey{Name: "s1"}, &b); err != nil {
		t.Errorf("its own bundle: %v", err)
	}
	if err := lie("s1"); err != nil {
		t.Errorf("its own report: %v", err)
	}
	t.Cleanup(func() { _ = agent.Delete(ctx, &v1alpha1.ClusterReport{ObjectMeta: metav1.ObjectMeta{Name: "s1"}}) })
	for what, err := range map[string]error{
		"another's report":  lie("s2"),
		"another's bundle":  agent.Get(ctx, client.ObjectKey{Name: "s2"}, &v1alpha1.ClusterBundle{}),
		"all bundles":       agent.List(ctx, &v1alpha1.ClusterBundleList{}),
		"its bundle":        agent.Update(ctx, b.DeepCopy()),
		"its cluster":       agent.Get(ctx, client.ObjectKey{Name: "s1"}, &v1alpha1.Cluster{}),
		"an assignment":     agent.Create(ctx, newAssignment("stolen", "/", "Disabled")),
		"an exemption":      agent.Create(ctx, &v1alpha1.PolicyExemption{ObjectMeta: metav1.ObjectMeta{Name: "stolen"}}),
		"deleting a report": agent.Delete(ctx, &v1alpha1.ClusterReport{ObjectMeta: metav1.ObjectMeta{Name: "s1"}}),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
	var c v1alpha1.Cluster
	stands(t, "s1", &c, "the lie is cleaned, and not believed", func() bool {
		return c.Status.Version == "[2Jforged" && c.Status.Compliance != nil && c.Status.Compliance.Pods == 0 && state(&c) == v1alpha1.Unknown && c.Status.LastSeen == nil
	})
	for _, s := range c.Status.Assignments {
		if s.State == v1alpha1.Compliant {
			t.Errorf("%s is compliant by a lie", s.PolicyDefinitionReferenceID)
		}
	}
}
