package controller

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	wrong := strict.Problems{{Field: "spec.x", Message: "is wrong"}}
	for _, tt := range []struct {
		kind    string
		st      compile.Standing
		reason  string
		message []string
	}{
		{"Store", compile.Standing{}, ReasonInForce, []string{"applied as it is written"}},
		{"Store", compile.Standing{Warnings: []strict.Problem{{Field: "spec.parameters.localCachePath", Message: "it has no effect"}}}, ReasonInForce, []string{"\nspec.parameters.localCachePath: it has no effect"}},
		{"Verifier", compile.Standing{Problems: wrong, Serving: compile.ServingLastGood}, ReasonLastGood, []string{"spec.x: is wrong", "that worked still applies"}},
		{"NamespacedVerifier", compile.Standing{Problems: wrong, Serving: compile.ServingReduced}, ReasonReduced, []string{"only signatures by the certificates that exist"}},
		{"Verifier", compile.Standing{Problems: wrong, Serving: compile.ServingStandIn}, ReasonDenying, []string{"is not trusted"}},
		{"CertificateStore", compile.Standing{Problems: wrong, Serving: compile.ServingStandIn}, ReasonBroken, []string{"no certificates"}},
		{"NamespacedKeyManagementProvider", compile.Standing{Problems: wrong, Serving: compile.ServingStandIn}, ReasonBroken, []string{"no certificates"}},
		{"NamespacedImageIntegrityPolicy", compile.Standing{Problems: wrong, Serving: compile.ServingStandIn}, ReasonDenying, []string{"strictest"}},
	} {
		v := evaluateStanding(compile.Key{Kind: tt.kind, Name: "x"}, &tt.st)
		if v.ready != (tt.reason == ReasonInForce) || v.reason != tt.reason || v.ready != (v.error == "") {
			t.Errorf("%s: %+v", tt.kind, v)
		}
		for _, part := range tt.message {
			if !strings.Contains(v.message, part) {
				t.Errorf("%s: %q lacks %q", tt.kind, v.message, part)
			}
		}
	}
}

// TestStatusIsBounded: whatever is wrong, a status stays small, and is valid to
// the API server.
func TestStatusIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 20_000)
	var ps strict.Problems
	for range 50 {
		ps = append(ps, strict.Problem{Field: "spec.é", Message: long})
	}
	for _, serving := range []compile.Serving{compile.ServingLastGood, compile.ServingStandIn, compile.ServingReduced} {
		key := compile.Key{Kind: "Verifier", Name: "x"}
		r := &report{key: key, verdict: evaluateStanding(key, &compile.Standing{Problems: ps, Serving: serving})}
		status, changed, err := r.status(nil, time.Now())
		if err != nil || !changed {
			t.Fatal(changed, err)
		}
		body, err := json.Marshal(status)
		if err != nil || len(body) > 4*maxError || !utf8.Valid(body) {
			t.Errorf("%d bytes, %v", len(body), err)
		}
		brief, _ := status["brieferror"].(string)
		c := readConditions(status)
		if len(brief) > maxBrief || !utf8.ValidString(brief) || len(c) != 1 || len(c[0].Message) > 32768 || !strings.HasSuffix(c[0].Message, ".") {
			t.Errorf("brieferror %q, conditions %v", brief, c)
		}
	}
	warned := evaluateStanding(compile.Key{Kind: "Store"}, &compile.Standing{Warnings: ps})
	if !warned.ready || len(warned.message) > maxError {
		t.Errorf("%d bytes", len(warned.message))
	}
}

func TestPropertiesOf(t *testing.T) {
	t.Parallel()
	if p, err := propertiesOf(nil); p != nil || err != nil {
		t.Error(p, err)
	}
	certs := testca.Test(t, testca.Options{}).X509()
	for len(certs) < 3*maxCertificates {
		certs = append(certs, certs[0])
	}
	raw, err := propertiesOf(certs)
	if err != nil {
		t.Fatal(err)
	}
	var p properties
	if err := json.Unmarshal(raw.Raw, &p); err != nil {
		t.Fatal(err)
	}
	if p.Count != 3*maxCertificates || len(p.Certificates) != maxCertificates {
		t.Errorf("%d of %d", len(p.Certificates), p.Count)
	}
	got := p.Certificates[0]
	if got.Subject != certs[0].Subject.String() || got.SerialNumber != certs[0].SerialNumber.Text(16) || len(got.Fingerprint) != 64 || !got.NotAfter.Time.Equal(certs[0].NotAfter) {
		t.Errorf("%+v", got)
	}
}

