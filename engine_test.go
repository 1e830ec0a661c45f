package boltseal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/policy"
)

func TestVerify(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	r := h.Registry
	signed := r.PushImage(repo, "signed", 0)
	r.Sign(repo, signed, h.Signer, testca.SignOptions{})
	cose := r.PushImage(repo, "cose", 0)
	r.Sign(repo, cose, h.Signer, testca.SignOptions{Format: testca.COSE})
	r.PushImage(repo, "unsigned", 0)
	stranger := r.PushImage(repo, "stranger", 0)
	r.Sign(repo, stranger, h.Stranger, testca.SignOptions{})
	expired := r.PushImage(repo, "expired", 0)
	r.Sign(repo, expired, h.Signer, testca.SignOptions{SigningTime: time.Now().Add(-2 * time.Hour), Expiry: time.Now().Add(-time.Hour)})
	both := r.PushImage(repo, "both", 0)
	r.Sign(repo, both, h.Stranger, testca.SignOptions{})
	r.Sign(repo, both, h.Signer, testca.SignOptions{})
	borrowed := r.PushImage(repo, "borrowed", 0)
	other := need(h.Signer.Sign(signed, testca.SignOptions{}))(t)
	r.PushArtifact(repo, need(testca.SignatureManifest(borrowed, testca.ManifestOptions{}, other))(t))
	sbom := r.PushImage(repo, "sbom", 0)
	r.PushReferrer(repo, sbom, "application/spdx+json", []byte("verified: true"))
	claims := r.PushImage(repo, "claims", 0)
	r.PushArtifact(repo, need(testca.SignatureManifest(claims, testca.ManifestOptions{
		Annotations: map[string]string{"verified": "true", "dev.boltseal.decision": "allow"}}))(t))
	two := r.PushImage(repo, "two-layers", 0)
	e1 := need(h.Signer.Sign(two, testca.SignOptions{}))(t)
	r.PushArtifact(repo, need(testca.SignatureManifest(two, testca.ManifestOptions{}, e1, e1))(t))

	for _, tt := range []struct {
		image string
		want  boltseal.Decision
		cause boltseal.Cause
	}{
		{r.Ref(repo, "signed"), boltseal.Allow, ""},
		{r.Pinned(repo, signed.Digest), boltseal.Allow, ""},
		{r.Ref(repo, "signed") + "@" + signed.Digest.String(), boltseal.Allow, ""},
		{r.Ref(repo, "gone") + "@" + signed.Digest.String(), boltseal.Allow, ""}, // the digest is what counts
		{r.Ref(repo, "cose"), boltseal.Allow, ""},
		{r.Ref(repo, "both"), boltseal.Allow, ""},
		{r.Ref(repo, "unsigned"), boltseal.Deny, boltseal.CauseNothingSigned},
		{r.Ref(repo, "sbom"), boltseal.Deny, boltseal.CauseNothingSigned},
		{r.Ref(repo, "stranger"), boltseal.Deny, boltseal.CauseUntrustedSigner},
		{r.Ref(repo, "expired"), boltseal.Deny, boltseal.CauseSignatureExpired},
		{r.Ref(repo, "borrowed"), boltseal.Deny, boltseal.CauseOtherImage},
		{r.Ref(repo, "claims"), boltseal.Deny, boltseal.CauseMalformed},
		{r.Ref(repo, "two-layers"), boltseal.Deny, boltseal.CauseMalformed},
		{r.Ref(repo, "missing"), boltseal.Deny, boltseal.CauseImageNotFound},
		{r.Ref("no/such", "repository"), boltseal.Deny, boltseal.CauseImageNotFound},
	} {
		expect(t, h.Verify(t, tt.image), tt.want, tt.cause)
	}
	ok := h.Verify(t, r.Ref(repo, "both"))
	if n := len(ok.Evidence); n < 1 || n > 2 {
		t.Errorf("%d pieces of evidence, want the good one and perhaps the stranger's: %+v", n, ok.Evidence)
	}
	good := h.Verify(t, r.Ref(repo, "signed"))
	ev := good.Evidence[0]
	if ev.Outcome != boltseal.Verified || ev.Signer == nil || !strings.HasPrefix(ev.Signer.Subject, "CN=") && !strings.Contains(ev.Signer.Subject, "CN=") ||
		len(ev.Signer.Chain) != 2 || ev.SignedAt.IsZero() || ev.ValidUntil.IsZero() || len(ev.Checks) == 0 || ev.Verifier != "notation" {
		t.Errorf("evidence is not whole: %+v", ev)
	}
	if good.Subject.Digest != signed.Digest || !strings.Contains(good.Reason.Message, ev.Signer.Subject) {
		t.Errorf("a verdict that does not name digest and signer: %+v", good)
	}
}

