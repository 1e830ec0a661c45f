package boltseal_test

import (
	"context"
	"fmt"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/policy"
	"github.com/boltseal/boltseal/trust"
)

// Verify that an image is signed by somebody whose certificate a root in
// roots.pem has issued. Every constructor returns an error for what it cannot
// accept; must stands for handling it.
func Example() {
	image, rootsPEM := signedImage()

	roots, err := trust.ParseCertificates(rootsPEM)
	must(err)
	store, err := trust.NewStore(trust.TypeCA, "release", roots)
	must(err)
	whom, err := notation.NewTrustPolicy(notation.TrustPolicyDocument{Version: "1.0", TrustPolicies: []notation.TrustPolicyDoc{{
		Name: "release", RegistryScopes: []string{"*"}, TrustStores: []string{"ca:release"},
		SignatureVerification: notation.SignatureVerification{Level: "strict"},
		TrustedIdentities:     []string{"x509.subject: C=US, ST=WA, O=Boltseal Test"},
	}}})
	must(err)
	verifier, err := notation.New(notation.Options{Name: "notation", TrustPolicy: whom, TrustStores: []*trust.Store{store}})
	must(err)
	registry, err := oci.NewRegistry(oci.Options{})
	must(err)
	defer registry.Close()
	anySignature, err := policy.New(policy.Options{Default: policy.Any})
	must(err)
	engine, err := boltseal.New(boltseal.Options{
		Stores:    []boltseal.ScopedStore{{Name: "registry", Store: registry}},
		Verifiers: []boltseal.Verifier{verifier},
		Policy:    anySignature,
	})
	must(err)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	result, err := engine.Verify(ctx, image)
	must(err)
	fmt.Println(result.Decision, "because of", result.Evidence[0].Signer.Subject)
	// Output: trusted because of CN=app,O=Boltseal Test,ST=WA,C=US
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// signedImage starts a registry with one signed image.
func signedImage() (image string, rootsPEM []byte) {
	reg, err := testregistry.Start(testregistry.Options{})
	must(err)
	chain, err := testca.New(testca.Options{Leaf: testca.Spec{Subject: testca.Subject("app")}})
	must(err)
	desc := reg.PushImage("team/app", "v1", 0)
	reg.Sign("team/app", desc, chain, testca.SignOptions{})
	return reg.Ref("team/app", "v1"), chain.Root().PEM()
}
