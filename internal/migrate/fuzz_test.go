package migrate

import (
	"errors"
	"testing"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// FuzzCheck: whatever a file says, what the product does not take is not said to work,
// and everything that is found has words.
func FuzzCheck(f *testing.F) {
	root := inline(f, testca.Options{})
	for _, seed := range []string{
		root + "---\n" + store + "---\n" + verifier + "---\n" + ruled, provider + "---\n" + template,
		notationWith("verificationCerts: [/nowhere]"), "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: config.ratify.deislabs.io/v1alpha1, kind: Policy, metadata: {name: configpolicy}, spec: {}}\n",
		header1 + "kind: Store\nmetadata: {name: 5}\nspec: []\n", header1 + "kind: CertificateStore\nmetadata: {name: a, namespace: b}\nspec: {provider: azurekeyvault, parameters: {certificates: 'array: []'}}\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		docs, err := Files([]compile.Source{{Name: "f", Data: data}})
		if err != nil {
			return
		}
		r, err := Check(docs, options())
		if err != nil {
			if !errors.Is(err, ErrNothing) || len(r.Findings) > 0 {
				t.Fatal(r, err)
			}
			return
		}
		for _, found := range r.Findings {
			if found.Boltseal == "" || found.Severity != OK && found.Do == "" {
				t.Errorf("something is not said: %+v", found)
			}
		}
		agrees(t, docs, r)
	})
}