func TestVerifyRefusesWhatIsNoReference(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	for _, image := range []string{"", "UPPER/case", "a\x00b", "nginx:", strings.Repeat("a", 10_000), "reg.example/а:1"} {
		r, err := h.Engine.Verify(t.Context(), image)
		if !errors.Is(err, boltseal.ErrInvalidReference) || r.Decision != boltseal.Deny {
			t.Errorf("Verify(%.20q) = %s, %v; want a denial and ErrInvalidReference", image, r.Decision, err)
		}
	}
}

func TestIndexesAndOddImages(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	r := h.Registry
	inner := r.PushIndex(repo, "", r.PushImage(repo, "", 0))
	outer := r.PushIndex(repo, "outer", inner)
	r.Sign(repo, outer, h.Signer, testca.SignOptions{})
	expect(t, h.Verify(t, r.Ref(repo, "outer")), boltseal.Allow, "")
	// Signing the index says nothing of what it holds, asked for by itself.
	expect(t, h.Verify(t, r.Pinned(repo, inner.Digest)), boltseal.Deny, boltseal.CauseNothingSigned)
	for mediaType, content := range map[string]string{
		"application/vnd.docker.distribution.manifest.v1+prettyjws": `{"schemaVersion":1,"name":"team/app","tag":"v1","fsLayers":[]}`,
		"application/x-unknown": `{"a":1}`,
	} {
		d := r.PushManifest(repo, "odd", mediaType, []byte(content))
		res := h.Verify(t, r.Ref(repo, "odd"))
		if res.Decision == boltseal.Allow {
			t.Errorf("%s (%s) is allowed", mediaType, d.Digest)
		}
	}
}

func TestAnyAndAll(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	const other = "application/vnd.example.signature"
	r := h.Registry
	push := func(tag string, chains ...*testca.Chain) string {
		image := r.PushImage(repo, tag, 0)
		for _, c := range chains {
			r.Sign(repo, image, c, testca.SignOptions{})
		}
		return r.Ref(repo, tag)
	}
	good, bad, mixed := push("good", h.Signer, h.Signer), push("bad", h.Stranger), push("mixed", h.Signer, h.Stranger)
	none := push("none")
	for _, tt := range []struct {
		name  string
		o     houseOptions
		image string
		want  boltseal.Decision
		cause boltseal.Cause
	}{
		{"any", houseOptions{Rule: policy.Any}, mixed, boltseal.Allow, ""},
		{"any", houseOptions{Rule: policy.Any}, bad, boltseal.Deny, boltseal.CauseUntrustedSigner},
		{"all", houseOptions{Rule: policy.All}, good, boltseal.Allow, ""},
		{"all", houseOptions{Rule: policy.All}, mixed, boltseal.Deny, boltseal.CauseUntrustedSigner},
		{"all", houseOptions{Rule: policy.All}, none, boltseal.Deny, boltseal.CauseNothingSigned},
		{"any, other type required", houseOptions{ByType: map[string]policy.Rule{other: policy.Any}}, good, boltseal.Deny, boltseal.CauseMissingSignature},
		{"by type", houseOptions{Rule: policy.All, ByType: map[string]policy.Rule{notation.ArtifactType: policy.Any}}, mixed, boltseal.Allow, ""},
	} {
		e := h.EngineOf(t, tt.o)
		res, err := e.Verify(t.Context(), tt.image)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(tt.name, func(t *testing.T) { expect(t, res, tt.want, tt.cause) })
	}
}

func TestFirstSuccessEndsTheWork(t *testing.T) {
	t.Parallel()
	const n = 40
	h := newHouse(t, houseOptions{})
	image := h.Registry.PushImage(repo, "many", 0)
	for range n {
		h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
	}
	res := h.Verify(t, h.Registry.Ref(repo, "many"))
	expect(t, res, boltseal.Allow, "")
	if got := h.Registry.Count(testregistry.Blob); got > boltseal.DefaultConcurrency {
		t.Errorf("%d envelopes were fetched, want at most the %d under way at once", got, boltseal.DefaultConcurrency)
	}
	if len(res.Evidence)+len(res.PassedOver) != n {
		t.Errorf("%d judged and %d passed over, want %d together", len(res.Evidence), len(res.PassedOver), n)
	}
}

func TestSignatureLimit(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{Engine: boltseal.Options{Limits: boltseal.Limits{MaxSignatures: 3}}})
	image := h.Registry.PushImage(repo, "many", 0)
	for range 5 {
		h.Registry.Sign(repo, image, h.Stranger, testca.SignOptions{})
	}
	res := h.Verify(t, h.Registry.Ref(repo, "many"))
	if res.Decision == boltseal.Allow || res.Truncated == "" || len(res.Evidence) != 3 || len(res.PassedOver) != 2 {
		t.Errorf("five bad signatures, limit three: %s, truncated %q, %d judged, %d passed over",
			res.Decision, res.Truncated, len(res.Evidence), len(res.PassedOver))
	}
	all := h.EngineOf(t, houseOptions{Rule: policy.All, Engine: boltseal.Options{Limits: boltseal.Limits{MaxSignatures: 3}}})
	image = h.Registry.PushImage(repo, "good", 0)
	for range 5 {
		h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
	}
	if res, _ := all.Verify(t.Context(), h.Registry.Ref(repo, "good")); res.Decision == boltseal.Allow {
		t.Error("\"all\" was satisfied by a listing that was cut short")
	}
}

