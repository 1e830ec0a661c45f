package boltseal_test

import (
	"context"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/testca"
	"github.com/boltseal/boltseal/internal/testregistry"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/policy"
	"github.com/boltseal/boltseal/trust"
)

// house is a registry with somebody who signs, a stranger, and an engine that
// trusts the first.
type house struct {
	registry        *testregistry.Registry
	signer, unknown *testca.Chain
	store           *oci.Registry
	engine          *boltseal.Engine
}

type houseOptions struct {
	registry testregistry.Options
	store    oci.Options
	engine   boltseal.Options // Stores, Verifiers and Policy are filled in where they are nil
	rule     policy.Rule      // "" = any
	byType   map[string]policy.Rule
	level    string // "" = strict
}

func newHouse(t testing.TB, o houseOptions) *house {
	t.Helper()
	h := &house{
		registry: testregistry.New(t, o.registry),
		signer:   testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}}),
		unknown:  testca.Test(t, testca.Options{}),
	}
	h.store = need(oci.NewRegistry(o.store))(t)
	t.Cleanup(func() { h.store.Close() })
	h.engine = h.engineOf(t, o)
	return h
}

func (h *house) engineOf(t testing.TB, o houseOptions) *boltseal.Engine {
	t.Helper()
	eo := o.engine
	if eo.Stores == nil {
		eo.Stores = []boltseal.ScopedStore{{Name: "registry", Store: h.store}}
	}
	if eo.Verifiers == nil {
		eo.Verifiers = []boltseal.Verifier{h.verifier(t, "notation", o.level)}
	}
	if eo.Policy == nil {
		rule := o.rule
		if rule == "" {
			rule = policy.Any
		}
		eo.Policy = need(policy.New(policy.Options{Default: rule, ByType: o.byType}))(t)
	}
	return need(boltseal.New(eo))(t)
}

func (h *house) verifier(t testing.TB, name, level string, types ...string) *notation.Verifier {
	t.Helper()
	if level == "" {
		level = "strict"
	}
	roots := need(trust.NewStore(trust.TypeCA, "release", h.signer.X509()[2:]))(t)
	doc := need(notation.NewTrustPolicy(notation.TrustPolicyDocument{
		Version: "1.0",
		TrustPolicies: []notation.TrustPolicyDoc{{
			Name: "all", RegistryScopes: []string{"*"},
			SignatureVerification: notation.SignatureVerification{Level: level},
			TrustStores:           []string{"ca:release"},
			TrustedIdentities:     []string{"*"},
		}},
	}))(t)
	return need(notation.New(notation.Options{
		Name: name, ArtifactTypes: types, TrustPolicy: doc, TrustStores: []*trust.Store{roots},
	}))(t)
}

// verify is Verify with time enough for everything that should succeed.
func (h *house) verify(t testing.TB, image string) boltseal.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := h.engine.Verify(ctx, image)
	if err != nil {
		t.Fatalf("Verify(%s): %v", image, err)
	}
	return r
}

func need[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func expect(t testing.TB, r boltseal.Result, d boltseal.Decision, c boltseal.Cause) {
	t.Helper()
	if r.Decision != d || (d != boltseal.Allow && r.Reason.Cause != c) {
		t.Errorf("%s: %s (%s: %s), want %s (%s)", r.Image, r.Decision, r.Reason.Cause, r.Reason.Message, d, c)
	}
	if d != boltseal.Allow && (r.Reason.Message == "" || r.Reason.Remedy == "") {
		t.Errorf("%s: a reason without message or remedy: %+v", r.Image, r.Reason)
	}
}
