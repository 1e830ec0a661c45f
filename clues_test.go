package boltseal_test

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/policy"
)

const notationType = "application/vnd.cncf.notary.signature"

// TestWhatIsSignedOtherwise: an image that no Verifier judges a signature of is denied
// as before, and what is there is told in place of "nothing signed".
func TestWhatIsSignedOtherwise(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	elsewhere := h.EngineOf(t, houseOptions{Engine: boltseal.Options{Verifiers: []boltseal.Verifier{h.Verifier(t, "v", "", notationType+".v1")}}})
	image := func(tag string) ocispec.Descriptor { return h.Registry.PushImage(repo, tag, 0) }
	h.Registry.Sign(repo, image("notation"), h.Signer, testca.SignOptions{})
	cosign := image("cosign")
	h.Registry.Tag(repo, "sha256-"+cosign.Digest.Encoded()+".sig", image("").Digest)
	h.Registry.PushReferrer(repo, image("bundle"), "application/vnd.dev.sigstore.bundle.v0.3+json", []byte("{}"))
	h.Registry.PushReferrer(repo, image("cosign-referrer"), "application/vnd.dev.cosign.artifact.sig.v1+json", []byte("{}"))
	h.Registry.PushReferrer(repo, image("sbom"), "application/spdx+json", []byte("{}"))
	mixed := image("mixed")
	for _, kind := range []string{"application/a", "application/b", "application/c", "application/d"} {
		h.Registry.PushReferrer(repo, mixed, kind, []byte("{}"))
	}
	h.Registry.Sign(repo, mixed, h.Signer, testca.SignOptions{})
	image("none")
	h.Registry.Sign(repo, h.Registry.PushIndex(repo, "signed-index", pushPlatforms(h, "linux/amd64+")...), h.Signer, testca.SignOptions{})
	h.Registry.PushIndex(repo, "platforms", pushPlatforms(h, "linux/amd64+", "linux/arm64+", "unknown/unknown")...)
	h.Registry.PushIndex(repo, "one-platform", pushPlatforms(h, "linux/amd64", "linux/arm64+")...)
	h.Registry.PushIndex(repo, "no-platform", pushPlatforms(h, "linux/amd64", "linux/arm64")...)
	h.Registry.PushIndex(repo, "late-platform", pushPlatforms(h, "linux/amd64", "linux/arm64", "linux/s390x", "linux/ppc64le", "linux/riscv64+")...)
	for _, c := range []struct {
		tag    string
		engine *boltseal.Engine
		says   string // "" = trusted
		do     string
		not    string
	}{
		{"notation", elsewhere, "a Notation signature refers to this image, and no Verifier's artifactTypes name its type", "add " + notationType + " to the artifactTypes", "nothing signed"},
		{"mixed", elsewhere, "a Notation signature refers to this image", "add " + notationType, "nothing signed"},
		{"mixed", h.Engine, "", "", ""},
		{"cosign", h.Engine, "signed with cosign", "sign the image with Notation too", "nothing signed"},
		{"bundle", h.Engine, "signed with cosign", "sign the image with Notation too", "nothing signed"},
		{"cosign-referrer", h.Engine, "signed with cosign", "sign the image with Notation too", "nothing signed"},
		{"sbom", h.Engine, "(application/spdx+json)", "add a Verifier for that type", ""},
		{"none", h.Engine, "nothing signed: no signature refers to this image", "sign the image", ""},
		{"none", elsewhere, "nothing signed: no signature refers to this image", "sign the image", ""},
		{"signed-index", h.Engine, "", "", ""},
		{"platforms", h.Engine, "what is in it (linux/amd64 and linux/arm64)", "set the Policy's multiArch to platforms or either", ""},
		{"one-platform", h.Engine, "what is in it (linux/arm64)", "multiArch", ""},
		{"no-platform", h.Engine, "nothing signed: no signature refers to this image", "sign the image", "multiArch"},
		{"late-platform", h.Engine, "nothing signed: no signature refers to this image", "sign the image", "multiArch"},
		{"one-platform", asks(t, h, "platforms linux/arm64"), "", "", ""},
	} {
		r := verify(t, c.engine, h.Registry.Ref(repo, c.tag))
		if c.says == "" {
			if r.Decision != boltseal.Allow {
				t.Errorf("%s: %+v", c.tag, r.Reason)
			}
			continue
		}
		if r.Decision != boltseal.Deny || r.Reason.Cause != boltseal.CauseNothingSigned || !strings.Contains(r.Reason.Message, c.says) || !strings.Contains(r.Reason.Remedy, c.do) {
			t.Errorf("%s: %v, %+v", c.tag, r.Decision, r.Reason)
		}
		if c.not != "" && strings.Contains(r.Reason.Message+r.Reason.Remedy, c.not) {
			t.Errorf("%s says %q: %+v", c.tag, c.not, r.Reason)
		}
	}
}

