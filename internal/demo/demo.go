// Package demo signs images in a registry of its own, so that Boltseal can be seen at work.
package demo

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
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
	Registry *Registry
	Images   []Image
	Config   []byte // what a user would apply to a cluster
}

// repository of all images of the demo.
const repository = "demo/app"

type signers struct{ trusted, rsa, stranger *Cert }

// Start starts the registry on a free port of loopback and fills it. now is the
// time of the signatures.
func Start(o RegistryOptions, now time.Time) (*Demo, error) {
	reg, err := StartRegistry(o)
	if err != nil {
		return nil, err
	}
	d := &Demo{Registry: reg}
	if err := d.fill(now); err != nil {
		reg.Close()
		return nil, err
	}
	return d, nil
}

// Close ends the registry.
func (d *Demo) Close() { d.Registry.Close() }

func (d *Demo) fill(now time.Time) error {
	var s signers
	for _, c := range []struct {
		to   **Cert
		name string
		key  Key
	}{{&s.trusted, "release", P256}, {&s.rsa, "release (RSA)", RSA2048}, {&s.stranger, "stranger", P256}} {
		cert, err := Chain(c.name, c.key)
		if err != nil {
			return err
		}
		*c.to = cert
	}
	d.Config = config(d.Registry.Host(), PEM(s.trusted.Root().Certificate, s.rsa.Root().Certificate))
	for _, c := range cases(now) {
		image, err := d.Registry.PushImage(repository, c.tag, "content of "+c.tag)
		if err == nil && c.make != nil {
			err = c.make(d.Registry, s, c.tag, image)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", c.tag, err)
		}
		d.Images = append(d.Images, Image{Reference: d.Registry.Host() + "/" + repository + ":" + c.tag, About: c.about, Want: c.want, Cause: c.cause})
	}
	return nil
}

type scenario struct {
	tag, about string
	want       boltseal.Decision
	cause      boltseal.Cause
	make       func(r *Registry, s signers, tag string, image ocispec.Descriptor) error
}

func cases(now time.Time) []scenario {
	signed := func(pick func(signers) *Cert, o SignOptions) func(*Registry, signers, string, ocispec.Descriptor) error {
		return func(r *Registry, s signers, _ string, image ocispec.Descriptor) error {
			return r.Sign(repository, image, pick(s), o)
		}
	}
	trusted := func(s signers) *Cert { return s.trusted }
	return []scenario{
		{"signed", "signed by the release team", boltseal.Allow, "", signed(trusted, SignOptions{})},
		{"signed-cose", "the same, as COSE with an RSA key", boltseal.Allow, "", signed(func(s signers) *Cert { return s.rsa }, SignOptions{Format: COSE})},
		{"two-signatures", "two signatures, the first by a stranger", boltseal.Allow, "", twoSignatures},
		{"index", "a multi-platform index, signed", boltseal.Allow, "", signedIndex},
		{"unsigned", "nobody signed it", boltseal.Deny, boltseal.CauseNothingSigned, nil},
		{"stranger", "signed by somebody unknown", boltseal.Deny, boltseal.CauseUntrustedSigner, signed(func(s signers) *Cert { return s.stranger }, SignOptions{})},
		{"expired", "its signature has expired", boltseal.Deny, boltseal.CauseSignatureExpired,
			signed(trusted, SignOptions{SigningTime: now.Add(-48 * time.Hour), Expiry: now.Add(-24 * time.Hour)})},
		{"tampered", "its signature was changed", boltseal.Deny, boltseal.CauseTampered, tampered},
		{"borrowed", "carries another image's signature", boltseal.Deny, boltseal.CauseOtherImage, borrowed},
	}
}

func twoSignatures(r *Registry, s signers, _ string, image ocispec.Descriptor) error {
	if err := r.Sign(repository, image, s.stranger, SignOptions{}); err != nil {
		return err
	}
	return r.Sign(repository, image, s.trusted, SignOptions{})
}

func signedIndex(r *Registry, s signers, tag string, image ocispec.Descriptor) error {
	image.Platform = &ocispec.Platform{OS: "linux", Architecture: "amd64"}
	index, err := r.PushIndex(repository, tag, image)
	if err != nil {
		return err
	}
	return r.Sign(repository, index, s.trusted, SignOptions{})
}

// tampered changes the signed headers of an envelope after it was signed.
func tampered(r *Registry, s signers, _ string, image ocispec.Descriptor) error {
	envelope, err := Sign(s.trusted, image, SignOptions{Format: JWS})
	if err != nil {
		return err
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(envelope, &doc); err != nil {
		return err
	}
	signature := bytes.Clone(doc["signature"])
	signature[5] ^= 0x01 // still base64: A and @ aside, neighbours are letters or digits
	if signature[5] == '@' || signature[5] == '`' || signature[5] == '.' || signature[5] == '^' || signature[5] == '[' || signature[5] == '/' || signature[5] == ',' || signature[5] == ':' {
		signature[5] = 'Q'
	}
	doc["signature"] = signature
	if envelope, err = json.Marshal(doc); err != nil {
		return err
	}
	_, err = r.Attach(repository, image, JWS, envelope)
	return err
}

func borrowed(r *Registry, s signers, _ string, image ocispec.Descriptor) error {
	other, err := r.PushImage(repository, "", "the image that was really signed")
	if err != nil {
		return err
	}
	envelope, err := Sign(s.trusted, other, SignOptions{})
	if err != nil {
		return err
	}
	_, err = r.Attach(repository, image, JWS, envelope)
	return err
}
