package oci_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// An OCI layout on disk is a Store, too: what is in a registry's place is a folder.
func ExampleOpenLayout() {
	dir, err := os.MkdirTemp("", "layout")
	must(err)
	defer os.RemoveAll(dir)
	writeSignedLayout(dir)

	layout, err := oci.OpenLayout(dir, oci.Limits{})
	must(err)
	defer layout.Close()
	ctx := context.Background()
	ref, err := boltseal.ParseReference("example.com/app:v1")
	must(err)
	image, err := layout.Resolve(ctx, ref)
	must(err)
	listing, err := layout.Referrers(ctx, ref, image.Digest, []string{"application/vnd.cncf.notary.signature"})
	must(err)
	fmt.Println(len(listing.Referrers), listing.Referrers[0].ArtifactType)
	// Output: 1 application/vnd.cncf.notary.signature
}

// A transport of one's own: whose certificates a registry may have, and the proxy on the way to it.
func ExampleNewRegistry() {
	running, err := testregistry.Start(testregistry.Options{TLS: true})
	must(err)
	defer running.Close()
	running.PushImage("team/app", "v1", 0)
	authorities := x509.NewCertPool()
	authorities.AppendCertsFromPEM(running.CAPEM())

	registry, err := oci.NewRegistry(oci.Options{
		Hosts: map[string]oci.HostOptions{running.Host: {
			RootCAs: authorities,
			Proxy:   func(*http.Request) (*url.URL, error) { return nil, nil }, // none, whatever HTTPS_PROXY says
		}},
		Limits:    oci.Limits{Attempts: 1},
		UserAgent: "example/1.0",
	})
	must(err)
	defer registry.Close()
	ref, err := boltseal.ParseReference(running.Ref("team/app", "v1"))
	must(err)
	image, err := registry.Resolve(context.Background(), ref)
	must(err)
	fmt.Println(image.MediaType)
	// Output: application/vnd.oci.image.manifest.v1+json
}

// writeSignedLayout writes a layout with one signed image whose tag is v1.
func writeSignedLayout(dir string) {
	blobs := filepath.Join(dir, "blobs", "sha256")
	must(os.MkdirAll(blobs, 0o700))
	write := func(b testca.Blob) ocispec.Descriptor {
		must(os.WriteFile(filepath.Join(blobs, b.Descriptor.Digest.Encoded()), b.Content, 0o600))
		return b.Descriptor
	}
	config := write(testca.NewBlob(ocispec.MediaTypeImageConfig, []byte("{}")))
	manifest, err := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{}})
	must(err)
	image := write(testca.NewBlob(ocispec.MediaTypeImageManifest, manifest))
	signer, err := testca.New(testca.Options{})
	must(err)
	signature, err := signer.Attach(image, testca.SignOptions{})
	must(err)
	for _, b := range signature.Blobs {
		write(b)
	}
	image.Annotations = map[string]string{ocispec.AnnotationRefName: "v1"}
	index, err := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{image, write(signature.Manifest)}})
	must(err)
	must(os.WriteFile(filepath.Join(dir, "index.json"), index, 0o600))
	must(os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
