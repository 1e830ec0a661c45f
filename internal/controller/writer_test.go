package controller

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/boltseal/boltseal/internal/compile"
)

// TestStatusWhileTheCacheLags: what was written a moment ago may not have come
// back yet, and must not be taken for what stands there.
func TestStatusWhileTheCacheLags(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	v, p := verifier(t, "", "v", "roots"), roots(t, "roots", pem(t))
	s.apply(v)
	s.apply(p)
	r := start(t, s, "one")
	s.stands(t, v, ReasonInForce)
	r.becomes("Verifier", "", "v", "Current")
	s.change(func() { s.frozen["verifiers"] = true })
	for range 3 {
		s.remove(p)
		st, _ := s.stands(t, v, ReasonReduced)
		if st["error"] == nil {
			t.Errorf("status %v", st)
		}
		s.apply(p)
		if st, _ = s.stands(t, v, ReasonInForce); st["error"] != nil || st["brieferror"] != nil {
			t.Errorf("an error that was mended is left: %v", st)
		}
	}
	s.change(func() { s.frozen["verifiers"] = false })
	s.remove(p)
	s.stands(t, v, ReasonReduced)
}

// TestOneReplicaWrites: the others watch, and take over.
func TestOneReplicaWrites(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	st := document(t, "Store", "", "s", "name: oras")
	s.apply(st)
	first := start(t, s, "first")
	s.stands(t, st, ReasonInForce)
	second := start(t, s, "second")
	second.becomes("Store", "", "s", "Current")
	if strings.Contains(second.log.String(), "this replica writes statuses") {
		t.Error("two replicas write")
	}
	if err := first.stop(); err != nil {
		t.Error(err)
	}
	eventually(t, "the second replica writes", func() bool { return strings.Contains(second.log.String(), "this replica writes statuses") })
	other := document(t, "Store", "", "t", "name: orsa")
	s.apply(other)
	s.stands(t, other, ReasonDenying)
	// What the first wrote is right, and stays as it is.
	if n := s.written("PATCH", "/stores/s/status"); n != 1 {
		t.Errorf("the status was written %d times", n)
	}
}

// TestAReplicaThatLeavesWatchesOn: it lets go of the lease at once, while what is
// edited goes on to be in force in it as in the others.
func TestAReplicaThatLeavesWatchesOn(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	p := roots(t, "roots", pem(t))
	s.apply(p)
	first := start(t, s, "first")
	s.stands(t, p, ReasonInForce)
	first.resign()
	second := start(t, s, "second")
	eventually(t, "the second replica writes", func() bool { return strings.Contains(second.log.String(), "this replica writes statuses") })
	for i := range 3 {
		name := fmt.Sprint("later-", i)
		other := roots(t, name, pem(t))
		s.apply(other)
		first.becomes("KeyManagementProvider", "", name, "Current")
		s.stands(t, other, ReasonInForce)
		s.remove(other)
		first.becomes("KeyManagementProvider", "", name, "")
	}
	if n := strings.Count(first.log.String(), "this replica writes statuses"); n != 1 {
		t.Errorf("the one that leaves led %d times", n)
	}
}

// TestMadeAnew: what was deleted and made again is another resource, and gets
// the status of another.
func TestMadeAnew(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	good, bad := document(t, "Store", "", "s", "name: oras"), document(t, "Store", "", "s", "name: orsa")
	s.apply(good)
	r := start(t, s, "one")
	s.stands(t, good, ReasonInForce)
	s.apply(bad)
	s.stands(t, good, ReasonLastGood)
	s.mu.Lock()
	path := pathOf(good)
	s.put(path, "DELETED", s.objects[path])
	s.mu.Unlock()
	s.apply(bad)
	s.stands(t, bad, ReasonDenying)
	r.becomes("Store", "", "s", "StandIn")
}

// TestWritesThatFailHoldUpNothing: a kind whose statuses cannot be written costs
// the other kinds nothing, and is tried again.
func TestWritesThatFailHoldUpNothing(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	forbidden := true
	s.refuse = func(r *http.Request) int {
		s.mu.Lock()
		defer s.mu.Unlock()
		if forbidden && strings.Contains(r.URL.Path, "/stores/") && strings.HasSuffix(r.URL.Path, "/status") {
			return 403
		}
		return 0
	}
	var stores []*unstructured.Unstructured
	for i := range 3 * maxWrites {
		st := document(t, "Store", "", fmt.Sprint("s", i), "name: orsa")
		stores = append(stores, st)
		s.apply(st)
	}
	p := roots(t, "roots", pem(t))
	s.apply(p)
	r := start(t, s, "one")
	s.stands(t, p, ReasonInForce)
	eventually(t, "the failure is logged", func() bool { return strings.Contains(r.log.String(), "statuses could not be written") })
	s.change(func() { forbidden = false })
	s.stands(t, stores[len(stores)-1], ReasonDenying)
}

// TestUrgent: what is wrong is told before what is right.
func TestUrgent(t *testing.T) {
	t.Parallel()
	w := &writer{reports: map[compile.Key]*report{}, open: map[compile.Key]bool{}, written: map[compile.Key]string{{Kind: "Store", Name: "gone"}: "1"}}
	for i := range 2 * maxWrites {
		key := compile.Key{Kind: "Store", Name: fmt.Sprintf("s%03d", i)}
		w.reports[key], w.open[key] = &report{key: key, verdict: verdict{ready: i != 2*maxWrites-1}}, true
	}
	next, left := w.urgent()
	if len(next) != maxWrites || left != maxWrites || next[0].verdict.ready || next[1].key.Name != "s000" {
		t.Errorf("%d, %d left, %+v", len(next), left, next[0])
	}
	if len(w.written) != 0 {
		t.Error("what is gone is remembered")
	}
}

// TestStatusKeepsTimes: a time changes with what it is the time of.
func TestStatusKeepsTimes(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	p := roots(t, "roots", pem(t))
	s.apply(p)
	r := start(t, s, "one")
	before, c := s.stands(t, p, ReasonInForce)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	// Another replica read the certificates at another time, and finds nothing to change.
	second := start(t, s, "two")
	other := document(t, "Store", "", "s", "name: oras")
	s.apply(other)
	s.stands(t, other, ReasonInForce)
	after, d := s.ready(p)
	if fmt.Sprint(before) != fmt.Sprint(after) || !c.LastTransitionTime.Equal(&d.LastTransitionTime) || s.written("PATCH", "/keymanagementproviders/roots/status") != 1 {
		t.Errorf("%v\n%v", before, after)
	}
	second.becomes("KeyManagementProvider", "", "roots", "Current")
}

// TestPoliciesHaveStatuses of the other group.
func TestPoliciesHaveStatuses(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	good := document(t, "ImageIntegrityPolicy", "", "good", "enforcementAction: warn")
	bad := document(t, "NamespacedImageIntegrityPolicy", "team", "bad", "excludedImages: ['*']")
	s.apply(good)
	s.apply(bad)
	start(t, s, "one")
	st, c := s.stands(t, good, ReasonInForce)
	if st["observedGeneration"] == nil || st["issuccess"] != nil || c.Status != metav1.ConditionTrue {
		t.Errorf("status %v", st)
	}
	if _, c = s.stands(t, bad, ReasonDenying); !strings.Contains(c.Message, "excludedImages") || !strings.Contains(c.Message, "strictest") {
		t.Errorf("condition %v", c)
	}
}
