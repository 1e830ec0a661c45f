package boltseal_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/weight"
)

func descriptorJSON(mediaType string, size string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%s}`, mediaType, someDigest, size)
}

func manifestJSON(extra string) string {
	return `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":` +
		descriptorJSON(ocispec.MediaTypeEmptyJSON, "2") + extra + `}`
}

func TestParseArtifactManifest(t *testing.T) {
	layer := descriptorJSON("application/jose+json", "2000")
	for name, tc := range map[string]struct {
		mediaType, doc string
		want           error
	}{
		"image manifest":     {ocispec.MediaTypeImageManifest, manifestJSON(`,"artifactType":"a/b","layers":[` + layer + `],"subject":` + layer), nil},
		"artifact manifest":  {boltseal.MediaTypeORASArtifact, `{"mediaType":"` + boltseal.MediaTypeORASArtifact + `","artifactType":"a/b","blobs":[` + layer + `]}`, nil},
		"type by config":     {ocispec.MediaTypeImageManifest, manifestJSON(`,"layers":[]`), nil},
		"no config":          {ocispec.MediaTypeImageManifest, `{"schemaVersion":2}`, boltseal.ErrMalformed},
		"other mediaType":    {ocispec.MediaTypeImageIndex, manifestJSON(""), boltseal.ErrMalformed},
		"index":              {ocispec.MediaTypeImageIndex, `{"manifests":[]}`, boltseal.ErrMalformed},
		"schema 1":           {"application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1}`, boltseal.ErrMalformed},
		"duplicate subject":  {ocispec.MediaTypeImageManifest, manifestJSON(`,"subject":` + layer + `,"subject":` + layer), boltseal.ErrMalformed},
		"negative size":      {ocispec.MediaTypeImageManifest, manifestJSON(`,"layers":[` + descriptorJSON("a/b", "-1") + `]`), boltseal.ErrMalformed},
		"size 2^62":          {ocispec.MediaTypeImageManifest, manifestJSON(`,"layers":[` + descriptorJSON("a/b", "4611686018427387904") + `]`), boltseal.ErrMalformed},
		"size over int64":    {ocispec.MediaTypeImageManifest, manifestJSON(`,"layers":[` + descriptorJSON("a/b", "18446744073709551616") + `]`), boltseal.ErrMalformed},
		"too many layers":    {ocispec.MediaTypeImageManifest, manifestJSON(`,"layers":[` + strings.Repeat(layer+",", boltseal.MaxLayers) + layer + `]`), boltseal.ErrLimit},
		"digest is not one":  {ocispec.MediaTypeImageManifest, manifestJSON(`,"subject":{"mediaType":"a/b","digest":"sha256:xyz","size":1}`), boltseal.ErrMalformed},
		"upper-case digest":  {ocispec.MediaTypeImageManifest, manifestJSON(`,"subject":{"mediaType":"a/b","digest":"` + strings.ToUpper(someDigest) + `","size":1}`), boltseal.ErrMalformed},
		"no JSON":            {ocispec.MediaTypeImageManifest, `<html>`, boltseal.ErrMalformed},
		"text after":         {ocispec.MediaTypeImageManifest, manifestJSON("") + "{}", boltseal.ErrMalformed},
		"wrong case of name": {ocispec.MediaTypeImageManifest, strings.Replace(manifestJSON(""), `"config"`, `"Config"`, 1), boltseal.ErrMalformed},
	} {
		m, err := boltseal.ParseArtifactManifest(tc.mediaType, []byte(tc.doc))
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if err == nil && m.ArtifactType == "" {
			t.Errorf("%s: no artifact type", name)
		}
	}
}

func FuzzParseArtifactManifest(f *testing.F) {
	f.Add(ocispec.MediaTypeImageManifest, []byte(manifestJSON(`,"layers":[`+descriptorJSON("a/b", "1")+`]`)))
	f.Add(boltseal.MediaTypeORASArtifact, []byte(`{"artifactType":"a/b","blobs":[]}`))
	f.Fuzz(func(t *testing.T, mediaType string, b []byte) {
		weight.Bound{Floor: decodeFloor, Times: decodeTimes}.Check(t, len(b), func() { _, _ = boltseal.ParseArtifactManifest(mediaType, b) })
		m, err := boltseal.ParseArtifactManifest(mediaType, b)
		if err != nil {
			if !errors.Is(err, boltseal.ErrMalformed) && !errors.Is(err, boltseal.ErrLimit) {
				t.Fatalf("an error without a sentinel: %v", err)
			}
			return
		}
		if len(m.Layers) > boltseal.MaxLayers {
			t.Fatalf("%d layers", len(m.Layers))
		}
		for _, l := range m.Layers {
			if l.Size < 0 || l.Digest.Validate() != nil {
				t.Fatalf("layer %+v", l)
			}
		}
	})
}
