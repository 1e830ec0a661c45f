package boltseal_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// pushEntries pushes an index as it is, signs it, and returns its name by digest.
func pushEntries(t *testing.T, h *testhouse.House, mediaType string, entries ...ocispec.Descriptor) string {
	t.Helper()
	d := h.Registry.PushManifest(repo, "", mediaType, need(json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType, Manifests: entries}))(t))
	h.Registry.Sign(repo, d, h.Signer, testca.SignOptions{})
	return h.Registry.Pinned(repo, d.Digest)
}

// TestMultiArchRefused: what an index may hold, and what is made of it.
func TestMultiArchRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	ds := pushPlatforms(h, "linux/amd64+", "linux/arm64", "unknown/unknown", "linux/amd64+")
	amd, arm, note := ds[0], ds[1], ds[2]
	note.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": amd.Digest.String()}
	pretends, unmarked, bare, again := arm, note, arm, amd
	pretends.Annotations = note.Annotations
	unmarked.Annotations = nil
	bare.Platform = nil
	again.Platform = platform("linux/amd64/v2")
	inner := h.Registry.PushIndex(repo, "", ds[0])
	inner.Platform = platform("linux/amd64")
	elsewhere := inner
	elsewhere.Platform = platform("linux/s390x")
	hollow := inner
	hollow.Platform = nil
	schema1, odd := amd, amd
	schema1.MediaType, odd.MediaType = "application/vnd.docker.distribution.manifest.v1+prettyjws", "application/x"
	for _, tt := range []struct {
		name, demand string
		entries      []ocispec.Descriptor
		want         boltseal.Decision
		cause        boltseal.Cause
		looked       string
	}{
		{"attestations are no images", "all", []ocispec.Descriptor{amd, note}, boltseal.Allow, "", "index=trusted linux/amd64=trusted"},
		{"nor where platforms are listed", "platforms linux/amd64", []ocispec.Descriptor{amd, note}, boltseal.Allow, "", "linux/amd64=trusted"},
		{"nothing but attestations", "platforms", []ocispec.Descriptor{note}, boltseal.Deny, boltseal.CauseUnsupported, ""},
		{"an image that calls itself an attestation", "platforms", []ocispec.Descriptor{amd, pretends}, boltseal.Deny, boltseal.CauseNothingSigned, ""},
		{"a platform that nobody knows", "platforms linux/amd64", []ocispec.Descriptor{amd, unmarked}, boltseal.Deny, boltseal.CauseNothingSigned, ""},
		{"no platform fits all", "platforms linux/amd64", []ocispec.Descriptor{amd, bare}, boltseal.Deny, boltseal.CauseNothingSigned, ""},
		{"another platform", "platforms linux/amd64", []ocispec.Descriptor{amd, arm}, boltseal.Allow, "", "linux/amd64=trusted"},
		{"one manifest for two platforms", "platforms", []ocispec.Descriptor{amd, again}, boltseal.Allow, "", "linux/amd64, linux/amd64/v2=trusted"},
		{"nothing", "platforms", nil, boltseal.Deny, boltseal.CauseMalformed, ""},
		{"an empty list", "platforms", []ocispec.Descriptor{}, boltseal.Deny, boltseal.CauseUnsupported, ""},
		{"an empty list, all", "all", []ocispec.Descriptor{}, boltseal.Deny, boltseal.CauseUnsupported, "index=trusted"},
		{"an empty list, and the index is signed", "either", []ocispec.Descriptor{}, boltseal.Allow, "", "index=trusted"},
		{"an index in the index", "platforms", []ocispec.Descriptor{amd, inner}, boltseal.Deny, boltseal.CauseUnsupported, ""},
		{"an index in the index, all", "all", []ocispec.Descriptor{inner}, boltseal.Deny, boltseal.CauseUnsupported, "index=trusted"},
		{"an index in the index, without a platform", "platforms linux/amd64", []ocispec.Descriptor{amd, hollow}, boltseal.Deny, boltseal.CauseUnsupported, ""},
		{"an index in the index, for others", "platforms linux/amd64", []ocispec.Descriptor{amd, elsewhere}, boltseal.Allow, "", "linux/amd64=trusted"},
		{"schema 1", "platforms", []ocispec.Descriptor{amd, schema1}, boltseal.Deny, boltseal.CauseMalformed, ""},
		{"a type that is none of an image", "platforms", []ocispec.Descriptor{odd}, boltseal.Deny, boltseal.CauseUnsupported, ""},
	} {
		r := verify(t, asks(t, h, tt.demand), pushEntries(t, h, ocispec.MediaTypeImageIndex, tt.entries...))
		if r.Decision != tt.want || r.Decision != boltseal.Allow && r.Reason.Cause != tt.cause || tt.looked != "" && lookedAt(r) != tt.looked {
			t.Errorf("%s: %v %+v, checked %q", tt.name, r.Decision, r.Reason, lookedAt(r))
		}
		if r.Decision != boltseal.Allow && (r.Reason.Message == "" || r.Reason.Remedy == "") {
			t.Errorf("%s: %+v", tt.name, r.Reason)
		}
	}
	list := amd
	list.MediaType = ocispec.MediaTypeImageManifest
	expect(t, verify(t, asks(t, h, "all"), pushEntries(t, h, boltseal.MediaTypeDockerManifestList, list)), boltseal.Allow, "")
}

