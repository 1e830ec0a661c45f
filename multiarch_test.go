package boltseal_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/policy"
)

// asks returns an engine of the house with a demand: "platforms linux/amd64".
func asks(t testing.TB, h *testhouse.House, demand string, more ...func(*boltseal.Options)) *boltseal.Engine {
	t.Helper()
	words := strings.Fields(demand)
	o := policy.Options{Default: policy.Any, MultiArch: boltseal.Demand(words[0])}
	for _, w := range words[1:] {
		o.Platforms = append(o.Platforms, need(boltseal.ParsePlatform(w))(t))
	}
	eo := boltseal.Options{Policy: need(policy.New(o))(t)}
	for _, f := range more {
		f(&eo)
	}
	return h.EngineOf(t, houseOptions{Engine: eo})
}

func verify(t testing.TB, e *boltseal.Engine, image string) boltseal.Result {
	t.Helper()
	return need(e.Verify(testwait.Context(t), image))(t)
}

func platform(text string) *ocispec.Platform {
	if text == "" {
		return nil
	}
	parts := append(strings.Split(text, "/"), "")
	return &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
}

// pushPlatforms pushes one image for each platform and signs those whose platform
// ends with "+".
func pushPlatforms(h *testhouse.House, platforms ...string) (out []ocispec.Descriptor) {
	for _, p := range platforms {
		d := h.Registry.PushImage(repo, "", 0)
		if p, ok := strings.CutSuffix(p, "+"); ok {
			h.Registry.Sign(repo, d, h.Signer, testca.SignOptions{})
			d.Platform = platform(p)
		} else {
			d.Platform = platform(p)
		}
		out = append(out, d)
	}
	return out
}

