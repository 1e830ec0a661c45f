// Package demo signs images in a registry of its own, so that Boltseal can be seen at work.
package demo

import (
	"crypto/x509/pkix"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// Image is one image of the demo, and what Boltseal must say of it.
type Image struct {
	Reference string
	About     string
	Want      boltseal.Decision
	Cause     boltseal.Cause // where Want is not Allow
}

// Demo is a registry with signed, unsigned and badly signed images.
type Demo struct {
	Host   string
	Images []Image
	Config []byte // what a user would apply to a cluster

	registry *testregistry.Registry
}

// Options make a Demo.
type Options struct {
	// Listen is where the registry listens. "" means a free port of loopback.
	Listen string
	// Now is the time of the signatures.
	Now time.Time
}

const repository = "demo/app"

// Start starts the registry and fills it.
func Start(o Options) (*Demo, error) {
	reg, err := testregistry.Start(testregistry.Options{Address: o.Listen, MaxLog: -1})
	if err != nil {
		return nil, err
	}
	d := &Demo{Host: reg.Host, registry: reg}
	if err := d.fill(o.Now); err != nil {
		reg.Close()
		return nil, err
	}
	return d, nil
}

// Close ends the registry.
func (d *Demo) Close() { d.registry.Close() }

// Image returns the reference of one of the demo's images by its tag.
func (d *Demo) Image(tag string) string { return d.registry.Ref(repository, tag) }

// newChain is somebody who signs, with a CA of three levels.
func newChain(name string, key testca.Algorithm, now time.Time) (*testca.Chain, error) {
	named := func(cn string) testca.Spec {
		return testca.Spec{Subject: pkix.Name{Country: []string{"IS"}, Province: []string{"Reykjavik"}, Organization: []string{"Boltseal Demo"}, CommonName: cn}}
	}
	leaf := named(name)
	leaf.Key = key
	return testca.New(testca.Options{
		Clock: func() time.Time { return now },
		Leaf:  leaf, Intermediates: []testca.Spec{named(name + " Issuing CA")}, Root: named(name + " Root"),
	})
}

type signers struct{ trusted, rsa, stranger *testca.Chain }

func (d *Demo) fill(now time.Time) error {
	var s signers
	for _, c := range []struct {
		to   **testca.Chain
		name string
		key  testca.Algorithm
	}{{&s.trusted, "release", testca.P256}, {&s.rsa, "release (RSA)", testca.RSA2048}, {&s.stranger, "stranger", testca.P256}} {
		made, err := newChain(c.name, c.key, now)
		if err != nil {
			return err
		}
		*c.to = made
	}
	d.Config = trustConfig(d.Host, append(s.trusted.Root().PEM(), s.rsa.Root().PEM()...))
	for _, c := range allScenarios(now) {
		image := d.registry.PushImage(repository, c.tag, 0)
		if c.make != nil {
			if err := c.make(d.registry, s, c.tag, image); err != nil {
				return fmt.Errorf("%s: %w", c.tag, err)
			}
		}
		d.Images = append(d.Images, Image{Reference: d.Image(c.tag), About: c.about, Want: c.want, Cause: c.cause})
	}
	return nil
}

type scenario struct {
	tag, about string
	want       boltseal.Decision
	cause      boltseal.Cause
	make       func(r *testregistry.Registry, s signers, tag string, image ocispec.Descriptor) error
}

func allScenarios(now time.Time) []scenario {
	return []scenario{
		{"signed", "signed by the release team", boltseal.Allow, "", signedBy(trustedSigner, testca.SignOptions{})},
		{"signed-cose", "the same, as COSE with an RSA key", boltseal.Allow, "", signedBy(rsaSigner, testca.SignOptions{Format: testca.COSE})},
		{"two-signatures", "two signatures, the first by a stranger", boltseal.Allow, "", twoSignatures},
		{"index", "a multi-platform index, signed", boltseal.Allow, "", signedIndex},
		{"unsigned", "nobody signed it", boltseal.Deny, boltseal.CauseNothingSigned, nil},
		{"stranger", "signed by somebody unknown", boltseal.Deny, boltseal.CauseUntrustedSigner, signedBy(unknownSigner, testca.SignOptions{})},
		{"expired", "its signature has expired", boltseal.Deny, boltseal.CauseSignatureExpired,
			signedBy(trustedSigner, testca.SignOptions{SigningTime: now.Add(-2 * time.Hour), Expiry: now.Add(-time.Hour)})},
		{"tampered", "its signature was changed", boltseal.Deny, boltseal.CauseTampered, pushTampered},
		{"borrowed", "carries another image's signature", boltseal.Deny, boltseal.CauseOtherImage, pushBorrowed},
	}
}

func trustedSigner(s signers) *testca.Chain { return s.trusted }
func rsaSigner(s signers) *testca.Chain     { return s.rsa }
func unknownSigner(s signers) *testca.Chain { return s.stranger }

func signedBy(by func(signers) *testca.Chain, o testca.SignOptions) func(*testregistry.Registry, signers, string, ocispec.Descriptor) error {
	return func(r *testregistry.Registry, s signers, _ string, image ocispec.Descriptor) error {
		return attachSignature(r, by(s), image, image, o)
	}
}

// attachSignature signs what, and attaches the signature to image.
func attachSignature(r *testregistry.Registry, by *testca.Chain, what, image ocispec.Descriptor, o testca.SignOptions) error {
	envelope, err := by.Sign(what, o)
	if err != nil {
		return err
	}
	return pushSignature(r, image, envelope)
}

func pushSignature(r *testregistry.Registry, image ocispec.Descriptor, envelope testca.Envelope) error {
	a, err := testca.SignatureManifest(image, testca.ManifestOptions{}, envelope)
	if err == nil {
		r.PushArtifact(repository, a)
	}
	return err
}

func twoSignatures(r *testregistry.Registry, s signers, _ string, image ocispec.Descriptor) error {
	if err := attachSignature(r, s.stranger, image, image, testca.SignOptions{}); err != nil {
		return err
	}
	return attachSignature(r, s.trusted, image, image, testca.SignOptions{})
}

func signedIndex(r *testregistry.Registry, s signers, tag string, image ocispec.Descriptor) error {
	image.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	index := r.PushIndex(repository, tag, image)
	return attachSignature(r, s.trusted, index, index, testca.SignOptions{})
}

// pushTampered carries the signature of one payload around another: the payload says
// that this image was signed, and the signature does not cover it.
func pushTampered(r *testregistry.Registry, s signers, _ string, image ocispec.Descriptor) error {
	other := r.PushImage(repository, "", 0)
	raw := func(target ocispec.Descriptor) (testca.JWSParts, error) {
		payload, err := testca.Payload(target, nil)
		if err != nil {
			return testca.JWSParts{}, err
		}
		members, err := s.trusted.JWSProtected(testca.SignOptions{})
		if err != nil {
			return testca.JWSParts{}, err
		}
		protected, err := testca.EncodeMembers(members)
		if err != nil {
			return testca.JWSParts{}, err
		}
		return s.trusted.SignJWS(testca.RawJWS{Protected: protected, Payload: payload})
	}
	honest, err := raw(other)
	if err != nil {
		return err
	}
	changed, err := raw(image)
	if err != nil {
		return err
	}
	changed.Signature = honest.Signature
	return pushSignature(r, image, testca.Envelope{MediaType: testca.JWS.MediaType(), Content: changed.JSON()})
}

func pushBorrowed(r *testregistry.Registry, s signers, _ string, image ocispec.Descriptor) error {
	return attachSignature(r, s.trusted, r.PushImage(repository, "", 0), image, testca.SignOptions{})
}
