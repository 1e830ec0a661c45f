package oci

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// BenchmarkRequest is our own part of each request: everything but the network,
// net/http's transport and the registry.
func BenchmarkRequest(b *testing.B) {
	body := []byte(`{"schemaVersion":2}` + strings.Repeat(" ", 700))
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: "t", Digest: digest.FromBytes(body), Size: int64(len(body))}
	for _, listed := range []int{1, 100} {
		var index ocispec.Index
		for n := range listed {
			d := desc
			d.Digest, d.Annotations = digest.FromString(fmt.Sprint(n)), map[string]string{"io.cncf.notary.x509chain.thumbprint#S256": `["` + strings.Repeat("0", 64) + `"]`}
			index.Manifests = append(index.Manifests, d)
		}
		page, err := json.Marshal(index)
		if err != nil {
			b.Fatal(err)
		}
		r, err := NewRegistry(Options{})
		if err != nil {
			b.Fatal(err)
		}
		ref := boltseal.Reference{Registry: "127.0.0.1:1", Repository: "team/app", Digest: desc.Digest}
		h := r.hosts.get(ref.Registry)
		h.scheme, h.transport = "memory", &http.Transport{}
		h.transport.RegisterProtocol("memory", roundTrip(func(req *http.Request) *http.Response {
			content, mediaType := body, ocispec.MediaTypeImageManifest
			if strings.Contains(req.URL.Path, "/referrers/") {
				content, mediaType = page, ocispec.MediaTypeImageIndex
			}
			resp := &http.Response{StatusCode: 200, ContentLength: int64(len(content)), Body: http.NoBody, Request: req,
				Header: http.Header{"Content-Type": {mediaType}, "Content-Length": {strconv.Itoa(len(content))}}}
			if req.Method == http.MethodGet {
				resp.Body = io.NopCloser(bytes.NewReader(content))
			}
			return resp
		}))
		for name, do := range map[string]func() error{
			"resolve":   func() error { _, err := r.Resolve(b.Context(), ref); return err },
			"referrers": func() error { _, err := r.Referrers(b.Context(), ref, desc.Digest, []string{"t"}); return err },
			"manifest":  func() error { _, err := r.Manifest(b.Context(), ref, desc); return err },
			"blob":      func() error { _, err := r.Blob(b.Context(), ref, desc); return err },
		} {
			if listed > 1 && name != "referrers" {
				continue
			}
			b.Run(fmt.Sprintf("%s/%d", name, listed), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