// TestStatusOfOthers: what somebody else wrote into a status is read as far as it
// can be, and replaced.
func TestStatusOfOthers(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	r := &report{key: compile.Key{Kind: "Store", Name: "s"}, version: version{"u", 3}, verdict: verdict{ready: true, reason: ReasonInForce, message: "m"}}
	for _, old := range []map[string]any{
		nil,
		{"conditions": "none"},
		{"conditions": []any{map[string]any{"type": "Other", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "R", "message": ""}}, "error": "old", "issuccess": false},
	} {
		status, changed, err := r.status(old, now)
		if err != nil || !changed || status["issuccess"] != true || status["error"] != nil {
			t.Errorf("%v: %v, %t, %v", old, status, changed, err)
		}
		body, err := r.patch(old, status)
		if err != nil {
			t.Fatal(err)
		}
		var patch struct {
			Metadata struct{ UID string }
			Status   map[string]any
		}
		if err := json.Unmarshal(body, &patch); err != nil || patch.Metadata.UID != "u" {
			t.Errorf("%s, %v", body, err)
		}
		if _, nulls := patch.Status["error"]; nulls != (old["error"] != nil) {
			t.Errorf("%s does not clear what was there", body)
		}
		_, again, err := r.status(status, now.Add(time.Hour))
		if err != nil || again {
			t.Errorf("what stands there already is written again: %v", err)
		}
	}
	status, _, _ := r.status(map[string]any{"conditions": []any{map[string]any{"type": "Other", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z", "reason": "R", "message": ""}}}, now)
	if c := readConditions(status); len(c) != 2 {
		t.Errorf("another's condition is lost: %v", c)
	}
}

// TestTable: rows follow the API server's numbers.
func TestTable(t *testing.T) {
	t.Parallel()
	tb := newTable()
	observe := func(uid string, generation int64, spec string) bool {
		u := document(t, "Store", "", "s", spec)
		u.SetUID(uidOf(uid))
		u.SetGeneration(generation)
		changed, err := tb.observe(u)
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	key := compile.Key{Kind: "Store", Name: "s"}
	settle := func() *compile.Resource {
		entries, _ := tb.entries()
		_, standing := compile.NewCluster(compile.ClusterOptions{}, entries).Compile(testDeps(), nil)
		tb.settle(entries, standing)
		return tb.rows[key].good
	}
	if !observe("a", 1, "name: oras") || observe("a", 1, "name: oras") {
		t.Error("a version is news once")
	}
	good := settle()
	if good == nil || !observe("a", 2, "name: orsa") || settle() != good {
		t.Error("what worked is forgotten")
	}
	if !observe("a", 3, "name: oras") || settle() == good {
		t.Error("what works now is not noted")
	}
	if !observe("b", 3, "name: orsa") || settle() != nil {
		t.Error("what was made anew has the past of another")
	}
	// What was compiled a moment ago says nothing of what came since.
	entries, _ := tb.entries()
	observe("b", 4, "name: oras")
	_, standing := compile.NewCluster(compile.ClusterOptions{}, entries).Compile(testDeps(), nil)
	standing[key].Problems = nil
	tb.settle(entries, standing)
	if tb.rows[key].good != nil {
		t.Error("another version is taken for the one that works")
	}
	now := time.Now()
	marks := func(since time.Time, due int) bool { // of a kind that waits
		gone, fresh := tb.marked(since, func(string) bool { return true })
		return len(gone[key.Kind]) == due && fresh == (due == 0)
	}
	if !tb.mark(key, now) || !marks(now, 1) || !marks(now.Add(-1), 0) || !tb.last(key.Kind) || !tb.sweep([]compile.Key{key}) || tb.sweep([]compile.Key{key}) || tb.mark(key, now) || len(tb.rows) != 0 {
		t.Error("what is gone is kept")
	}
	if _, err := tb.observe(&unstructured.Unstructured{Object: map[string]any{"kind": "Store", "x": func() {}}}); err == nil {
		t.Error("what is no JSON is taken in")
	}
}

func TestDeletedUnseen(t *testing.T) {
	t.Parallel()
	if deletedObject("nothing") != nil {
		t.Error("something of nothing")
	}
	o := &metav1.PartialObjectMetadata{}
	o.Name = "x"
	if d := deletedObject(unseen(o)); d == nil || d.GetName() != "x" {
		t.Errorf("%v", d)
	}
}
