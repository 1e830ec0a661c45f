package cosign_test

import (
	"fmt"

	"github.com/boltseal/boltseal/cosign"
)

// A verifier that trusts what one workflow of a repository has signed. The trusted root
// is a file: nothing is fetched.
func ExampleNew() {
	verify := func(trustedRoot []byte) (*cosign.Verifier, error) {
		root, err := cosign.ParseTrustedRoot(trustedRoot)
		if err != nil {
			return nil, err
		}
		subject, err := cosign.ExpressionMatch(`https://github\.com/acme/app/\.github/workflows/release\.yml@refs/tags/v.*`)
		if err != nil {
			return nil, err
		}
		return cosign.New(cosign.Options{Name: "release", TrustPolicies: []cosign.TrustPolicy{{
			Name: "acme", Scopes: []string{"ghcr.io/acme/*"}, Root: root,
			Identities: []cosign.Identity{{
				Issuer:     cosign.ExactMatch("https://token.actions.githubusercontent.com"),
				Subject:    subject,
				Extensions: map[string]cosign.Match{"sourceRepositoryURI": cosign.ExactMatch("https://github.com/acme/app")},
			}},
		}}})
	}
	_, err := verify([]byte(`{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`))
	fmt.Println(err)
	// Output: configuration: the trusted root names nobody: it has no certificate authority, no log and no timestamp authority
}