// TestMultiArchSizes: a thousand entries cost what is looked at.
func TestMultiArchSizes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	amd := pushPlatforms(h, "linux/amd64+")[0]
	entries := []ocispec.Descriptor{amd}
	for i := range 1000 {
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(i)), Size: 500, Platform: platform("linux/s390x")}
		entries = append(entries, d)
	}
	image := pushEntries(t, h, ocispec.MediaTypeImageIndex, entries...)
	h.Registry.ResetLog()
	r := verify(t, asks(t, h, "platforms linux/amd64"), image)
	expect(t, r, boltseal.Allow, "")
	if n := h.Registry.Count(testregistry.Referrers); n != 1 || len(r.Index.PassedOver) != 100 {
		t.Errorf("%d listings, %d passed over", n, len(r.Index.PassedOver))
	}
	h.Registry.ResetLog()
	for _, demand := range []string{"platforms", "all", "platforms linux/s390x"} {
		r := verify(t, asks(t, h, demand), image)
		expect(t, r, boltseal.Deny, boltseal.CauseLimit)
		if !strings.Contains(r.Reason.Message, fmt.Sprint("more than ", boltseal.DefaultPlatforms)) {
			t.Errorf("%+v", r.Reason)
		}
	}
	if n := h.Registry.Count(testregistry.Referrers); n > 1 { // the index's own, under all
		t.Errorf("%d listings for an index over the limit", n)
	}
	two := pushEntries(t, h, ocispec.MediaTypeImageIndex, pushPlatforms(h, "linux/amd64+", "linux/arm64+")...)
	expect(t, verify(t, asks(t, h, "platforms", func(o *boltseal.Options) { o.Limits.Platforms = 1 }), two), boltseal.Deny, boltseal.CauseLimit)
	expect(t, verify(t, asks(t, h, "platforms", func(o *boltseal.Options) { o.Limits.Platforms = 2 }), two), boltseal.Allow, "")
}

// TestMultiArchNotTheIndex: what comes in the index's place is not read.
func TestMultiArchNotTheIndex(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	good, bad := pushPlatforms(h, "linux/amd64+"), pushPlatforms(h, "linux/amd64")
	unsigned := h.Registry.PushIndex(repo, "i", bad...)
	signed := need(json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: good}))(t)
	image := h.Registry.Pinned(repo, unsigned.Digest)
	for name, f := range map[string]testregistry.Fault{
		"another index":        {Kind: testregistry.WrongBody, Body: signed, Method: http.MethodGet},
		"a bit":                {Kind: testregistry.WrongBody, Method: http.MethodGet},
		"another Content-Type": {Kind: testregistry.WrongContentType, Value: ocispec.MediaTypeImageManifest, Method: http.MethodGet},
		"a manifest's type":    {Kind: testregistry.WrongContentType, Value: ocispec.MediaTypeImageManifest},
		"a list's type":        {Kind: testregistry.WrongContentType, Value: boltseal.MediaTypeDockerManifestList},
		"another digest":       {Kind: testregistry.WrongDigest},
		"more of it":           {Kind: testregistry.LongBody, Method: http.MethodGet},
		"half of it":           {Kind: testregistry.ShortBody, Method: http.MethodGet},
	} {
		f.Class, f.Target = testregistry.Manifest, unsigned.Digest.String()
		remove := h.Registry.Inject(f)
		for _, demand := range []string{"platforms", "either", "all"} {
			want := boltseal.Unknown // what was not read says nothing
			if f.Kind == testregistry.WrongContentType {
				want = boltseal.Deny
			}
			if r := verify(t, asks(t, h, demand), image); r.Decision == boltseal.Allow || r.Decision != want && demand != "all" || r.Reason.Message == "" {
				t.Errorf("%s, %s: %v %+v", name, demand, r.Decision, r.Reason)
			}
		}
		remove()
	}
}

// TestMultiArchPlaces: mirrors, registries without the Referrers API.
func TestMultiArchPlaces(t *testing.T) {
	t.Parallel()
	old := newHouse(t, houseOptions{Registry: testregistry.Options{NoReferrersAPI: true}})
	h := newHouse(t, houseOptions{})
	for _, x := range []*testhouse.House{old, h} {
		x.Registry.PushIndex(repo, "half", pushPlatforms(x, "linux/amd64+", "linux/arm64")...)
		d := x.Registry.PushIndex(repo, "whole", pushPlatforms(x, "linux/amd64+", "linux/arm64+")...)
		x.Registry.Sign(repo, d, x.Signer, testca.SignOptions{})
	}
	mirrored := func(o *boltseal.Options) {
		s := need(oci.NewMirrors(oci.MirrorOptions{Store: h.Store, Mirrors: []oci.Mirror{{Source: "registry.example", Endpoints: []string{h.Registry.Host}, Only: true}}}))(t)
		o.Stores = []boltseal.ScopedStore{{Name: "mirrored", Store: s}}
	}
	for _, demand := range []string{"platforms", "platforms linux/amd64 linux/arm64", "either", "all"} {
		want := map[string]boltseal.Decision{"half": boltseal.Deny, "whole": boltseal.Allow}
		for tag, want := range want {
			if r := verify(t, asks(t, old, demand), old.Registry.Ref(repo, tag)); r.Decision != want {
				t.Errorf("tag schema, %s, %s: %v %+v", tag, demand, r.Decision, r.Reason)
			}
			r := verify(t, asks(t, h, demand, mirrored), "registry.example/"+repo+":"+tag)
			if r.Decision != want || r.Reference.Registry != "registry.example" {
				t.Errorf("mirror, %s, %s: %v %+v", tag, demand, r.Decision, r.Reason)
			}
		}
	}
}
