package cosign

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testsigstore"
)

// noon is the time of all tests.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

var (
	image  = digest.FromString("an image")
	theirs = digest.FromString("another image")
)

// instance is shared: making its keys takes longer than most tests.
var instance = sync.OnceValues(func() (*testsigstore.Instance, error) {
	return testsigstore.New(testsigstore.Options{Clock: clock})
})

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func sigstore(tb testing.TB) *testsigstore.Instance { tb.Helper(); return must(instance())(tb) }

func trustedRoot(tb testing.TB, o testsigstore.RootOptions) *TrustedRoot {
	tb.Helper()
	return must(ParseTrustedRoot(sigstore(tb).TrustedRoot(o)))(tb)
}

// workflow is the identity that testsigstore issues certificates to.
func workflow() Identity {
	id := testsigstore.DefaultIdentity()
	return Identity{Issuer: ExactMatch(id.Issuer), Subject: ExactMatch(id.URI)}
}

// keyless trusts the workflow, by all that the instance has.
func keyless(tb testing.TB) TrustPolicy {
	tb.Helper()
	return TrustPolicy{Name: "release", Scopes: []string{"*"}, Identities: []Identity{workflow()}, Root: trustedRoot(tb, testsigstore.RootOptions{})}
}

// byKey trusts a signer's key, without a log.
func byKey(s *testsigstore.Signer) TrustPolicy {
	return TrustPolicy{Name: "release", Scopes: []string{"*"}, IgnoreLog: true, Keys: []Key{{Name: "release-key", Public: s.Key.Public()}}}
}

func verifier(tb testing.TB, p ...TrustPolicy) *Verifier {
	tb.Helper()
	return must(New(Options{Name: "cosign", TrustPolicies: p, Clock: clock}))(tb)
}

func subject() boltseal.Subject {
	return boltseal.Subject{Reference: boltseal.Reference{Registry: "registry.example", Repository: "team/app", Digest: image},
		Descriptor: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: image, Size: 500}}
}

// blobs are contents by digest.
type blobs map[digest.Digest][]byte

func (b blobs) layer(mediaType string, content []byte, annotations map[string]string) ocispec.Descriptor {
	d := digest.FromBytes(content)
	b[d] = content
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content)), Annotations: annotations}
}

func (b blobs) candidate(layers ...ocispec.Descriptor) boltseal.Candidate {
	return boltseal.Candidate{Manifest: boltseal.ArtifactManifest{Layers: layers, Subject: &ocispec.Descriptor{Digest: image}},
		Blob: func(_ context.Context, d ocispec.Descriptor) ([]byte, error) {
			if content, ok := b[d.Digest]; ok {
				return content, nil
			}
			return nil, boltseal.ErrNotFound
		}}
}

func bundleCandidate(content []byte) boltseal.Candidate {
	b := blobs{}
	return b.candidate(b.layer(BundleType, content, nil))
}

// layersOf is a manifest whose layers are signatures.
func layersOf(tb testing.TB, all ...*testsigstore.Signed) boltseal.Candidate {
	tb.Helper()
	b := blobs{}
	var layers []ocispec.Descriptor
	for _, s := range all {
		layers = append(layers, b.layer(LayerType, s.Content.Payload, must(s.Annotations())(tb)))
	}
	return b.candidate(layers...)
}

func judge(tb testing.TB, v *Verifier, c boltseal.Candidate) boltseal.Evidence {
	tb.Helper()
	ev, err := v.Verify(tb.Context(), subject(), c)
	if err != nil {
		tb.Fatal(err)
	}
	if (ev.Outcome == boltseal.Verified) != (ev.Reason == boltseal.Reason{}) {
		tb.Fatalf("%v with the reason %+v", ev.Outcome, ev.Reason)
	}
	if ev.Outcome != boltseal.Verified && (ev.Reason.Message == "" || ev.Reason.Remedy == "") {
		tb.Fatalf("a reason without words: %+v", ev.Reason)
	}
	return ev
}

// expect asks for a cause, or with CauseNone for a verified signature.
func expect(tb testing.TB, ev boltseal.Evidence, cause boltseal.Cause) {
	tb.Helper()
	if ev.Reason.Cause != cause || (ev.Outcome == boltseal.Verified) != (cause == boltseal.CauseNone) {
		tb.Errorf("%v: %+v; expected %q", ev.Outcome, ev.Reason, cause)
	}
}

func p256(tb testing.TB) *testsigstore.Signer {
	tb.Helper()
	return &testsigstore.Signer{Key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)}
}

func issue(tb testing.TB, id testsigstore.Identity) *testsigstore.Signer {
	tb.Helper()
	return must(sigstore(tb).Issue(id))(tb)
}

func sign(tb testing.TB, s *testsigstore.Signer, c testsigstore.Content, o testsigstore.SignOptions) *testsigstore.Signed {
	tb.Helper()
	return must(sigstore(tb).Sign(s, c, o))(tb)
}

// The three forms of an image's signature.
func statement() testsigstore.Content {
	return testsigstore.Content{Statement: testsigstore.Statement("", image, nil)}
}

func simple() testsigstore.Content {
	return testsigstore.Content{Payload: testsigstore.Simple("registry.example/team/app", image, nil)}
}

// manifestMessage is the text whose digest the image has.
func manifestMessage() testsigstore.Content { return testsigstore.Content{Message: []byte("an image")} }

// edited is a document with another value at a path of names and indexes; nil removes it.
func edited(tb testing.TB, b []byte, value any, path ...any) []byte {
	tb.Helper()
	var doc any
	if err := json.Unmarshal(b, &doc); err != nil {
		tb.Fatal(err)
	}
	at := doc
	for i, step := range path {
		last := i == len(path)-1
		switch s := step.(type) {
		case string:
			m := at.(map[string]any)
			switch {
			case last && value == nil:
				delete(m, s)
			case last:
				m[s] = value
			}
			at = m[s]
		case int:
			l := at.([]any)
			if last {
				l[s] = value
			}
			at = l[s]
		}
	}
	return must(json.Marshal(doc))(tb)
}
