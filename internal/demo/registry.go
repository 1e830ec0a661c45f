package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// RegistryOptions make a Registry. The zero value listens on a free port of 127.0.0.1.
type RegistryOptions struct {
	// Listen is the address. Empty means 127.0.0.1:0.
	Listen string
	// Wrap, where set, stands before the registry: to count, delay or break.
	Wrap func(http.Handler) http.Handler
}

// Registry is a registry that runs.
type Registry struct {
	backend *ocimem.Registry
	server  *http.Server
	host    string

	mu  sync.Mutex
	log []string // "METHOD path" of each request
}

// StartRegistry starts a registry. Close ends it.
func StartRegistry(o RegistryOptions) (*Registry, error) {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	ln, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, err
	}
	r := &Registry{backend: ocimem.New(), host: ln.Addr().String()}
	var h http.Handler = ociserver.New(r.backend, nil)
	if o.Wrap != nil {
		h = o.Wrap(h)
	}
	r.server = &http.Server{Handler: r.count(h), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = r.server.Serve(ln) }()
	return r, nil
}

func (r *Registry) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		if len(r.log) < 10_000 {
			r.log = append(r.log, req.Method+" "+req.URL.Path)
		}
		r.mu.Unlock()
		next.ServeHTTP(w, req)
	})
}

// Requests returns what was asked so far, and forgets it.
func (r *Registry) Requests() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.log
	r.log = nil
	return log
}

// Host is the registry's host:port.
func (r *Registry) Host() string { return r.host }

// Close ends the registry.
func (r *Registry) Close() { _ = r.server.Close() }

// PushBlob stores content.
func (r *Registry) PushBlob(repo, mediaType string, b []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(b), Size: int64(len(b))}
	_, err := r.backend.PushBlob(context.Background(), repo, ociregistry.Descriptor(d), bytes.NewReader(b))
	return d, err
}

// PushManifest stores a manifest under a tag, or under none.
func (r *Registry) PushManifest(repo, tag, mediaType string, b []byte) (ocispec.Descriptor, error) {
	d, err := r.backend.PushManifest(context.Background(), repo, tag, b, mediaType)
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}, err
}

// PushImage stores a small image whose layer holds content.
func (r *Registry) PushImage(repo, tag, content string) (ocispec.Descriptor, error) {
	config, err := r.PushBlob(repo, ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	layer, err := r.PushBlob(repo, ocispec.MediaTypeImageLayer, []byte(content))
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	b, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{layer}})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return r.PushManifest(repo, tag, ocispec.MediaTypeImageManifest, b)
}

// PushIndex stores an index over manifests that are there already.
func (r *Registry) PushIndex(repo, tag string, manifests ...ocispec.Descriptor) (ocispec.Descriptor, error) {
	b, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return r.PushManifest(repo, tag, ocispec.MediaTypeImageIndex, b)
}

// Attach stores an envelope as a signature artifact of subject.
func (r *Registry) Attach(repo string, subject ocispec.Descriptor, format string, envelope []byte) (ocispec.Descriptor, error) {
	if _, err := r.PushBlob(repo, ocispec.MediaTypeEmptyJSON, ocispec.DescriptorEmptyJSON.Data); err != nil {
		return ocispec.Descriptor{}, err
	}
	if _, err := r.PushBlob(repo, format, envelope); err != nil {
		return ocispec.Descriptor{}, err
	}
	m, err := SignatureManifest(subject, format, envelope)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return r.PushManifest(repo, "", ocispec.MediaTypeImageManifest, m)
}

// Sign signs subject and stores the signature.
func (r *Registry) Sign(repo string, subject ocispec.Descriptor, signer *Cert, o SignOptions) error {
	envelope, err := Sign(signer, subject, o)
	if err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	format := o.Format
	if format == "" {
		format = JWS
	}
	_, err = r.Attach(repo, subject, format, envelope)
	return err
}
