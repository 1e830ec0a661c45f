package running

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// TestExemptIsCountedApart: what is exempt is neither trusted nor a violation, wherever it is told, and it is looked
// at again when the exemption ends.
func TestExemptIsCountedApart(t *testing.T) {
	t.Parallel()
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	at := metav1.NewTime(end)
	s := newScene(t)
	prod := policyOf(t, "prod", v1alpha1.ImageIntegrityPolicySpec{Exemptions: []v1alpha1.Exemption{
		{Name: "old", Category: v1alpha1.Waiver, Namespaces: []string{"old"}, Expires: &at}, {Name: "ever", Category: v1alpha1.Waiver, Namespaces: []string{"ever"}}}})
	s.configure(engines{cluster: s.Engine}, prod)
	signed, signedAt := s.Signed("signed", s.Signer)
	unsigned, unsignedAt := s.Signed("unsigned")
	s.run("old", signed, signedAt)
	s.run("old", unsigned, unsignedAt)
	s.run("old", unsigned, unsignedAt)
	r := s.look()
	if want := (Counts{Trusted: 1, Exempt: 2}); r.Pods != want || r.Policies[0].Pods != want || r.Images != (Counts{Trusted: 1, Exempt: 1}) {
		t.Errorf("%+v", r)
	}
	f := r.Findings[0] // the worst first
	if f.Outcome != Exempt || f.Exemption != "old" || !f.Until.Equal(end) || f.Reason.Message == "" || f.Pods != 2 {
		t.Errorf("%+v", f)
	}
	a := auditOf(&r.Policies[0], firstFindings{}, trusted{})
	if a.Pods != 3 || a.Exempt != 2 || a.Violations != 0 || len(findFirst(r)["prod"].violations) > 0 {
		t.Errorf("%+v", a)
	}
	if first := findFirst(r)["prod"]; len(first.exempt) != 1 || first.exempt[0].Pods != 2 || first.exempt[0].Namespace != "old" || first.exemptOtherwise != 0 {
		t.Errorf("%+v", first)
	}
	n := reportsOf(r)["old"]
	if n.summary.Skip != 2 || n.summary.Fail != 0 || n.single[0].Result != "skip" || n.single[0].Properties[propertyExempt] != "old" ||
		!strings.Contains(n.single[0].Description, "exempt until "+end.UTC().Format(time.RFC3339)) {
		t.Errorf("%+v", n)
	}
	if wake, ok := s.judge.wake(); !ok || !wake.Equal(end) {
		t.Errorf("it wakes at %v, %t", wake, ok)
	}
	s.ahead.Store(int64(time.Until(end)) + 1)
	if r = s.look(); r.Pods != (Counts{Trusted: 1, NotTrusted: 2}) || r.Findings[0].Exemption != "" {
		t.Errorf("after the end: %+v", r)
	}
	if wake, ok := s.judge.wake(); ok {
		t.Errorf("it wakes at %v for nothing", wake)
	}
	// One image in two namespaces is as bad as it is anywhere.
	s.run("ever", unsigned, unsignedAt)
	if r = s.look(); r.Images.NotTrusted != 1 || r.Images.Exempt != 0 || r.Pods != (Counts{Trusted: 1, Exempt: 1, NotTrusted: 2}) {
		t.Errorf("%+v", r)
	}
}

// failing is an API server that stops answering.
type failing struct {
	images []string
	err    error
	asked  int
}

func (f *failing) Images(context.Context, string, integrity.Owner) ([]string, error) {
	f.asked++
	return f.images, f.err
}

// TestOwnersAreAskedSeldom: once for all Pods of an owner, only where it matters, and what cannot be asked is not
// believed.
func TestOwnersAreAskedSeldom(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	owners := &failing{err: errors.New("timeout")}
	s.judge.o.Owners = owners
	web := v1alpha1.Exemption{Name: "web", Category: v1alpha1.Waiver, Workloads: []v1alpha1.ExemptWorkload{{Kind: "StatefulSet", Name: "web", Namespace: "shop"}}}
	s.configure(engines{cluster: s.Engine}, policyOf(t, "prod", v1alpha1.ImageIntegrityPolicySpec{Exemptions: []v1alpha1.Exemption{web}}))
	signed, signedAt := s.Signed("signed", s.Signer)
	unsigned, unsignedAt := s.Signed("unsigned")
	yes := true
	add := func(name, owner, image, at string) {
		p := podOf("shop", name, image, at)
		p.Labels = nil
		p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: owner, UID: "u", Controller: &yes}}
		s.pods.AddPod(p)
	}
	add("web-0", "web", signed, signedAt)
	add("db-0", "db", unsigned, unsignedAt)
	if s.look(); owners.asked != 0 {
		t.Errorf("asked %d times for nothing", owners.asked)
	}
	add("web-1", "web", unsigned, unsignedAt)
	add("web-2", "web", unsigned, unsignedAt)
	if r := s.look(); r.Pods.Exempt != 0 || owners.asked != 1 {
		t.Errorf("%+v, asked %d times", r.Pods, owners.asked)
	}
	owners.err, owners.images = nil, []string{"elsewhere:1", unsigned}
	for range 2 {
		if r := s.look(); r.Pods != (Counts{Trusted: 1, Exempt: 2, NotTrusted: 1}) || owners.asked != 2 {
			t.Errorf("%+v, asked %d times", r.Pods, owners.asked)
		}
	}
	owners.err = errors.New("timeout")
	s.ahead.Store(int64(ownerAge))
	if r := s.look(); r.Pods.Exempt != 2 || owners.asked != 3 {
		t.Errorf("an outage: %+v, asked %d times", r.Pods, owners.asked)
	}
	owners.err, owners.images = nil, nil
	if r := s.look(); r.Pods.Exempt != 0 || r.Pods.NotTrusted != 3 {
		t.Errorf("the owner is gone: %+v", r.Pods)
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pod, named string
		want       bool
	}{
		{"a:1", "a:1", true}, {"a:1@sha256:0", "a:1", true}, {"a:latest@sha256:0", "a", true}, {"a@sha256:0", "a@sha256:0", true},
		{"a:2", "a:1", false}, {"a:1", "a", false}, {"a@sha256:1", "a@sha256:0", false}, {"a:1@sha256:1", "a:1@sha256:0", false}, {"a:2@sha256:0", "a:1", false},
	} {
		if runsImage(c.pod, c.named) != c.want {
			t.Errorf("%s of %s", c.pod, c.named)
		}
	}
}