// TestCluesDecideNothing: no clue makes an image trusted, whatever a policy demands.
func TestCluesDecideNothing(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	image := h.Registry.PushImage(repo, "a", 0)
	f := verify(t, h.Engine, h.Registry.Ref(repo, "a")).Findings
	f.Clues = boltseal.Clues{Cosign: true, SignedPlatforms: []string{"linux/amd64"}}
	for _, rule := range []policy.Rule{policy.Any, policy.All} {
		if d, _ := need(policy.New(policy.Options{Default: rule}))(t).Decide(&f); d != boltseal.Deny {
			t.Errorf("%s of %s: %v", rule, image.Digest, d)
		}
	}
}

// TestOneSignatureUnderTwoVerifiers: it is one signature, for counts and messages.
func TestOneSignatureUnderTwoVerifiers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	both := []boltseal.Verifier{h.Verifier(t, "a", ""), h.VerifierFor(t, h.Stranger, "b", "")}
	other := testca.Test(t, testca.Options{})
	any := h.EngineOf(t, houseOptions{Engine: boltseal.Options{Verifiers: both}})
	all := h.EngineOf(t, houseOptions{Engine: boltseal.Options{Verifiers: both}, Rule: policy.All})
	one, _ := h.Signed("one", other)
	two, _ := h.Signed("two", other, other)
	good, _ := h.Signed("good", h.Signer)
	for _, c := range []struct {
		engine   *boltseal.Engine
		image    string
		decision boltseal.Decision
		says     string
		not      string
	}{
		{any, one, boltseal.Deny, "signed by", "2 signatures"},
		{any, two, boltseal.Deny, "2 signatures, none of them trusted", "4"},
		{all, one, boltseal.Deny, "1 of 1 do not", "2 of"},
		{all, good, boltseal.Deny, "1 of 1 do not", "of 2"}, // b rejects it, and the Policy asks that all hold
		{any, good, boltseal.Allow, "signed by", ""},
	} {
		r := verify(t, c.engine, c.image)
		if r.Decision != c.decision || !strings.Contains(r.Reason.Message, c.says) || c.not != "" && strings.Contains(strings.SplitN(r.Reason.Message, "signed by", 2)[0], c.not) {
			t.Errorf("%s: %v, %s", c.image, r.Decision, r.Reason.Message)
		}
	}
}

// TestCluesCostNothingWhereSomethingIsSigned: only what is denied since nothing is
// signed is looked into further.
func TestCluesCostNothingWhereSomethingIsSigned(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	good, _ := h.Signed("good", h.Signer)
	bad, _ := h.Signed("bad", h.Stranger)
	for _, image := range []string{good, bad} {
		h.Registry.ResetLog()
		verify(t, h.Engine, image)
		for _, r := range h.Registry.Requests() {
			if strings.HasSuffix(r.Path, ".sig") {
				t.Errorf("%s: %s %s", image, r.Method, r.Path)
			}
		}
	}
}