func TestMultiArch(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	index := func(tag string, sign bool, platforms ...string) {
		d := h.Registry.PushIndex(repo, tag, pushPlatforms(h, platforms...)...)
		if sign {
			h.Registry.Sign(repo, d, h.Signer, testca.SignOptions{})
		}
	}
	index("index-only", true, "linux/amd64", "linux/arm64")
	index("platforms-only", false, "linux/amd64+", "linux/arm64/v8+")
	index("both", true, "linux/amd64+", "linux/arm64+")
	index("none", false, "linux/amd64", "linux/arm64")
	index("amd64", false, "linux/amd64+", "linux/arm64", "windows/amd64")
	index("fallback", false, "linux/arm64+", "linux/386")
	index("odd", false, "linux/amd64+", "Linux/x86_64", "linux/arm64+")
	index("two", false, "linux/amd64+", "linux/amd64")
	index("variants", false, "linux/arm/v6+", "linux/arm/v7")
	h.Signed("plain", h.Signer)
	h.Signed("unsigned")
	const amd, arm, both = "platforms linux/amd64", "platforms linux/arm64", "platforms linux/amd64 linux/arm64/v8"
	for _, tt := range []struct {
		tag, demand string
		want        boltseal.Decision
		looked      string // "platform=verdict …"
	}{
		{"index-only", "named", boltseal.Allow, ""},
		{"index-only", both, boltseal.Deny, ""},
		{"index-only", "platforms", boltseal.Deny, ""},
		{"index-only", "either", boltseal.Allow, "index=trusted"},
		{"index-only", "all", boltseal.Deny, ""},
		{"platforms-only", "named", boltseal.Deny, ""},
		{"platforms-only", both, boltseal.Allow, "linux/amd64=trusted linux/arm64/v8=trusted"},
		{"platforms-only", amd, boltseal.Allow, "linux/amd64=trusted"},
		{"platforms-only", "platforms", boltseal.Allow, "linux/amd64=trusted linux/arm64/v8=trusted"},
		{"platforms-only", "either", boltseal.Allow, "index=not trusted linux/amd64=trusted linux/arm64/v8=trusted"},
		{"platforms-only", "either linux/arm64", boltseal.Allow, "index=not trusted linux/arm64/v8=trusted"},
		{"platforms-only", "all", boltseal.Deny, ""},
		{"both", "named", boltseal.Allow, ""},
		{"both", both, boltseal.Allow, "linux/amd64=trusted linux/arm64=trusted"},
		{"both", "either", boltseal.Allow, "index=trusted"},
		{"both", "all", boltseal.Allow, "index=trusted linux/amd64=trusted linux/arm64=trusted"},
		{"none", "named", boltseal.Deny, ""},
		{"none", both, boltseal.Deny, ""},
		{"none", "either", boltseal.Deny, ""},
		{"none", "all", boltseal.Deny, ""},
		{"amd64", amd, boltseal.Allow, "linux/amd64=trusted"},
		{"amd64", arm, boltseal.Deny, "linux/arm64=not trusted"},
		{"amd64", both, boltseal.Deny, ""},
		{"amd64", "platforms", boltseal.Deny, ""},
		// A platform that is not in the index is no objection, and none of them is one.
		{"amd64", amd + " linux/s390x", boltseal.Allow, "linux/amd64=trusted"},
		{"amd64", "platforms linux/s390x", boltseal.Deny, ""},
		{"amd64", "either linux/s390x", boltseal.Deny, "index=not trusted"},
		// A node takes what it can run, and what it may understand in another way.
		{"fallback", both, boltseal.Deny, ""},
		{"odd", amd, boltseal.Deny, ""},
		{"odd", arm, boltseal.Allow, "linux/arm64=trusted"},
		{"two", amd, boltseal.Deny, ""},
		{"variants", "platforms linux/arm/v6", boltseal.Allow, "linux/arm/v6=trusted"},
		{"variants", "platforms linux/arm/v7", boltseal.Deny, ""},
		{"variants", "platforms linux/arm", boltseal.Deny, ""},
		// What is no index speaks for itself.
		{"plain", both, boltseal.Allow, ""}, {"plain", "all", boltseal.Allow, ""}, {"plain", "either", boltseal.Allow, ""},
		{"unsigned", amd, boltseal.Deny, ""}, {"unsigned", "all", boltseal.Deny, ""}, {"unsigned", "either", boltseal.Deny, ""},
	} {
		e := asks(t, h, tt.demand)
		r := verify(t, e, h.Registry.Ref(repo, tt.tag))
		pinned := verify(t, e, h.Registry.Pinned(repo, r.Subject.Digest))
		if r.Decision != tt.want || pinned.Decision != tt.want || r.Reason.Message == "" || tt.want != boltseal.Allow && r.Reason.Remedy == "" {
			t.Errorf("%s, %s: %v, by digest %v: %+v", tt.tag, tt.demand, r.Decision, pinned.Decision, r.Reason)
		}
		if strings.ContainsAny(r.Reason.Message+r.Reason.Remedy, "\n\r") {
			t.Errorf("%s, %s: more than one line: %+v", tt.tag, tt.demand, r.Reason)
		}
		if looked := lookedAt(r); tt.looked != "" && looked != tt.looked {
			t.Errorf("%s, %s: checked %q, want %q", tt.tag, tt.demand, looked, tt.looked)
		}
		if (tt.demand == "named") != (r.Index == nil) && !slices.Contains([]string{"plain", "unsigned"}, tt.tag) {
			t.Errorf("%s, %s: %+v", tt.tag, tt.demand, r.Index)
		}
		// What was recorded comes to the same, whatever is written beside the evidence.
		var again boltseal.Result
		if err := json.Unmarshal(need(json.Marshal(r))(t), &again); err != nil {
			t.Fatal(err)
		}
		if again.Index != nil {
			for i := range again.Index.Manifests {
				again.Index.Manifests[i].Decision, again.Index.Manifests[i].Reason = boltseal.Allow, boltseal.Reason{}
			}
		}
		if d := e.Decide(again.Findings); d.Decision != r.Decision || d.Reason != r.Reason {
			t.Errorf("%s, %s: decided again: %v %+v, at first %+v", tt.tag, tt.demand, d.Decision, d.Reason, r.Reason)
		}
	}
}

func lookedAt(r boltseal.Result) string {
	if r.Index == nil {
		return ""
	}
	var out []string
	for _, m := range r.Index.Manifests {
		out = append(out, fmt.Sprintf("%s=%s", m.Platform, m.Decision))
	}
	return strings.Join(out, " ")
}

