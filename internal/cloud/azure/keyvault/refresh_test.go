package keyvault_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

const often = keys.MinInterval

func trusts(st keys.State, c *testca.Chain) bool {
	return slices.ContainsFunc(st.Content.Certificates(), c.Root().Equal)
}

func selfSigned() *testca.Chain { return testca.Must(testca.NewSelfSigned(testca.Options{})) }

// TestRotation: a new version is in use after the interval, and with last N the one
// before stays; a version that is disabled goes.
func TestRotation(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	old, next := selfSigned(), selfSigned()
	first := h.vault.Add("signing", testcloud.Version{Chain: old.X509()})
	w := h.want(keyvault.Parameters{Certificates: []keyvault.Entry{{Name: "signing", VersionHistoryLimit: 2}}}, often)
	r := h.refresher(t, w)
	before := until(t, r, w, "the first version", func(st keys.State) bool { return trusts(st, old) })
	h.vault.Add("signing", testcloud.Version{Chain: next.X509()})
	both := until(t, r, w, "the next version", func(st keys.State) bool { return trusts(st, next) })
	if !trusts(both, old) || trusts(before, next) {
		t.Fatal("yesterday's version is not trusted any more, or a state has changed in hand")
	}
	h.vault.Change("signing", first, func(v *testcloud.Version) { v.Disabled = true })
	after := until(t, r, w, "the first version goes", func(st keys.State) bool { return !trusts(st, old) })
	if !trusts(after, next) {
		t.Fatal("the next version went too")
	}
	h.vault.Delete("signing")
	gone := until(t, r, w, "all goes", func(st keys.State) bool { return len(st.Content.Certificates()) == 0 })
	if gone.Err != nil || !strings.Contains(keys.Texts(gone.Content.Problems()), "it is not in the vault") {
		t.Errorf("%+v", gone)
	}
}

// TestDownAtStart: nothing is known, and it is said who does not answer; then it
// does.
func TestDownAtStart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	chain := selfSigned()
	h.vault.Add("signing", testcloud.Version{Chain: chain.X509()})
	h.Cut(vaultHost)
	w := h.want(keyvault.Parameters{Certificates: named("signing")}, 0)
	r := h.refresher(t, w)
	if st := r.State(w); st.Tried || !strings.Contains(st.Trouble(), "the first answer is awaited") {
		t.Errorf("%+v", st)
	}
	r.Wait(t.Context())
	st := r.State(w)
	if st.Content != nil || !errors.Is(st.Err, boltseal.ErrUnavailable) || !strings.Contains(st.Trouble(), vaultHost) {
		t.Fatalf("%+v", st)
	}
	h.Mend(vaultHost)
	if st := until(t, r, w, "it is tried again", func(st keys.State) bool { return trusts(st, chain) }); st.Trouble() != "" || st.Failures != 0 {
		t.Errorf("%+v", st)
	}
}

// TestDownLater: what was fetched stays, with its age and what is wrong.
func TestDownLater(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(h *house){
		"cut":                  func(h *house) { h.Cut(vaultHost) },
		"500":                  func(h *house) { h.Refuse(vaultHost, -1, 500, "") },
		"rights taken away":    func(h *house) { h.vault.Grant(client) },
		"nobody signs in":      func(h *house) { h.vault.Move(otherTenant) },
		"garbage":              func(h *house) { h.Refuse(vaultHost, -1, 200, "") },
		"a page of a firewall": func(h *house) { h.Refuse(vaultHost, -1, 302, "") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			chain := selfSigned()
			h.vault.Add("signing", testcloud.Version{Chain: chain.X509()})
			w := h.want(keyvault.Parameters{Certificates: named("signing")}, often)
			r := h.refresher(t, w)
			good := until(t, r, w, "the first", func(st keys.State) bool { return trusts(st, chain) })
			breaks(h)
			st := until(t, r, w, "it fails twice", func(st keys.State) bool { return st.Failures >= 2 })
			if !trusts(st, chain) || st.Content != good.Content || st.Err == nil || !strings.Contains(st.Trouble(), "is still used") || st.Fetched.IsZero() {
				t.Fatalf("%+v", st)
			}
			registry := prometheus.NewRegistry()
			registry.MustRegister(r.Metrics())
			if n := testutil.CollectAndCount(r.Metrics(), "boltseal_key_provider_age_seconds", "boltseal_key_provider_failures", "boltseal_key_provider_certificate_expiry_timestamp_seconds"); n != 3 {
				t.Errorf("%d metrics", n)
			}
			if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) > 0 {
				t.Errorf("%v %v", problems, err)
			}
		})
	}
}

// TestThrottled: who says 429 is asked once, by the whole of a provider, and then
// left alone for as long as it says.
func TestThrottled(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 503} {
		h := newHouse(t)
		h.vault.Add("signing", testcloud.Version{Chain: selfSigned().X509()})
		entries := append(named("signing"), named("another")...)
		h.Refuse(vaultHost, -1, status, "300")
		w := h.want(keyvault.Parameters{Certificates: entries, Keys: named("key")}, often)
		begin := time.Now()
		r := h.refresher(t, w)
		r.Wait(t.Context())
		st := r.State(w)
		if n := len(h.Requests(vaultHost)); n != 1 {
			t.Errorf("%d: %d requests", status, n)
		}
		if st.Next.Before(begin.Add(300*time.Second)) || st.Next.After(time.Now().Add(340*time.Second)) {
			t.Errorf("%d: the next attempt is in %v", status, time.Until(st.Next))
		}
		if !errors.Is(st.Err, boltseal.ErrUnavailable) {
			t.Errorf("%v", st.Err)
		}
	}
}

// TestWrongHost: a vault whose name is not known, and one that asks for a token for
// somebody else.
func TestWrongHost(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := h.fetch(t, h.open(t, keyvault.Parameters{VaultURI: "https://nobody.vault.azure.net", Certificates: append(named("a"), named("b")...)}))
	if !errors.Is(g[0].Err, boltseal.ErrUnavailable) || !strings.Contains(g[0].Err.Error(), "its name cannot be resolved") || g[1].Err != g[0].Err {
		t.Errorf("%+v", g)
	}
}
