package boltseal_test

import (
	"net/netip"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/trust"
)

// TestMultiArchRevoked: one platform whose signer's certificate was taken back.
func TestMultiArchRevoked(t *testing.T) {
	t.Parallel()
	responder, base := testca.StartResponder(t, testca.ResponderOptions{})
	h := newHouse(t, houseOptions{})
	good := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}, Revocation: base, OCSP: true})
	gone := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}, Revocation: base, OCSP: true})
	responder.Add(good)
	responder.Add(gone)
	ds := h.Index("v", "linux/amd64", "linux/arm64")
	h.Registry.Sign(repo, ds[1], good, testca.SignOptions{})
	h.Registry.Sign(repo, ds[2], gone, testca.SignOptions{})
	today := func(o *boltseal.Options) { // knows of revocation what the responder says now
		a, b := good.X509(), gone.X509()
		roots := need(trust.NewStore(trust.TypeCA, "release", append(a[len(a)-1:], b[len(b)-1])))(t)
		doc := need(notation.NewTrustPolicy(notation.TrustPolicyDocument{Version: "1.0", TrustPolicies: []notation.TrustPolicyDoc{{
			Name: "all", RegistryScopes: []string{"*"}, SignatureVerification: notation.SignatureVerification{Level: "strict"},
			TrustStores: []string{"ca:release"}, TrustedIdentities: []string{"*"}}}}))(t)
		v := need(notation.New(notation.Options{Name: "n", TrustPolicy: doc, TrustStores: []*trust.Store{roots},
			Revocation: notation.NewRevocation(notation.RevocationOptions{AllowedNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})}))(t)
		o.Verifiers = []boltseal.Verifier{v}
	}
	image := h.Registry.Ref(repo, "v")
	first := verify(t, asks(t, h, "platforms", today), image)
	expect(t, first, boltseal.Allow, "")
	if until := first.ValidUntil(); until.IsZero() {
		t.Error("evidence that never runs out")
	}
	if err := responder.Revoke(gone, gone.Leaf(), testca.Revocation{}); err != nil {
		t.Fatal(err)
	}
	expect(t, verify(t, asks(t, h, "platforms", today), image), boltseal.Deny, boltseal.CauseRevoked)
	expect(t, verify(t, asks(t, h, "platforms linux/amd64", today), image), boltseal.Allow, "")
}
