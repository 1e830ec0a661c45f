package notation

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	policy := must(NewTrustPolicy(document(statementOf())))(t)
	release, other := store(t, trust.TypeCA, "release", chain), store(t, trust.TypeCA, "relaese", chain)
	for _, c := range []struct {
		name string
		o    Options
		says string
	}{
		{"no name", Options{TrustPolicy: policy, TrustStores: []*trust.Store{release}}, "without a name"},
		{"no policy", Options{Name: "v", TrustStores: []*trust.Store{release}}, `"v" has no trust policy`},
		{"a store that is missing", Options{Name: "v", TrustPolicy: policy, TrustStores: []*trust.Store{other}}, "names the trust store ca:release, which is not there"},
		{"a store of another type", Options{Name: "v", TrustPolicy: policy, TrustStores: []*trust.Store{store(t, trust.TypeSigningAuthority, "release", chain)}}, "ca:release, which is not there"},
		{"a store twice", Options{Name: "v", TrustPolicy: policy, TrustStores: []*trust.Store{release, release}}, "two trust stores are named ca:release"},
	} {
		if v, err := New(c.o); v != nil || !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.name, err, c.says)
		}
	}
	v := must(New(Options{Name: "v", TrustPolicy: policy, TrustStores: []*trust.Store{release, other}}))(t)
	if v.Name() != "v" || v.Type() != "notation" || !slices.Equal(v.ArtifactTypes(), []string{ArtifactType}) {
		t.Errorf("%s %s %v", v.Name(), v.Type(), v.ArtifactTypes())
	}
}

// TestVerifies is what a right signature yields, in both formats and schemes and
// with every algorithm.
func TestVerifies(t *testing.T) {
	t.Parallel()
	for _, alg := range testca.SigningAlgorithms() {
		for _, format := range []testca.Format{testca.JWS, testca.COSE} {
			for _, scheme := range []string{testca.SchemeX509, testca.SchemeSigningAuthority} {
				t.Run(fmt.Sprintf("%s %s %s", alg, format, scheme), func(t *testing.T) {
					t.Parallel()
					chain := testca.Test(t, testca.Options{Leaf: testca.Spec{Key: alg, CommonName: "signer"}, Intermediates: []testca.Spec{{}}})
					expiry := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
					env := sign(t, chain, testca.SignOptions{Format: format, Scheme: scheme, Expiry: expiry})
					v := setup{statement: statementOf(stores("ca:release", "signingAuthority:release"), identities("x509.subject:C=US,ST=WA,O=Boltseal Test,CN=signer")),
						stores: []*trust.Store{store(t, trust.TypeCA, "release", chain), store(t, trust.TypeSigningAuthority, "release", chain)}}.verifier(t)
					ev := verify(t, v, env)
					expectCause(t, ev, boltseal.CauseNone)
					leaf := chain.Leaf()
					s := ev.Signer
					if s == nil || s.Subject != leaf.Subject.String() || s.Issuer != leaf.Issuer.String() || s.Fingerprint != trust.Fingerprint(leaf.Certificate) ||
						s.Serial != leaf.SerialNumber.Text(16) || len(s.Chain) != 2 || s.Chain[1] != chain.Root().Subject.String() {
						t.Errorf("signer %+v", s)
					}
					if ev.Format != env.MediaType || ev.Scheme != scheme || ev.TrustPolicy != "release" || ev.Level != "strict" || ev.SignedAt.IsZero() ||
						!ev.Expiry.Equal(expiry) || !ev.ValidUntil.Equal(expiry) || !ev.TimestampAt.IsZero() || ev.Reason != (boltseal.Reason{}) {
						t.Errorf("%+v", ev)
					}
					want := []boltseal.Check{{Name: "integrity"}, {Name: "authenticity"}, {Name: "identity"}, {Name: "expiry"}, {Name: "authenticTimestamp"}, {Name: "revocation"}}
					for i := range want {
						want[i].Outcome = boltseal.CheckPassed
					}
					if !slices.Equal(ev.Checks, want) {
						t.Errorf("checks %+v", ev.Checks)
					}
				})
			}
		}
	}
}

