package agent

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/render"
)

func secrets() *corev1.SecretList { return &corev1.SecretList{} }

func configMap() *corev1.ConfigMap { return &corev1.ConfigMap{} }

func binding(name, user string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}}
}

// TestMembersOwnPoliciesStay has users' policies under the very names that bundles come to, with and without the
// marks of governance, and bundles that would loosen or remove them.
func TestMembersOwnPoliciesStay(t *testing.T) {
	forget(t)
	b := bundle("o1", "Audit")
	name := b.Spec.Demands[0].Name
	strict := integrity.ImageIntegrityPolicySpec{EnforcementAction: integrity.Deny, Match: integrity.Match{Kinds: []string{"Pod"}}}
	marks := map[string]string{render.LabelGovernance: render.ByGovernance, render.LabelManagedBy: render.ManagedByAddOn}
	own := []*integrity.ImageIntegrityPolicy{
		{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Spec: strict},
		{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: strict}, // the name that the bundle wants
		{ObjectMeta: metav1.ObjectMeta{Name: "copied", Labels: maps.Clone(marks), Annotations: map[string]string{
			"boltseal.dev/governed-as": "copied", render.AnnotationAssignment: b.Spec.Demands[0].AssignmentID}}, Spec: strict},
	}
	for _, p := range own {
		create(t, inMember, p)
	}
	untouched := func() {
		t.Helper()
		for _, p := range own {
			var live integrity.ImageIntegrityPolicy
			if err := inMember.Get(t.Context(), client.ObjectKeyFromObject(p), &live); err != nil {
				t.Fatal(err)
			}
			if live.UID != p.UID || live.Generation != 1 || !equality.Semantic.DeepEqual(live.Spec, p.Spec) || !equality.Semantic.DeepEqual(live.Labels, p.Labels) {
				t.Errorf("%s was changed: %+v", p.Name, live)
			}
		}
	}
	newRunner(t, "o1").start(t)
	create(t, atHub, b)
	report(t, "o1", "is in conflict", func(r *v1alpha1.ClusterReportContent) bool {
		return len(r.Demands) == 1 && r.Demands[0].State == v1alpha1.Conflict && r.Demands[0].Reason == "PolicyNameConflicts"
	})
	untouched()
	// Names of users' policies, exemptions of everything, lists as long as may be.
	var long []string
	for n := range 1000 {
		long = append(long, fmt.Sprintf("r.example/%s/%d", strings.Repeat("x", 100), n))
	}
	change(t, atHub, "o1", b, func() {
		d := b.Spec.Demands[0]
		d.Name, d.AssignmentID = "mine", "/scope/other"
		d.Exemptions = []v1alpha1.BundleExemption{{Name: "all", Category: "Waiver"}, {Name: "ns", Category: "Waiver", Within: &v1alpha1.ExemptionWithin{Namespaces: []string{"*"}}}}
		e := d
		e.Name, e.AssignmentID, e.Exemptions, e.ExcludedImages = render.Name("/scope/long", "r"), "/scope/long", nil, long
		f := d
		f.Name, f.AssignmentID, f.Template = render.Name("/scope/template", "r"), "/scope/template", "kind: Pod"
		b.Spec.Demands = []v1alpha1.Demand{d, e, f}
	})
	policy(t, render.Name("/scope/long", "r"), "stands beside", func(p *integrity.ImageIntegrityPolicy) bool { return len(p.Spec.ExcludedImages) == 1000 })
	report(t, "o1", "tells of each", func(r *v1alpha1.ClusterReportContent) bool {
		return len(r.Demands) == 3 && r.Demands[0].State == v1alpha1.Conflict && r.Demands[1].State == v1alpha1.Unknown && r.Demands[2].State == v1alpha1.Failed
	})
	untouched()
	// A bundle that demands nothing removes what was made for the one before, and nothing else.
	change(t, atHub, "o1", b, func() { b.Spec.Demands = nil })
	gone(t, inMember, render.Name("/scope/long", "r"), &integrity.ImageIntegrityPolicy{})
	untouched()
	// Where the user's goes, the demand's comes.
	change(t, atHub, "o1", b, func() { b.Spec.Demands = bundle("o1", "Audit").Spec.Demands })
	report(t, "o1", "is in conflict again", func(r *v1alpha1.ClusterReportContent) bool {
		return len(r.Demands) == 1 && r.Demands[0].State == v1alpha1.Conflict
	})
	if err := inMember.Delete(context.Background(), own[1]); err != nil {
		t.Fatal(err)
	}
	policy(t, name, "comes where the user's was", func(p *integrity.ImageIntegrityPolicy) bool { return p.Spec.EnforcementAction == integrity.DryRun })
}
