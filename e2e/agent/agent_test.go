package agent

import (
	"context"
	"fmt"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/agent"
	"github.com/boltseal/boltseal/internal/governance/hub"
	"github.com/boltseal/boltseal/internal/governance/render"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// bundle is one demand of one cluster.
func bundle(cluster, effect string) *v1alpha1.ClusterBundle {
	id := "/scope/" + cluster + "/assignment"
	action := integrity.DryRun
	if effect == "Deny" {
		action = integrity.Deny
	}
	return &v1alpha1.ClusterBundle{ObjectMeta: metav1.ObjectMeta{Name: cluster}, Spec: v1alpha1.ClusterBundleSpec{Engine: v1alpha1.EngineBoltseal,
		Demands: []v1alpha1.Demand{{Name: render.Name(id, "r"), Assignment: "a", AssignmentID: id, DefinitionID: "d", DefinitionReferenceID: "r",
			Effect: effect, EnforcementAction: action}}}}
}

func policy(t testing.TB, name, what string, ok func(*integrity.ImageIntegrityPolicy) bool) *integrity.ImageIntegrityPolicy {
	t.Helper()
	p := &integrity.ImageIntegrityPolicy{}
	stands(t, inMember, name, p, what, func() bool { return ok(p) })
	return p
}

func denies(p *integrity.ImageIntegrityPolicy) bool {
	return p.Spec.EnforcementAction == integrity.Deny
}

func gone(t testing.TB, c client.Client, name string, o client.Object) {
	t.Helper()
	eventually(t, name+" is gone", func() error {
		err := c.Get(t.Context(), client.ObjectKey{Name: name}, o)
		if !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there: %w", err)
		}
		return nil
	})
}

func report(t testing.TB, cluster, what string, ok func(*v1alpha1.ClusterReportContent) bool) *v1alpha1.ClusterReport {
	t.Helper()
	r := &v1alpha1.ClusterReport{}
	stands(t, atHub, cluster, r, what, func() bool { return ok(&r.Report) })
	return r
}

// finds writes what the audit would into a policy's status.
func finds(t testing.TB, name string, audit *integrity.Audit) {
	t.Helper()
	p := &integrity.ImageIntegrityPolicy{}
	eventually(t, "status of "+name, func() error {
		if err := inMember.Get(t.Context(), client.ObjectKey{Name: name}, p); err != nil {
			return err
		}
		audit.ChangedAt = metav1.NewTime(time.Now().Truncate(time.Second))
		p.Status = integrity.ImageIntegrityPolicyStatus{ObservedGeneration: p.Generation, Audit: audit}
		return inMember.Status().Update(t.Context(), p)
	})
}

