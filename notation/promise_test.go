package notation

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// TestPromise: thumbprints of a certificate in a trust store that the image's trust policy uses for signers are
// promising; thumbprints of others are not; what is no list of thumbprints says nothing.
func TestPromise(t *testing.T) {
	t.Parallel()
	signer, stranger := testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}}), testca.Test(t, testca.Options{})
	about := subject(t)
	print := func(c *testca.Chain, i int) string { return digest.FromBytes(c.Certs[i].Raw).Encoded() }
	root := len(signer.Certs) - 1
	v := trusting(t, signer)
	for list, want := range map[string]boltseal.Promise{
		`["` + print(signer, 0) + `","` + print(signer, 1) + `","` + print(signer, root) + `"]`: boltseal.Promising,
		`["` + print(signer, root) + `"]`:                              boltseal.Promising,
		strings.ToUpper(print(signer, root)):                           boltseal.Promising,
		"garbage " + print(signer, root):                               boltseal.Promising,
		`["` + print(stranger, 0) + `","` + print(signer, root) + `"]`: boltseal.Promising,
		`["` + print(signer, 0) + `"]`:                                 boltseal.Unpromising, // the signer's own is in no store
		`["` + print(stranger, 0) + `"]`:                               boltseal.Unpromising,
		`["` + print(signer, root)[:63] + `"]`:                         boltseal.Unstated,
		print(signer, root)[:32] + "\n" + print(signer, root)[32:]:     boltseal.Unstated,
		"": boltseal.Unstated, "[]": boltseal.Unstated, "null": boltseal.Unstated,
	} {
		if got := v.Promise(about, map[string]string{boltseal.HintThumbprints: list}); got != want {
			t.Errorf("%s: %d, want %d", list, got, want)
		}
	}
	right := map[string]string{boltseal.HintThumbprints: print(signer, root)}
	for name, c := range map[string]struct {
		verifier *Verifier
		want     boltseal.Promise
	}{
		"no trust policy covers the image": {trusting(t, signer, scopes("registry.example/other")), boltseal.Unstated},
		"nothing is verified":              {setup{statement: TrustPolicyDoc{Name: "none", RegistryScopes: []string{repository}, SignatureVerification: SignatureVerification{Level: levelSkip}}}.verifier(t), boltseal.Unstated},
		"a store of another name": {setup{statement: statementOf(), stores: []*trust.Store{store(t, trust.TypeCA, "release", stranger),
			store(t, trust.TypeCA, "other", signer)}}.verifier(t), boltseal.Unpromising},
		"a store for timestamps": {setup{statement: statementOf(stores("ca:release", "tsa:times")), stores: []*trust.Store{store(t, trust.TypeCA, "release", stranger),
			store(t, trust.TypeTSA, "times", signer)}}.verifier(t), boltseal.Unpromising},
	} {
		if got := c.verifier.Promise(about, right); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}
