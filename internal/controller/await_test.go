package controller

import (
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/compile"
)

// TestWhatIsUnderWayIsAwaited: kinds are watched apart. A namespace's first Verifier
// that is seen before its provider, and one that is seen after its provider's end,
// are not in force without it for a moment.
func TestWhatIsUnderWayIsAwaited(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.apply(document(t, "Store", "", "s", "name: oras"))
	r := startAwaiting(t, s, "one", time.Hour)
	r.becomes("Store", "", "s", "Current")
	p, v := roots(t, "own", pem(t)), verifier(t, "", "v", "own")
	r.mu.Lock()
	r.check = func(now map[compile.Key]*compile.Standing) {
		if st := now[keyOf(v)]; st != nil && st.Serving != compile.ServingCurrent {
			t.Errorf("the Verifier was in force as %s", st.Serving)
		}
	}
	r.mu.Unlock()
	known := func(key compile.Key) bool {
		_, versions := r.table.entries()
		_, ok := versions[key]
		return ok
	}

	s.change(func() { s.frozen["keymanagementproviders"] = true })
	s.apply(p)
	s.apply(v)
	eventually(t, "the Verifier was seen", func() bool { return known(keyOf(v)) })
	s.change(func() { s.frozen["keymanagementproviders"] = false })
	r.becomes("Verifier", "", "v", "Current")

	s.change(func() { s.frozen["verifiers"] = true })
	s.remove(p)
	s.remove(v)
	eventually(t, "the provider's end was seen", func() bool { return !known(keyOf(p)) })
	s.change(func() { s.frozen["verifiers"] = false })
	r.becomes("Verifier", "", "v", "")
}

// TestWhatIsNotThereIsNotAwaitedForEver: a name of nothing is in force without it in
// the end, and what else is edited then is too.
func TestWhatIsNotThereIsNotAwaitedForEver(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.apply(document(t, "Store", "", "s", "name: oras"))
	r := start(t, s, "one")
	r.becomes("Store", "", "s", "Current")
	s.apply(verifier(t, "", "v", "nowhere"))
	r.becomes("Verifier", "", "v", "Reduced")
	s.apply(document(t, "Store", "", "t", "name: oras, parameters: {scopes: [example.com]}"))
	r.becomes("Store", "", "t", "Current")
}
