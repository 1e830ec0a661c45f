package policy_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/policy"
)

// manifestOf is a manifest whose evidence decides as d.
func manifestOf(platform, mediaType string, d boltseal.Decision) boltseal.PlatformResult {
	outcome := map[boltseal.Decision]boltseal.Outcome{boltseal.Allow: boltseal.Verified, boltseal.Deny: boltseal.Rejected, boltseal.Unknown: boltseal.Undetermined}[d]
	r := boltseal.PlatformResult{Platform: platform}
	r.Decision = boltseal.Allow // what is written beside the evidence has no say
	r.Subject = ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(platform), Size: 1}
	r.Evidence = []boltseal.Evidence{{ArtifactType: "a/b", Outcome: outcome, Reason: boltseal.Reason{Cause: boltseal.CauseTampered, Message: "m"}}}
	return r
}

// and is the strictest of all, Deny of none; or is the mildest of two.
func and(ds ...boltseal.Decision) boltseal.Decision {
	out := boltseal.Allow
	for _, d := range ds {
		if d == boltseal.Deny || out == boltseal.Deny {
			out = boltseal.Deny
		} else if d == boltseal.Unknown {
			out = d
		}
	}
	if len(ds) == 0 {
		return boltseal.Deny
	}
	return out
}

func or(a, b boltseal.Decision) boltseal.Decision {
	switch {
	case a == boltseal.Allow || b == boltseal.Allow:
		return boltseal.Allow
	case a == boltseal.Unknown || b == boltseal.Unknown:
		return boltseal.Unknown
	}
	return boltseal.Deny
}

// TestMultiArchCombined: every combination of verdicts about the index, two of its
// manifests and the reading of it, against the rule in one line each.
func TestMultiArchCombined(t *testing.T) {
	t.Parallel()
	decisions := []boltseal.Decision{boltseal.Allow, boltseal.Deny, boltseal.Unknown}
	failures := map[boltseal.Decision]boltseal.Reason{
		boltseal.Allow: {}, boltseal.Deny: {Cause: boltseal.CauseMalformed, Message: "m", Remedy: "r"}, boltseal.Unknown: {Cause: boltseal.CauseUnavailable, Message: "m", Remedy: "r"}}
	for _, demand := range []boltseal.Demand{boltseal.EachPlatform, boltseal.Either, boltseal.Whole} {
		p, err := policy.New(policy.Options{Default: policy.Any, MultiArch: demand})
		if err != nil {
			t.Fatal(err)
		}
		for _, own := range decisions {
			for _, a := range decisions {
				for _, b := range decisions {
					for read, failure := range failures {
						index := manifestOf(boltseal.ThisIndex, ocispec.MediaTypeImageIndex, own)
						f := boltseal.Findings{Subject: index.Subject, Index: &boltseal.IndexFindings{Demand: demand, Failure: failure}}
						if demand != boltseal.EachPlatform {
							f.Index.Manifests = append(f.Index.Manifests, index)
						}
						below := read
						if read == boltseal.Allow {
							f.Index.Manifests = append(f.Index.Manifests, manifestOf("linux/amd64", ocispec.MediaTypeImageManifest, a), manifestOf("linux/arm64", ocispec.MediaTypeImageManifest, b))
							below = and(a, b)
						}
						want := map[boltseal.Demand]boltseal.Decision{boltseal.EachPlatform: below, boltseal.Either: or(own, below), boltseal.Whole: and(own, below)}[demand]
						what := fmt.Sprintf("%s: index %s, manifests %s %s, reading %s", demand, own, a, b, read)
						got, reason := p.Decide(&f)
						if got != want || reason.Message == "" {
							t.Errorf("%s: %s %+v, want %s", what, got, reason, want)
						}
						// Nothing of it, or of another demand, allows nothing.
						for name, change := range map[string]func(*boltseal.Findings){
							"nothing":         func(f *boltseal.Findings) { f.Index = nil },
							"no manifests":    func(f *boltseal.Findings) { f.Index = &boltseal.IndexFindings{Demand: demand} },
							"another demand":  func(f *boltseal.Findings) { i := *f.Index; i.Demand = boltseal.Named; f.Index = &i },
							"another subject": func(f *boltseal.Findings) { f.Subject.Digest = digest.FromString("x") },
						} {
							other := f
							change(&other)
							if got, reason := p.Decide(&other); reason.Message == "" || got == boltseal.Allow && !(name == "another subject" && demand != boltseal.Whole && below == boltseal.Allow) {
								t.Errorf("%s, %s: allowed", what, name)
							}
						}
					}
				}
			}
		}
	}
}

func TestMultiArchOptions(t *testing.T) {
	t.Parallel()
	amd := []boltseal.Platform{{OS: "linux", Architecture: "amd64"}}
	o := policy.Options{Default: policy.All, ByType: map[string]policy.Rule{"a/b": policy.Any}, MultiArch: boltseal.Either, Platforms: amd}
	p, err := policy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := policy.OptionsOf(p); !ok || fmt.Sprint(got) != fmt.Sprint(o) {
		t.Errorf("%+v", got)
	}
	amd[0].OS = "windows" // what was given is not kept
	if got, _ := policy.OptionsOf(p); got.Platforms[0].OS != "linux" {
		t.Errorf("%+v", got)
	}
	for _, bad := range []policy.Options{{Default: policy.Any, MultiArch: "some"}, {Default: policy.Any, Platforms: amd}, {Default: policy.Any, MultiArch: boltseal.Whole, Platforms: amd}} {
		if p, err := policy.New(bad); !errors.Is(err, boltseal.ErrConfiguration) || p != nil {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for _, named := range []boltseal.Demand{"", boltseal.Named} {
		p, err := policy.New(policy.Options{Default: policy.Any, MultiArch: named})
		if _, below := p.(boltseal.IndexPolicy); err != nil || below {
			t.Errorf("%q looks below indexes: %v", named, err)
		}
	}
}
