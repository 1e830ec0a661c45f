// Package testhouse is a registry, somebody who signs, a stranger, and an engine that trusts the first: what most tests begin with.
package testhouse

import (
	"context"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/policy"
	"github.com/boltseal/boltseal/trust"
)

// Repo is the repository that House's helpers push to.
const Repo = "team/app"

// House is the lot.
type House struct {
	Registry         *testregistry.Registry
	Signer, Stranger *testca.Chain // Signer has one intermediate
	Store            *oci.Registry
	Engine           *boltseal.Engine
}

// Options change a House. The zero value is an ordinary registry, level strict
// and any one signature.
type Options struct {
	Registry testregistry.Options
	Store    oci.Options
	Engine   boltseal.Options // Stores, Verifiers and Policy are filled in where they are nil
	Wrap     func(boltseal.Store) boltseal.Store
	Rule     policy.Rule // "" = any
	ByType   map[string]policy.Rule
	Level    string // "" = strict
}

// New makes a House for a test, and tears it down with the test.
func New(t testing.TB, o Options) *House {
	t.Helper()
	h := &House{
		Registry: testregistry.New(t, o.Registry),
		Signer:   testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}}),
		Stranger: testca.Test(t, testca.Options{}),
	}
	if o.Store.Limits.RequestTimeout == 0 { // nobody is to be late where a test does not say so
		o.Store.Limits.RequestTimeout = testwait.Patience
	}
	h.Store = Need(oci.NewRegistry(o.Store))(t)
	t.Cleanup(func() { h.Store.Close() })
	h.Engine = h.EngineOf(t, o)
	return h
}

// EngineOf makes another engine over the same registry.
func (h *House) EngineOf(t testing.TB, o Options) *boltseal.Engine {
	t.Helper()
	eo := o.Engine
	if eo.Stores == nil {
		var s boltseal.Store = h.Store
		if o.Wrap != nil {
			s = o.Wrap(s)
		}
		eo.Stores = []boltseal.ScopedStore{{Name: "registry", Store: s}}
	}
	if eo.Verifiers == nil {
		eo.Verifiers = []boltseal.Verifier{h.Verifier(t, "notation", o.Level)}
	}
	if eo.Policy == nil {
		rule := o.Rule
		if rule == "" {
			rule = policy.Any
		}
		eo.Policy = Need(policy.New(policy.Options{Default: rule, ByType: o.ByType}))(t)
	}
	return Need(boltseal.New(eo))(t)
}

// Verifier trusts the signer's root; level "" is strict, no types means notation's.
func (h *House) Verifier(t testing.TB, name, level string, types ...string) *notation.Verifier {
	t.Helper()
	return h.VerifierFor(t, h.Signer, name, level, types...)
}

// VerifierFor trusts the root of another chain.
func (h *House) VerifierFor(t testing.TB, c *testca.Chain, name, level string, types ...string) *notation.Verifier {
	t.Helper()
	if level == "" {
		level = "strict"
	}
	certs := c.X509()
	roots := Need(trust.NewStore(trust.TypeCA, "release", certs[len(certs)-1:]))(t)
	doc := Need(notation.NewTrustPolicy(notation.TrustPolicyDocument{
		Version: "1.0",
		TrustPolicies: []notation.TrustPolicyDoc{{
			Name: "all", RegistryScopes: []string{"*"},
			SignatureVerification: notation.SignatureVerification{Level: level},
			TrustStores:           []string{"ca:release"},
			TrustedIdentities:     []string{"*"},
		}},
	}))(t)
	return Need(notation.New(notation.Options{
		Name: name, ArtifactTypes: types, TrustPolicy: doc, TrustStores: []*trust.Store{roots},
	}))(t)
}

// Signed pushes an image, tags it, and signs it by each chain. It returns the
// image's reference by tag and by digest.
func (h *House) Signed(tag string, chains ...*testca.Chain) (byTag, byDigest string) {
	image := h.Registry.PushImage(Repo, tag, 0)
	for _, c := range chains {
		h.Registry.Sign(Repo, image, c, testca.SignOptions{})
	}
	return h.Registry.Ref(Repo, tag), h.Registry.Pinned(Repo, image.Digest)
}

// Verify is the engine's Verify with time enough for everything that should succeed.
func (h *House) Verify(t testing.TB, image string) boltseal.Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := h.Engine.Verify(ctx, image)
	if err != nil {
		t.Fatalf("Verify(%s): %v", image, err)
	}
	return r
}

// Need ends the test on an error: Need(f())(t).
func Need[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// Expect checks a result's decision and, where it is not Allow, its cause, and
// that a reason has words and advice.
func Expect(t testing.TB, r boltseal.Result, d boltseal.Decision, c boltseal.Cause) {
	t.Helper()
	if r.Decision != d || (d != boltseal.Allow && r.Reason.Cause != c) {
		t.Errorf("%s: %s (%s: %s), want %s (%s)", r.Image, r.Decision, r.Reason.Cause, r.Reason.Message, d, c)
	}
	if d != boltseal.Allow && (r.Reason.Message == "" || r.Reason.Remedy == "") {
		t.Errorf("%s: a reason without message or remedy: %+v", r.Image, r.Reason)
	}
}