func TestSeveralVerifiers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	image := h.Registry.PushImage(repo, "v", 0)
	h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
	e := h.EngineOf(t, houseOptions{Rule: policy.All, Engine: boltseal.Options{Verifiers: []boltseal.Verifier{
		h.Verifier(t, "one", ""), h.Verifier(t, "two", "", "*"), panics{"three"},
	}}})
	res, err := e.Verify(t.Context(), h.Registry.Ref(repo, "v"))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, res, boltseal.Deny, boltseal.CauseInternal)
	if len(res.Evidence) != 3 {
		t.Fatalf("%d pieces of evidence, want one of each verifier", len(res.Evidence))
	}
	for i, want := range []boltseal.Outcome{boltseal.Verified, boltseal.Verified, boltseal.Rejected} {
		if res.Evidence[i].Outcome != want {
			t.Errorf("%s: %s, want %s", res.Evidence[i].Verifier, res.Evidence[i].Outcome, want)
		}
	}
	if got := h.Registry.Count(testregistry.Blob); got != 1 {
		t.Errorf("the envelope was fetched %d times for three verifiers", got)
	}
	if _, err := boltseal.New(boltseal.Options{Stores: []boltseal.ScopedStore{{Store: h.Store}}, Policy: need(policy.New(policy.Options{Default: policy.Any}))(t),
		Verifiers: []boltseal.Verifier{panics{"x"}, panics{"x"}}}); !errors.Is(err, boltseal.ErrConfiguration) {
		t.Errorf("two verifiers of one name: %v", err)
	}
}

// panics is what a verifier with a fault in it does.
type panics struct{ name string }

func (p panics) Name() string          { return p.name }
func (panics) Type() string            { return "faulty" }
func (panics) ArtifactTypes() []string { return []string{"*"} }
func (panics) Verify(context.Context, boltseal.Subject, boltseal.Candidate) (boltseal.Evidence, error) {
	panic("a fault in a verifier")
}

func TestStoreScopes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	second := need(oci.NewRegistry(oci.Options{}))(t)
	image := h.Registry.PushImage("other/app", "v", 0)
	h.Registry.Sign("other/app", image, h.Signer, testca.SignOptions{})
	e := h.EngineOf(t, houseOptions{Engine: boltseal.Options{Stores: []boltseal.ScopedStore{
		{Name: "team", Scopes: []string{h.Registry.Host + "/team"}, Store: h.Store},
		{Name: "other", Scopes: []string{h.Registry.Host + "/other"}, Store: second},
	}}})
	for image, store := range map[string]string{h.Registry.Ref("other/app", "v"): "other", h.Registry.Ref("team/app", "v"): "team"} {
		if res, _ := e.Verify(t.Context(), image); res.Store != store {
			t.Errorf("%s was read from %q, want %q", image, res.Store, store)
		}
	}
	for _, image := range []string{"registry.example/app:1", h.Registry.Ref("teammate/app", "1")} {
		res, _ := e.Verify(t.Context(), image)
		expect(t, res, boltseal.Deny, boltseal.CauseNoStore)
	}
	for _, bad := range [][]string{{"a*b"}, {""}, {"*."}, {"host/*/x"}, {"same.example", "same.example"}} {
		_, err := boltseal.New(boltseal.Options{Stores: []boltseal.ScopedStore{{Name: "s", Scopes: bad, Store: h.Store}},
			Verifiers: []boltseal.Verifier{panics{"x"}}, Policy: need(policy.New(policy.Options{Default: policy.Any}))(t)})
		if !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("scopes %q: %v, want ErrConfiguration", bad, err)
		}
	}
}

func TestMissingPartsAreRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	p := need(policy.New(policy.Options{Default: policy.Any}))(t)
	s := []boltseal.ScopedStore{{Name: "s", Store: h.Store}}
	v := []boltseal.Verifier{panics{"v"}}
	for i, o := range []boltseal.Options{{}, {Stores: s, Policy: p}, {Stores: s, Verifiers: v}, {Verifiers: v, Policy: p}} {
		if e, err := boltseal.New(o); e != nil || !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("options %d: %v, %v", i, e, err)
		}
	}
}

func TestDecideAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	if r := h.Engine.Decide(boltseal.Findings{}); r.Decision != boltseal.Deny || r.Reason.Cause != boltseal.CauseInternal {
		t.Errorf("findings that say nothing: %+v", r)
	}
	image := h.Registry.PushImage(repo, "v", 0)
	h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
	first := h.Verify(t, h.Registry.Ref(repo, "v"))
	again := h.Engine.Decide(first.Findings)
	if fmt.Sprint(again.Decision, again.Reason) != fmt.Sprint(first.Decision, first.Reason) {
		t.Errorf("the same findings were decided as %v, then as %v", first.Decision, again.Decision)
	}
}
