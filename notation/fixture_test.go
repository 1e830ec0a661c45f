package notation

import (
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

const (
	repository = "registry.example/team/app"
	anyone     = "*"
)

// target is the image that is signed in these tests.
var target = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("image"), Size: 1234}

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// statementOf is a right statement that trusts ca:release, with changes.
func statementOf(change ...func(*TrustPolicyDoc)) TrustPolicyDoc {
	d := TrustPolicyDoc{Name: "release", RegistryScopes: []string{anyone}, SignatureVerification: SignatureVerification{Level: "strict"},
		TrustStores: []string{"ca:release"}, TrustedIdentities: []string{anyone}}
	for _, f := range change {
		f(&d)
	}
	return d
}

func document(statements ...TrustPolicyDoc) TrustPolicyDocument {
	return TrustPolicyDocument{Version: "1.0", TrustPolicies: statements}
}

func level(l string) func(*TrustPolicyDoc) {
	return func(d *TrustPolicyDoc) {
		d.SignatureVerification.Level = l
		if l == levelSkip {
			d.RegistryScopes, d.TrustStores, d.TrustedIdentities = []string{repository}, nil, nil
		}
	}
}

func override(pairs ...string) func(*TrustPolicyDoc) {
	return func(d *TrustPolicyDoc) {
		m := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		d.SignatureVerification.Override = m
	}
}

func stores(names ...string) func(*TrustPolicyDoc) {
	return func(d *TrustPolicyDoc) { d.TrustStores = names }
}

func identities(ids ...string) func(*TrustPolicyDoc) {
	return func(d *TrustPolicyDoc) { d.TrustedIdentities = ids }
}

func scopes(list ...string) func(*TrustPolicyDoc) {
	return func(d *TrustPolicyDoc) { d.RegistryScopes = list }
}

func verifyTimestamp(when string) func(*TrustPolicyDoc) {
	return func(d *TrustPolicyDoc) { d.SignatureVerification.VerifyTimestamp = when }
}

func store(tb testing.TB, kind trust.Type, name string, chains ...*testca.Chain) *trust.Store {
	tb.Helper()
	var certs []*x509.Certificate
	for _, c := range chains {
		certs = append(certs, c.Root().Certificate)
	}
	return must(trust.NewStore(kind, name, certs))(tb)
}

// setup makes verifiers. Its zero value trusts nobody.
type setup struct {
	statement  TrustPolicyDoc
	stores     []*trust.Store
	revocation *Revocation
	chains     *ChainCache
	now        time.Time
}

func (s setup) clock() func() time.Time {
	if s.now.IsZero() {
		return nil
	}
	return func() time.Time { return s.now }
}

func (s setup) verifier(tb testing.TB) *Verifier {
	tb.Helper()
	policy := must(NewTrustPolicy(document(s.statement)))(tb)
	return must(New(Options{Name: "notation", TrustPolicy: policy, TrustStores: s.stores, Revocation: s.revocation, Chains: s.chains, Clock: s.clock()}))(tb)
}

// trusting is a verifier for signers of the chain, by ca:release.
func trusting(tb testing.TB, c *testca.Chain, change ...func(*TrustPolicyDoc)) *Verifier {
	tb.Helper()
	return setup{statement: statementOf(change...), stores: []*trust.Store{store(tb, trust.TypeCA, "release", c)}}.verifier(tb)
}

// subject is the image as the engine names it.
func subject(tb testing.TB) boltseal.Subject {
	tb.Helper()
	return boltseal.Subject{Reference: must(boltseal.ParseReference(repository + "@" + target.Digest.String()))(tb), Descriptor: target}
}

// candidate is a signature's artifact with this envelope.
func candidate(env testca.Envelope) boltseal.Candidate {
	layer := testca.NewBlob(env.MediaType, env.Content)
	config := testca.NewBlob(ocispec.MediaTypeEmptyJSON, []byte("{}"))
	about := target
	return boltseal.Candidate{
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(env.Content), ArtifactType: ArtifactType},
		Manifest: boltseal.ArtifactManifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactType,
			Config: &config.Descriptor, Layers: []ocispec.Descriptor{layer.Descriptor}, Subject: &about},
		Blob: func(context.Context, ocispec.Descriptor) ([]byte, error) { return layer.Content, nil },
	}
}

func sign(tb testing.TB, c *testca.Chain, o testca.SignOptions) testca.Envelope {
	tb.Helper()
	return must(c.Sign(target, o))(tb)
}

func verify(tb testing.TB, v *Verifier, env testca.Envelope) boltseal.Evidence {
	tb.Helper()
	return must(v.Verify(tb.Context(), subject(tb), candidate(env)))(tb)
}

// outcomes are the checks by name.
func outcomes(ev boltseal.Evidence) map[string]boltseal.CheckOutcome {
	m := map[string]boltseal.CheckOutcome{}
	for _, c := range ev.Checks {
		m[c.Name] = c.Outcome
	}
	return m
}

// expectCause fails unless the evidence is Rejected for a cause, or Verified for none.
func expectCause(tb testing.TB, ev boltseal.Evidence, want boltseal.Cause) {
	tb.Helper()
	outcome := boltseal.Rejected
	if want == boltseal.CauseNone {
		outcome = boltseal.Verified
	}
	if ev.Outcome != outcome || ev.Reason.Cause != want {
		tb.Errorf("%v, %+v; want %v for %q\n%v", ev.Outcome, ev.Reason, outcome, want, describeChecks(ev))
	}
	if ev.Outcome == boltseal.Rejected && (ev.Reason.Message == "" || ev.Reason.Remedy == "") {
		tb.Errorf("no message or no remedy: %+v", ev.Reason)
	}
}

func describeChecks(ev boltseal.Evidence) string {
	var s string
	for _, c := range ev.Checks {
		s += fmt.Sprintf("  %s %v %s\n", c.Name, c.Outcome, c.Detail)
	}
	return s
}

func has(list []string, s string) bool { return slices.Contains(list, s) }