func TestManifestRules(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	env := sign(t, chain, testca.SignOptions{})
	for _, c := range []struct {
		name   string
		change func(*boltseal.ArtifactManifest)
		want   boltseal.Cause
	}{
		{"as notation writes it", func(*boltseal.ArtifactManifest) {}, boltseal.CauseNone},
		{"the artifact type in the config", func(m *boltseal.ArtifactManifest) { m.Config.MediaType = ArtifactType }, boltseal.CauseNone},
		{"no config", func(m *boltseal.ArtifactManifest) { m.Config = nil }, boltseal.CauseNone},
		{"another config", func(m *boltseal.ArtifactManifest) { m.Config.MediaType = ocispec.MediaTypeImageConfig }, boltseal.CauseMalformed},
		{"another artifact type", func(m *boltseal.ArtifactManifest) { m.ArtifactType = "application/vnd.example" }, boltseal.CauseMalformed},
		{"no artifact type", func(m *boltseal.ArtifactManifest) { m.ArtifactType = "" }, boltseal.CauseMalformed},
		{"no layer", func(m *boltseal.ArtifactManifest) { m.Layers = nil }, boltseal.CauseMalformed},
		{"two layers", func(m *boltseal.ArtifactManifest) { m.Layers = append(m.Layers, m.Layers[0]) }, boltseal.CauseMalformed},
		{"layer of another type", func(m *boltseal.ArtifactManifest) { m.Layers[0].MediaType = "application/json" }, boltseal.CauseMalformed},
		{"layer of the other format", func(m *boltseal.ArtifactManifest) { m.Layers[0].MediaType = "application/cose" }, boltseal.CauseMalformed},
		{"no subject", func(m *boltseal.ArtifactManifest) { m.Subject = nil }, boltseal.CauseOtherImage},
		{"another subject", func(m *boltseal.ArtifactManifest) { m.Subject.Digest = digest.FromString("other") }, boltseal.CauseOtherImage},
	} {
		for _, l := range []string{"strict", "audit", levelSkip} {
			if l == levelSkip && c.name == "layer of the other format" {
				continue // skip does not read the envelope
			}
			cand := candidate(env)
			c.change(&cand.Manifest)
			ev := must(trusting(t, chain, level(l)).Verify(t.Context(), subject(t), cand))(t)
			if ev.Reason.Cause != c.want || (ev.Outcome == boltseal.Verified) != (c.want == boltseal.CauseNone) {
				t.Errorf("%s at %s: %v, %+v", c.name, l, ev.Outcome, ev.Reason)
			}
		}
	}
}

