package boltseal_test

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/policy"
	"github.com/boltseal/boltseal/trust"
)

// newEngine trusts whoever has a certificate of the roots.
func newEngine(rootsPEM []byte, limits boltseal.Limits) *boltseal.Engine {
	roots, err := trust.ParseCertificates(rootsPEM)
	must(err)
	store, err := trust.NewStore(trust.TypeCA, "release", roots)
	must(err)
	whom, err := notation.NewTrustPolicy(notation.TrustPolicyDocument{Version: "1.0", TrustPolicies: []notation.TrustPolicyDoc{{
		Name: "release", RegistryScopes: []string{"*"}, TrustStores: []string{"ca:release"}, TrustedIdentities: []string{"*"},
		SignatureVerification: notation.SignatureVerification{Level: "strict"},
	}}})
	must(err)
	verifier, err := notation.New(notation.Options{Name: "notation", TrustPolicy: whom, TrustStores: []*trust.Store{store}})
	must(err)
	registry, err := oci.NewRegistry(oci.Options{})
	must(err)
	anySignature, err := policy.New(policy.Options{Default: policy.Any})
	must(err)
	engine, err := boltseal.New(boltseal.Options{
		Stores:    []boltseal.ScopedStore{{Name: "registry", Store: registry}},
		Verifiers: []boltseal.Verifier{verifier},
		Policy:    anySignature,
		Limits:    limits,
	})
	must(err)
	return engine
}

// A tag is resolved once, and everything after it is about the digest: whoever runs the image then
// runs what was verified, whatever becomes of the tag.
func ExampleReference_WithDigest() {
	image, rootsPEM := signedImage()
	engine := newEngine(rootsPEM, boltseal.Limits{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	result, err := engine.Verify(ctx, image)
	must(err)
	pinned := result.Reference.WithDigest(result.Subject.Digest)
	again, err := engine.Verify(ctx, pinned.String())
	must(err)
	fmt.Println(again.Decision, again.Subject.Digest == result.Subject.Digest, pinned.Tag)
	// Output: trusted true v1
}

// Limits bound what one image may cost: how many signatures are judged and how many at a time, and
// the requests, bytes and public keys in all. Zero fields have defaults that suit honest images.
func ExampleLimits() {
	image, rootsPEM := signedImage()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, limits := range []boltseal.Limits{
		{MaxSignatures: 20, Concurrency: 2},
		{Budget: boltseal.Cost{Requests: 1}},
	} {
		result, err := newEngine(rootsPEM, limits).Verify(ctx, image)
		must(err)
		fmt.Printf("%s %q\n", result.Decision, result.Reason.Cause)
	}
	// Output:
	// trusted ""
	// not trusted "limit"
}

// Findings are everything that was found, as JSON too: they can be kept, and decided again under
// another policy without asking anybody.
func ExampleFindings() {
	image, rootsPEM := signedImage()
	engine := newEngine(rootsPEM, boltseal.Limits{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	ref, err := boltseal.ParseReference(image)
	must(err)
	recorded, err := json.Marshal(engine.Collect(ctx, ref))
	must(err)

	var found boltseal.Findings
	must(json.Unmarshal(recorded, &found))
	everything, err := policy.New(policy.Options{Default: policy.Any, ByType: map[string]policy.Rule{"application/spdx+json": policy.Any}})
	must(err)
	fmt.Println(engine.Decide(found).Decision)
	fmt.Println(engine.WithPolicy(everything).Decide(found).Decision)
	// Output:
	// trusted
	// not trusted
}

// A Reason says why an image is not trusted: a cause to branch on, what was found, and what to do.
// The checks of a signature say how far it was verified: of a stranger's no arithmetic is done.
func ExampleReason() {
	image, _ := signedImage()
	_, others := signedImage()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	result, err := newEngine(others, boltseal.Limits{}).Verify(ctx, image)
	must(err)
	fmt.Println(result.Decision, result.Reason.Cause)
	for _, ev := range result.Evidence {
		for _, check := range ev.Checks {
			fmt.Println(check.Name, check.Outcome)
		}
	}
	fmt.Println("what to do:", result.Reason.Remedy != "")
	// Output:
	// not trusted untrusted-signer
	// integrity skipped
	// authenticity failed
	// what to do: true
}