// TestMultiArchMessages: which platform, which digest, and what to do.
func TestMultiArchMessages(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	ds := pushPlatforms(h, "linux/amd64+", "linux/arm64")
	h.Registry.PushIndex(repo, "one", ds...)
	r := verify(t, asks(t, h, "platforms"), h.Registry.Ref(repo, "one"))
	expect(t, r, boltseal.Deny, boltseal.CauseNothingSigned)
	for text, words := range map[string][]string{
		r.Reason.Message: {"linux/arm64 is not trusted", "linux/amd64 and linux/arm64", "nothing signed", ds[1].Digest.String()},
		r.Reason.Remedy:  {"notation sign " + h.Registry.Pinned(repo, ds[1].Digest), "multiArch"},
	} {
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%q does not say %q", text, w)
			}
		}
	}
	r = verify(t, asks(t, h, "either"), h.Registry.Ref(repo, "one"))
	if !strings.Contains(r.Reason.Message, "index is not trusted") || !strings.Contains(r.Reason.Message, "linux/arm64") || !strings.Contains(r.Reason.Remedy, "sign the index") {
		t.Errorf("%+v", r.Reason)
	}
	r = verify(t, asks(t, h, "platforms linux/s390x"), h.Registry.Ref(repo, "one"))
	if len(r.Index.Absent) != 1 || len(r.Index.PassedOver) != 2 || !strings.Contains(r.Reason.Message, "none is for linux/s390x") {
		t.Errorf("%+v %+v", r.Index, r.Reason)
	}
}

// TestMultiArchOutcomes: no beats an outage, an outage beats yes.
func TestMultiArchOutcomes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	expired := testca.SignOptions{SigningTime: time.Now().Add(-2 * time.Hour), Expiry: time.Now().Add(-time.Hour)}
	ds := pushPlatforms(h, "linux/amd64+", "linux/arm64", "linux/s390x", "linux/ppc64le+")
	h.Registry.Sign(repo, ds[1], h.Signer, expired)
	h.Registry.Sign(repo, ds[2], h.Stranger, testca.SignOptions{})
	index := h.Registry.PushIndex(repo, "mixed", ds...)
	h.Registry.Sign(repo, index, h.Signer, testca.SignOptions{})
	image := h.Registry.Ref(repo, "mixed")
	expect(t, verify(t, asks(t, h, "platforms linux/arm64"), image), boltseal.Deny, boltseal.CauseSignatureExpired)
	expect(t, verify(t, asks(t, h, "platforms linux/s390x"), image), boltseal.Deny, boltseal.CauseUntrustedSigner)
	expect(t, verify(t, asks(t, h, "platforms linux/amd64 linux/ppc64le"), image), boltseal.Allow, "")

	// From here on what refers to ppc64le cannot be listed.
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: http.StatusServiceUnavailable, Target: ds[3].Digest.String(), Class: testregistry.Referrers})
	one := func(o *boltseal.Options) { o.Limits.Concurrency = 1 }
	expect(t, verify(t, asks(t, h, "platforms linux/amd64 linux/ppc64le"), image), boltseal.Unknown, boltseal.CauseUnavailable)
	for _, more := range [][]func(*boltseal.Options){nil, {one}} {
		r := verify(t, asks(t, h, "platforms linux/ppc64le linux/arm64", more...), image)
		expect(t, r, boltseal.Deny, boltseal.CauseSignatureExpired)
	}
	if r := verify(t, asks(t, h, "all"), image); r.Decision != boltseal.Deny {
		t.Errorf("all: %v %+v", r.Decision, r.Reason)
	}
	expect(t, verify(t, asks(t, h, "either linux/ppc64le"), image), boltseal.Allow, "")
	unsigned := h.Registry.PushIndex(repo, "unsigned-index", ds[0], ds[3])
	expect(t, verify(t, asks(t, h, "either"), h.Registry.Pinned(repo, unsigned.Digest)), boltseal.Unknown, boltseal.CauseUnavailable)
	// The index itself is out of reach: what is certain stays certain.
	h.Registry.ClearFaults()
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: http.StatusServiceUnavailable, Method: http.MethodGet, Target: index.Digest.String(), Class: testregistry.Manifest})
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: http.StatusServiceUnavailable, Method: http.MethodGet, Target: unsigned.Digest.String(), Class: testregistry.Manifest})
	expect(t, verify(t, asks(t, h, "platforms"), image), boltseal.Unknown, boltseal.CauseUnavailable)
	expect(t, verify(t, asks(t, h, "all"), image), boltseal.Unknown, boltseal.CauseUnavailable)
	expect(t, verify(t, asks(t, h, "either"), image), boltseal.Allow, "")
	expect(t, verify(t, asks(t, h, "all"), h.Registry.Pinned(repo, unsigned.Digest)), boltseal.Deny, boltseal.CauseNothingSigned)
}