// TestFaultsByLevel: which fault is refused at which level, and which check says so.
func TestFaultsByLevel(t *testing.T) {
	t.Parallel()
	now := time.Now()
	chain := testca.Test(t, testca.Options{})
	stranger := testca.Test(t, testca.Options{})
	expired := testca.Test(t, testca.Options{Leaf: testca.Spec{NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-time.Hour)}})
	old := now.Add(-2 * time.Hour)
	good := sign(t, chain, testca.SignOptions{})
	other := must(chain.Sign(ocispec.Descriptor{MediaType: target.MediaType, Digest: digest.FromString("other"), Size: target.Size}, testca.SignOptions{}))(t)
	otherSize := must(chain.Sign(ocispec.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size + 1}, testca.SignOptions{}))(t)
	otherType := must(chain.Sign(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: target.Digest, Size: target.Size}, testca.SignOptions{}))(t)
	critical := []testca.Attribute{{Key: "io.example.must", Critical: true, Value: "x"}}
	plugin := []testca.Attribute{{Key: "io.cncf.notary.verificationPlugin", Critical: true, Value: "some-plugin"}}
	harmless := []testca.Attribute{{Key: "io.example.may", Value: "x"}}
	always := []string{"strict", "permissive", "audit"}
	enforcing := []string{"strict", "permissive"}
	strict := []string{"strict"}
	for _, c := range []struct {
		name    string
		env     testca.Envelope
		change  []func(*TrustPolicyDoc)
		check   string
		cause   boltseal.Cause
		refused []string // levels
	}{
		{"none", good, nil, "", boltseal.CauseNone, nil},
		{"an attribute that is not critical", sign(t, chain, testca.SignOptions{Attributes: harmless}), nil, "", boltseal.CauseNone, nil},
		{"an unknown critical attribute", sign(t, chain, testca.SignOptions{Attributes: critical}), nil, "integrity", boltseal.CauseUnsupported, always},
		{"an unknown critical attribute in COSE", sign(t, chain, testca.SignOptions{Attributes: critical, Format: testca.COSE}), nil, "integrity", boltseal.CauseUnsupported, always},
		{"a plugin is required", sign(t, chain, testca.SignOptions{Attributes: plugin}), nil, "integrity", boltseal.CauseUnsupported, always},
		{"garbage", testca.Envelope{MediaType: good.MediaType, Content: []byte("{}")}, nil, "integrity", boltseal.CauseMalformed, always},
		{"empty", testca.Envelope{MediaType: good.MediaType}, nil, "integrity", boltseal.CauseMalformed, always},
		{"of another image", other, nil, "integrity", boltseal.CauseOtherImage, always},
		{"of another size", otherSize, nil, "integrity", boltseal.CauseOtherImage, always},
		{"of another media type", otherType, nil, "integrity", boltseal.CauseOtherImage, always},
		{"tampered", tampered(t, chain), nil, "integrity", boltseal.CauseTampered, always},
		{"not trusted", sign(t, stranger, testca.SignOptions{}), nil, "authenticity", boltseal.CauseUntrustedSigner, enforcing},
		{"not the identity", good, []func(*TrustPolicyDoc){identities("x509.subject:C=DE,ST=BY,O=Other")}, "identity", boltseal.CauseIdentity, enforcing},
		{"expired", sign(t, chain, testca.SignOptions{SigningTime: old, Expiry: old.Add(time.Hour)}), nil, "expiry", boltseal.CauseSignatureExpired, strict},
		{"certificate expired", sign(t, expired, testca.SignOptions{SigningTime: old, Unchecked: true}), []func(*TrustPolicyDoc){stores("ca:old")}, "authenticTimestamp", boltseal.CauseCertificateExpired, strict},
		{"timestamp required", good, []func(*TrustPolicyDoc){stores("ca:release", "tsa:time")}, "authenticTimestamp", boltseal.CauseTimestamp, strict},
		{"signing authority under ca", sign(t, chain, testca.SignOptions{Scheme: testca.SchemeSigningAuthority}), nil, "authenticity", boltseal.CauseUntrustedSigner, enforcing},
		{"ca under signing authority", good, []func(*TrustPolicyDoc){stores("signingAuthority:release")}, "authenticity", boltseal.CauseUntrustedSigner, enforcing},
		{"timestamp authority as signer", sign(t, stranger, testca.SignOptions{}), []func(*TrustPolicyDoc){stores("ca:release", "tsa:stranger")}, "authenticity", boltseal.CauseUntrustedSigner, enforcing},
	} {
		all := []*trust.Store{store(t, trust.TypeCA, "release", chain), store(t, trust.TypeCA, "old", expired), store(t, trust.TypeSigningAuthority, "release", chain),
			store(t, trust.TypeTSA, "time", stranger), store(t, trust.TypeTSA, "stranger", stranger)}
		for _, l := range []string{"strict", "permissive", "audit", levelSkip} {
			t.Run(c.name+" at "+l, func(t *testing.T) {
				t.Parallel()
				s := setup{statement: statementOf(append(slices.Clone(c.change), level(l))...), stores: all}
				ev := verify(t, s.verifier(t), c.env)
				if !has(c.refused, l) {
					expectCause(t, ev, boltseal.CauseNone)
					want := boltseal.CheckLogged
					if l == levelSkip {
						want = boltseal.CheckSkipped
					}
					if got := outcomes(ev)[c.check]; c.check != "" && got != want && !(l == levelSkip && c.check == "identity") {
						t.Errorf("%s is %v, want %v", c.check, got, want)
					}
					return
				}
				expectCause(t, ev, c.cause)
				last := ev.Checks[len(ev.Checks)-1]
				if last.Name != c.check || last.Outcome != boltseal.CheckFailed || last.Detail != ev.Reason.Message {
					t.Errorf("the last check is %+v", last)
				}
			})
		}
	}
}

// tampered is an envelope whose payload was exchanged after signing.
func tampered(tb testing.TB, chain *testca.Chain) testca.Envelope {
	tb.Helper()
	elsewhere := ocispec.Descriptor{MediaType: target.MediaType, Digest: digest.FromString("other"), Size: 1}
	protected := must(testca.EncodeMembers(must(chain.JWSProtected(testca.SignOptions{Scheme: testca.SchemeX509, SigningTime: time.Now().Truncate(time.Second), PayloadType: testca.PayloadType}))(tb)))(tb)
	parts := must(chain.SignJWS(testca.RawJWS{Protected: protected, Payload: must(testca.Payload(elsewhere, nil))(tb)}))(tb)
	good := must(chain.SignJWS(testca.RawJWS{Protected: protected, Payload: must(testca.Payload(target, nil))(tb)}))(tb)
	parts.Payload = good.Payload
	return testca.Envelope{MediaType: testca.JWS.MediaType(), Content: parts.JSON()}
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	old := time.Now().Add(-2 * time.Hour)
	env := sign(t, chain, testca.SignOptions{SigningTime: old, Expiry: old.Add(time.Hour)})
	expectCause(t, verify(t, trusting(t, chain, override("expiry", "log")), env), boltseal.CauseNone)
	expectCause(t, verify(t, trusting(t, chain, level("audit"), override("expiry", "enforce")), env), boltseal.CauseSignatureExpired)
	stranger := sign(t, testca.Test(t, testca.Options{}), testca.SignOptions{})
	expectCause(t, verify(t, trusting(t, chain, level("audit"), override("authenticity", "enforce")), stranger), boltseal.CauseUntrustedSigner)
	expectCause(t, verify(t, trusting(t, chain, override("authenticity", "log")), stranger), boltseal.CauseNone)
	ev := verify(t, trusting(t, chain, override("revocation", "skip")), sign(t, chain, testca.SignOptions{}))
	if got := outcomes(ev)["revocation"]; got != boltseal.CheckSkipped {
		t.Errorf("revocation is %v", got)
	}
}

