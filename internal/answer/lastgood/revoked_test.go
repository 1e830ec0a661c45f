package lastgood_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/lastgood"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/trust"
)

// TestARevokedCertificateDeniesFromMemory: what is remembered is the signature,
// and not that it was good.
func TestARevokedCertificateDeniesFromMemory(t *testing.T) {
	t.Parallel()
	responder, base := testca.StartResponder(t, testca.ResponderOptions{})
	chain := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}, Revocation: base, OCSP: true})
	responder.Add(chain)
	certs := chain.X509()
	// today is an engine that knows of revocation what the responder says now.
	memory := lastgood.New(0, nil)
	h := testhouse.New(t, testhouse.Options{})
	today := func() *boltseal.Engine {
		roots := testhouse.Need(trust.NewStore(trust.TypeCA, "release", certs[len(certs)-1:]))(t)
		doc := testhouse.Need(notation.NewTrustPolicy(notation.TrustPolicyDocument{Version: "1.0", TrustPolicies: []notation.TrustPolicyDoc{{
			Name: "all", RegistryScopes: []string{"*"}, SignatureVerification: notation.SignatureVerification{Level: "strict"},
			TrustStores: []string{"ca:release"}, TrustedIdentities: []string{"*"}}}}))(t)
		v := testhouse.Need(notation.New(notation.Options{Name: "n", TrustPolicy: doc, TrustStores: []*trust.Store{roots},
			Revocation: notation.NewRevocation(notation.RevocationOptions{AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})}))(t)
		return h.EngineOf(t, testhouse.Options{Wrap: of(memory, "registry"), Engine: boltseal.Options{Verifiers: []boltseal.Verifier{v}}})
	}
	tag, _ := h.Signed("v", chain)
	if r := testhouse.Need(today().Verify(t.Context(), tag))(t); r.Decision != boltseal.Allow {
		t.Fatalf("%+v", r.Reason)
	}
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Reset})
	ref := testhouse.Need(boltseal.ParseReference(tag))(t)
	if r, _ := memory.Verify(t.Context(), today(), ref, time.Hour); r.Decision != boltseal.Allow {
		t.Fatalf("from memory: %+v", r.Reason)
	}
	if err := responder.Revoke(chain, chain.Leaf(), testca.Revocation{}); err != nil {
		t.Fatal(err)
	}
	r, _ := memory.Verify(t.Context(), today(), ref, time.Hour)
	testhouse.Expect(t, r, boltseal.Deny, boltseal.CauseRevoked)
}
