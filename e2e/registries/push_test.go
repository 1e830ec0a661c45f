package registries

import (
	"crypto/tls"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/internal/test/testca"
)

const repository = "team/app"

// pusher pushes by a client that others have written, with the referrers tag
// schema where the registry has no API.
type pusher struct {
	repo name.Repository
	opts []remote.Option
	// configTypes states the artifact type as config.mediaType (image-spec 1.0).
	configTypes bool
}

func (p *place) pusher(t testing.TB) pusher {
	t.Helper()
	repo, err := name.NewRepository(p.host + "/" + repository)
	must(t, err)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12}}
	t.Cleanup(transport.CloseIdleConnections)
	opts := []remote.Option{remote.WithContext(t.Context()), remote.WithTransport(transport), remote.WithAuth(&authn.Basic{Username: user, Password: password})}
	if p.tokens != nil {
		// The client takes no token server on loopback: it gets its token here.
		token, err := p.tokens.issue(service, []string{"repository:" + repository + ":pull,push"})
		must(t, err)
		opts = append(opts, remote.WithAuth(authn.Anonymous), remote.WithTransport(bearer{transport, token}))
	}
	return pusher{repo, opts, p.configTypes}
}

type bearer struct {
	http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.RoundTripper.RoundTrip(r)
}

// image pushes an image, signed by the chains.
func (p pusher) image(t testing.TB, tag string, by ...*testca.Chain) {
	t.Helper()
	image, err := random.Image(64, 1)
	must(t, err)
	must(t, remote.Write(p.repo.Tag(tag), image, p.opts...))
	desc, err := partial.Descriptor(image)
	must(t, err)
	for _, c := range by {
		subject := ocispec.Descriptor{MediaType: string(desc.MediaType), Digest: digest.Digest(desc.Digest.String()), Size: desc.Size}
		envelope, err := c.Sign(subject, testca.SignOptions{})
		must(t, err)
		a, err := testca.SignatureManifest(subject, testca.ManifestOptions{ConfigArtifactType: p.configTypes}, envelope)
		must(t, err)
		for _, b := range a.Blobs {
			must(t, remote.WriteLayer(p.repo, static.NewLayer(b.Content, types.MediaType(b.Descriptor.MediaType)), p.opts...))
		}
		must(t, remote.Put(p.repo.Digest(string(a.Manifest.Descriptor.Digest)), manifest(a.Manifest), p.opts...))
	}
}

// manifest is one to be pushed as it is.
type manifest testca.Blob

func (m manifest) RawManifest() ([]byte, error) { return m.Content, nil }

func (m manifest) MediaType() (types.MediaType, error) {
	return types.MediaType(m.Descriptor.MediaType), nil
}