func TestSkipNeedsASignature(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	cand := candidate(testca.Envelope{MediaType: testca.JWS.MediaType(), Content: []byte("anything")})
	cand.Blob = func(context.Context, ocispec.Descriptor) ([]byte, error) {
		t.Error("level skip fetched a blob")
		return nil, nil
	}
	ev := must(trusting(t, chain, level(levelSkip)).Verify(t.Context(), subject(t), cand))(t)
	expectCause(t, ev, boltseal.CauseNone)
	want := map[string]boltseal.CheckOutcome{}
	for _, name := range checkOrder {
		want[name] = boltseal.CheckSkipped
	}
	if ev.Level != levelSkip || !maps.Equal(outcomes(ev), want) {
		t.Errorf("%+v", ev)
	}
}

func TestNoTrustPolicy(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	ev := verify(t, trusting(t, chain, scopes("registry.example/another")), sign(t, chain, testca.SignOptions{}))
	expectCause(t, ev, boltseal.CauseNoTrustPolicy)
	if !strings.Contains(ev.Reason.Message, repository) {
		t.Error(ev.Reason.Message)
	}
}

// TestBlobFaults: an outage is an error, a registry that lies is not an outage.
func TestBlobFaults(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	v := trusting(t, chain)
	for _, c := range []struct{ err, is error }{
		{boltseal.ErrUnavailable, boltseal.ErrUnavailable}, {boltseal.ErrUnauthorized, boltseal.ErrUnauthorized}, {boltseal.ErrMalformed, boltseal.ErrMalformed},
		{boltseal.ErrLimit, boltseal.ErrLimit}, {boltseal.ErrNotFound, boltseal.ErrMalformed}, {context.DeadlineExceeded, context.DeadlineExceeded},
	} {
		cand := candidate(sign(t, chain, testca.SignOptions{}))
		cand.Blob = func(context.Context, ocispec.Descriptor) ([]byte, error) {
			return nil, &boltseal.StoreError{Op: "fetch blob", Host: "registry.example", Err: c.err}
		}
		ev, err := v.Verify(t.Context(), subject(t), cand)
		if !errors.Is(err, c.is) || ev.Outcome != boltseal.Rejected || len(ev.Checks) > 0 {
			t.Errorf("%v: %+v, %v", c.err, ev, err)
		}
	}
}

// TestMessages: what a person is told.
func TestMessages(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{Leaf: testca.Spec{CommonName: "release signer"}, Root: testca.Spec{CommonName: "Example Root"}})
	stranger := testca.Test(t, testca.Options{Leaf: testca.Spec{CommonName: "somebody"}, Root: testca.Spec{CommonName: "Unknown Root"}})
	ev := verify(t, trusting(t, chain), sign(t, stranger, testca.SignOptions{}))
	for _, s := range []string{"CN=somebody", "CN=Unknown Root", "ca:release"} {
		if !strings.Contains(ev.Reason.Message, s) {
			t.Errorf("%q does not say %q", ev.Reason.Message, s)
		}
	}
	ev = verify(t, trusting(t, chain, identities("x509.subject:C=DE,ST=BY,O=Other", "x509.subject:C=FR,ST=X,O=Third")), sign(t, chain, testca.SignOptions{}))
	for _, s := range []string{"CN=release signer", `"C=DE,ST=BY,O=Other"`, `"C=FR,ST=X,O=Third"`} {
		if !strings.Contains(ev.Reason.Message, s) {
			t.Errorf("%q does not say %q", ev.Reason.Message, s)
		}
	}
	ev = verify(t, trusting(t, chain), sign(t, chain, testca.SignOptions{Scheme: testca.SchemeSigningAuthority}))
	if !strings.Contains(ev.Reason.Message, "no trust store of type signingAuthority") {
		t.Error(ev.Reason.Message)
	}
}