// TestAssignment follows an assignment at the hub to the policy in the member, and what is found back.
func TestAssignment(t *testing.T) {
	forget(t)
	if err := grant(t.Context(), atHub, "hub", hub.Rules(), nil); err != nil {
		t.Fatal(err)
	}
	config, err := hubCluster.UserConfig("hub")
	if err != nil {
		t.Fatal(err)
	}
	h, err := hub.New(hub.Options{Config: config, Namespace: namespace})
	if err != nil {
		t.Fatal(err)
	}
	startHub := func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- h.Run(ctx) }()
		return func() { cancel(); <-ended }
	}
	stopHub := startHub()
	defer func() { stopHub() }()
	newRunner(t, "m1").start(t)
	create(t, atHub, &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "m1"}, Spec: v1alpha1.ClusterSpec{Scope: "/m"}})
	a := &v1alpha1.PolicyAssignment{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/m", PolicyDefinitionID: "image-integrity"}}
	var effect v1alpha1.ParameterValue
	effect.Value.Raw = []byte(`"Deny"`)
	a.Spec.Parameters = map[string]v1alpha1.ParameterValue{"effect": effect}
	begun := time.Now()
	create(t, atHub, a)
	var b v1alpha1.ClusterBundle
	stands(t, atHub, "m1", &b, "has the demand", func() bool { return len(b.Spec.Demands) == 1 })
	t.Logf("from the assignment to the bundle: %s", time.Since(begun).Round(time.Millisecond))
	var name string
	eventually(t, "a policy that denies", func() error {
		var all unstructured.UnstructuredList
		all.SetGroupVersionKind(integrity.GroupVersion.WithKind("ImageIntegrityPolicyList"))
		if err := inMember.List(t.Context(), &all, client.MatchingLabels{render.LabelGovernance: render.ByGovernance}); err != nil {
			return err
		}
		for _, p := range all.Items {
			if action, _, _ := unstructured.NestedString(p.Object, "spec", "enforcementAction"); action == "deny" && p.GetAnnotations()[render.AnnotationAssignment] != "" {
				name = p.GetName()
				return nil
			}
		}
		return fmt.Errorf("%d others", len(all.Items))
	})
	t.Logf("from the assignment to the policy: %s", time.Since(begun).Round(time.Millisecond))
	finds(t, name, &integrity.Audit{Pods: 7, Images: 3, Violations: 2, ViolatingImages: 1,
		First: []integrity.AuditViolation{{Namespace: "web", Image: "r.example/x@sha256:1", Pods: 2, Pod: "x-1", Reason: "unsigned", Message: "no signature"}}})
	var c v1alpha1.Cluster
	stands(t, atHub, "m1", &c, "violates", func() bool {
		for _, s := range c.Status.Assignments {
			if s.Assignment == "m" && s.State == v1alpha1.NonCompliant && s.Reason == "PodsViolate" {
				return true
			}
		}
		return false
	})
	t.Logf("to compliance at the hub: %s", time.Since(begun).Round(time.Millisecond))
	r := report(t, "m1", "names the image", func(r *v1alpha1.ClusterReportContent) bool {
		return len(r.Demands) == 1 && r.Demands[0].Violations == 2 && r.Demands[0].Pods == 7 && len(r.Demands[0].Components) == 1
	})
	if got := r.Report.Demands[0].Components[0]; got.Namespace != "web" || got.Reason != "unsigned" || got.Pods != 2 || got.FirstSeen.IsZero() || got.LastSeen.IsZero() {
		t.Errorf("component %+v", got)
	}
	if r.Report.Version != "test" || r.Report.Engine != v1alpha1.EngineBoltseal || r.Report.AddOn.State != v1alpha1.AddOnInstalled || r.Report.AddOn.InstalledBy != "other" {
		t.Errorf("report %+v", r.Report)
	}
	// A hub that is killed and started again changes nothing.
	stopHub()
	stopHub = startHub()
	if err := atHub.Delete(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	gone(t, inMember, name, &integrity.ImageIntegrityPolicy{})
}

func TestHandEditsArePutBack(t *testing.T) {
	forget(t)
	newRunner(t, "h1").start(t)
	b := bundle("h1", "Deny")
	name := b.Spec.Demands[0].Name
	create(t, atHub, b)
	p := policy(t, name, "denies", denies)
	for what, edit := range map[string]func(){
		"another action":          func() { p.Spec.EnforcementAction = integrity.DryRun },
		"a field that is not set": func() { p.Spec.OnUnavailable = integrity.OnUnavailable{Action: integrity.UnavailableAllow} },
		"an exclusion":            func() { p.Spec.Match.ExcludedNamespaces = []string{"*"} },
		"without labels":          func() { p.Labels = nil },
		"without annotations":     func() { p.Annotations = nil },
		"without either":          func() { p.Labels, p.Annotations = nil, nil; p.Spec.ExcludedImages = []string{"r.example/*"} },
	} {
		change(t, inMember, name, p, edit)
		policy(t, name, what+" is put back", func(p *integrity.ImageIntegrityPolicy) bool {
			return denies(p) && p.Spec.OnUnavailable.Action != integrity.UnavailableAllow && len(p.Spec.Match.ExcludedNamespaces) == 0 && len(p.Spec.ExcludedImages) == 0 &&
				p.Labels[render.LabelGovernance] == render.ByGovernance && p.Annotations[render.AnnotationAssignment] != ""
		})
	}
	if err := inMember.Delete(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	policy(t, name, "is made again", denies)
	// What a user adds to labels is the user's.
	change(t, inMember, name, p, func() { p.Labels["team"] = "x"; p.Spec.EnforcementAction = integrity.Warn })
	policy(t, name, "is put back beside the user's label", func(p *integrity.ImageIntegrityPolicy) bool { return denies(p) && p.Labels["team"] == "x" })
}

// TestHubAway cuts the hub off, restarts the agent without it, and ends an exemption meanwhile.
func TestHubAway(t *testing.T) {
	forget(t)
	r := newRunner(t, "w1")
	r.start(t)
	b := bundle("w1", "Deny")
	name := b.Spec.Demands[0].Name
	end := metav1.NewTime(time.Now().Add(time.Hour).Truncate(time.Second))
	b.Spec.Demands[0].Exemptions = []v1alpha1.BundleExemption{
		{Name: "whole", Category: "Waiver", ExpiresOn: &end},
		{Name: "some", Category: "Waiver", Within: &v1alpha1.ExemptionWithin{Namespaces: []string{"legacy"}}}}
	create(t, atHub, b)
	policy(t, name, "is exempt", func(p *integrity.ImageIntegrityPolicy) bool {
		return p.Spec.EnforcementAction == integrity.DryRun && len(p.Spec.Exemptions) == 1 && p.Spec.Exemptions[0].Name == "some"
	})
	finds(t, name, &integrity.Audit{Pods: 1, Images: 1, Violations: 1, ViolatingImages: 1,
		First: []integrity.AuditViolation{{Namespace: "web", Image: "r.example/x", Pods: 1, Pod: "x", Reason: "unsigned", Message: "m"}}})
	before := report(t, "w1", "is exempt", func(r *v1alpha1.ClusterReportContent) bool {
		return len(r.Demands) == 1 && r.Demands[0].State == v1alpha1.Exempt && r.Demands[0].Exempt == 1 && len(r.Demands[0].Components) == 1
	})
	first, sequence := before.Report.Demands[0].Components[0].FirstSeen, before.Report.Sequence
	var at v1alpha1.ClusterBundle
	testwait.Grow(t, 6*time.Second, func(left time.Duration) error { // the agent hears of the end before it comes
		change(t, atHub, "w1", &at, func() {
			end = metav1.NewTime(time.Now().Add(left).Truncate(time.Second))
			at.Spec.Demands[0].Exemptions[0].ExpiresOn = &end
		})
		heard := report(t, "w1", "is of the bundle with the end", func(r *v1alpha1.ClusterReportContent) bool { return r.BundleGeneration == at.Generation })
		if state := heard.Report.Demands[0].State; state != v1alpha1.Exempt {
			return fmt.Errorf("%s at the first report of it", state)
		}
		return nil
	})
	proxy.close()
	t.Cleanup(proxy.open)
	r.stop()
	r.start(t)
	if err := inMember.Delete(t.Context(), &integrity.ImageIntegrityPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
		t.Fatal(err)
	}
	policy(t, name, "denies when the exemption ended, without the hub", func(p *integrity.ImageIntegrityPolicy) bool {
		return denies(p) && len(p.Spec.Exemptions) == 1
	})
	if time.Now().Before(end.Time) {
		t.Error("the exemption ended too early")
	}
	// Meanwhile the hub changes its mind.
	change(t, atHub, "w1", &at, func() {
		at.Spec.Demands[0].Exemptions = nil
		at.Spec.Demands[0].ExcludedImages = []string{"r.example/base:1"}
	})
	proxy.open()
	policy(t, name, "catches up", func(p *integrity.ImageIntegrityPolicy) bool { return denies(p) && len(p.Spec.ExcludedImages) == 1 })
	finds(t, name, &integrity.Audit{Pods: 1, Images: 1, Violations: 1, ViolatingImages: 1,
		First: []integrity.AuditViolation{{Namespace: "web", Image: "r.example/x", Pods: 1, Pod: "x", Reason: "unsigned", Message: "m"}}})
	after := report(t, "w1", "is non-compliant", func(r *v1alpha1.ClusterReportContent) bool {
		return len(r.Demands) == 1 && r.Demands[0].State == v1alpha1.NonCompliant && len(r.Demands[0].Components) == 1 && r.BundleGeneration == at.Generation
	})
	if got := after.Report.Demands[0].Components[0].FirstSeen; !got.Equal(&first) {
		t.Errorf("first seen %s, before the restart %s", got, first)
	}
	if after.Report.Sequence <= sequence {
		t.Errorf("sequence %d after %d", after.Report.Sequence, sequence)
	}
}

// TestOwnHub has a cluster that is its own hub, and reports although nothing changes.
func TestOwnHub(t *testing.T) {
	forget(t)
	r := newRunner(t, "own")
	user := "agent-own-hub"
	if err := grant(t.Context(), inMember, user, append(hub.AgentRules("own"), agent.Rules()...), agent.NamespaceRules()); err != nil {
		t.Fatal(err)
	}
	config, err := member.UserConfig(user)
	if err != nil {
		t.Fatal(err)
	}
	r.o.Hub, r.o.Member, r.o.Heartbeat, r.o.Recheck = config, config, 2*time.Second, 200*time.Millisecond
	r.start(t)
	b := bundle("own", "Deny")
	create(t, inMember, b)
	policy(t, b.Spec.Demands[0].Name, "denies", denies)
	rep := &v1alpha1.ClusterReport{}
	t.Cleanup(func() { _ = inMember.Delete(context.Background(), rep) })
	stands(t, inMember, "own", rep, "is about the bundle", func() bool { return rep.Report.BundleGeneration == b.Generation && len(rep.Report.Demands) == 1 })
	sequence, at := rep.Report.Sequence, rep.Report.At
	stands(t, inMember, "own", rep, "is told again", func() bool {
		return rep.Report.Sequence > sequence && at.Before(rep.Report.At)
	})
}

// TestBundleGone deletes a bundle: only after a while nothing is demanded any more.
func TestBundleGone(t *testing.T) {
	forget(t)
	r := newRunner(t, "g1")
	r.o.GoneAfter = 3 * time.Second
	r.start(t)
	b := bundle("g1", "Deny")
	name := b.Spec.Demands[0].Name
	create(t, atHub, b)
	policy(t, name, "denies", denies)
	if err := atHub.Delete(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	deleted := time.Now()
	gone(t, inMember, name, &integrity.ImageIntegrityPolicy{})
	if took := time.Since(deleted); took < 2*time.Second { // waits: slower is later, which is as it should be
		t.Errorf("gone after %s", took)
	}
	b = bundle("g1", "Deny")
	create(t, atHub, b)
	policy(t, name, "denies again", denies)
}

// TestStolenCredential does what the agent's credential at the hub allows, and tries what it must not.
func TestStolenCredential(t *testing.T) {
	if err := grant(t.Context(), atHub, "agent-s1", hub.AgentRules("s1"), nil); err != nil {
		t.Fatal(err)
	}
	config, err := hubCluster.UserConfig("agent-s1")
	if err != nil {
		t.Fatal(err)
	}
	thief, err := client.New(config, client.Options{Scheme: newScheme()})
	if err != nil {
		t.Fatal(err)
	}
	create(t, atHub, bundle("s1", "Deny"), bundle("s2", "Deny"))
	ctx := t.Context()
	named := func(n string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: n} }
	lie := func(name string) error {
		r := &v1alpha1.ClusterReport{ObjectMeta: named(name)}
		return thief.Patch(ctx, r, client.RawPatch(types.ApplyPatchType, fmt.Appendf(nil,
			`{"apiVersion":"policy.boltseal.dev/v1alpha1","kind":"ClusterReport","metadata":{"name":%q},"report":{"version":"lie"}}`, name)), client.FieldOwner("thief"))
	}
	t.Cleanup(func() { _ = atHub.Delete(context.Background(), &v1alpha1.ClusterReport{ObjectMeta: named("s1")}) })
	var own v1alpha1.ClusterBundle
	for what, err := range map[string]error{
		"its bundle":               thief.Get(ctx, client.ObjectKey{Name: "s1"}, &own),
		"its bundle by a selector": thief.List(ctx, &v1alpha1.ClusterBundleList{}, client.MatchingFields{"metadata.name": "s1"}),
		"its report, told":         lie("s1"),
		"its report, told again":   lie("s1"),
		"its report, read":         thief.Get(ctx, client.ObjectKey{Name: "s1"}, &v1alpha1.ClusterReport{}),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, err := range map[string]error{
		"another's report":        lie("s2"),
		"another's report, read":  thief.Get(ctx, client.ObjectKey{Name: "s2"}, &v1alpha1.ClusterReport{}),
		"a new report":            thief.Create(ctx, &v1alpha1.ClusterReport{ObjectMeta: named("s3")}),
		"all reports":             thief.List(ctx, &v1alpha1.ClusterReportList{}),
		"deleting its report":     thief.Delete(ctx, &v1alpha1.ClusterReport{ObjectMeta: named("s1")}),
		"another's bundle":        thief.Get(ctx, client.ObjectKey{Name: "s2"}, &v1alpha1.ClusterBundle{}),
		"another's by a selector": thief.List(ctx, &v1alpha1.ClusterBundleList{}, client.MatchingFields{"metadata.name": "s2"}),
		"all bundles":             thief.List(ctx, &v1alpha1.ClusterBundleList{}),
		"changing its bundle":     thief.Update(ctx, own.DeepCopy()),
		"deleting its bundle":     thief.Delete(ctx, own.DeepCopy()),
		"its cluster":             thief.Get(ctx, client.ObjectKey{Name: "s1"}, &v1alpha1.Cluster{}),
		"all clusters":            thief.List(ctx, &v1alpha1.ClusterList{}),
		"a cluster of its own":    thief.Create(ctx, &v1alpha1.Cluster{ObjectMeta: named("s4")}),
		"all assignments":         thief.List(ctx, &v1alpha1.PolicyAssignmentList{}),
		"an assignment":           thief.Create(ctx, &v1alpha1.PolicyAssignment{ObjectMeta: named("s5")}),
		"an exemption":            thief.Create(ctx, &v1alpha1.PolicyExemption{ObjectMeta: named("s6")}),
		"a remediation":           thief.Create(ctx, &v1alpha1.Remediation{ObjectMeta: named("s7")}),
		"a definition":            thief.Create(ctx, &v1alpha1.PolicyDefinition{ObjectMeta: named("s8")}),
		"secrets":                 thief.List(ctx, secrets()),
		"config maps":             thief.Get(ctx, client.ObjectKey{Namespace: "kube-system", Name: "x"}, configMap()),
		"more rights":             thief.Create(ctx, binding("s9", "agent-s1")),
	} {
		if !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
