package cosign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testsigstore"
)

// TestFormsOfASignature: every form, with every log, by a certificate and by a key.
func TestFormsOfASignature(t *testing.T) {
	t.Parallel()
	contents := map[string]testsigstore.Content{"simple": simple(), "statement": statement(), "message": manifestMessage()}
	options := map[string]testsigstore.SignOptions{"rekor": {}, "rekor and time": {Timestamp: true}, "intoto": {InToto: true}, "rekor 2 and time": {V2: true, Timestamp: true}}
	signers := map[string]*testsigstore.Signer{"certificate": issue(t, testsigstore.Identity{}), "key": p256(t)}
	for contentName, content := range contents {
		for optionName, o := range options {
			for signerName, s := range signers {
				if contentName == "simple" && o.V2 {
					continue // layers have no place for a proof
				}
				t.Run(contentName+", "+optionName+", "+signerName, func(t *testing.T) {
					t.Parallel()
					p := keyless(t)
					if s.Certificate == nil {
						p = byKey(s)
						p.IgnoreLog, p.Root = false, trustedRoot(t, testsigstore.RootOptions{})
					}
					v := verifier(t, p)
					signed := sign(t, s, content, o)
					var candidates []boltseal.Candidate
					if content.Payload != nil {
						candidates = append(candidates, layersOf(t, signed))
					} else {
						for version := 1; version <= 3; version++ {
							if version > 1 || !o.V2 {
								candidates = append(candidates, bundleCandidate(signed.Bundle(version)))
							}
						}
					}
					for _, c := range candidates {
						ev := judge(t, v, c)
						expect(t, ev, boltseal.CauseNone)
						if ev.Kind != KindSignature || ev.Signer == nil || ev.TrustPolicy != "release" || len(ev.Checks) != 5 || !ev.ValidUntil.IsZero() {
							t.Errorf("%+v", ev)
						}
						if (s.Certificate != nil || !o.V2) && !ev.TimestampAt.Equal(noon) {
							t.Errorf("signed at %v", ev.TimestampAt)
						}
						if s.Certificate != nil && (ev.Signer.Subject != testsigstore.DefaultIdentity().URI || ev.Signer.Issuer != testsigstore.DefaultIdentity().Issuer) {
							t.Errorf("%+v", ev.Signer)
						}
					}
				})
			}
		}
	}
}

// TestKeyAlgorithms: each kind of key, over a payload and an envelope, without a log.
func TestKeyAlgorithms(t *testing.T) {
	t.Parallel()
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))(t)
	for name, c := range map[string]struct {
		signer *testsigstore.Signer
		o      testsigstore.SignOptions
		change func(*Key)
	}{
		"P-256":              {signer: p256(t)},
		"P-384":              {signer: &testsigstore.Signer{Key: must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t)}},
		"P-384 with SHA-256": {signer: &testsigstore.Signer{Key: must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))(t), Hash: crypto.SHA256}, change: func(k *Key) { k.Hash = crypto.SHA256 }},
		"P-521":              {signer: &testsigstore.Signer{Key: must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))(t)}},
		"RSA":                {signer: &testsigstore.Signer{Key: rsaKey}},
		"RSA with SHA-512":   {signer: &testsigstore.Signer{Key: rsaKey, Hash: crypto.SHA512}, change: func(k *Key) { k.Hash = crypto.SHA512 }},
		"RSA-PSS":            {signer: &testsigstore.Signer{Key: rsaKey}, o: testsigstore.SignOptions{PSS: true}, change: func(k *Key) { k.PSS = true }},
		"Ed25519":            {signer: &testsigstore.Signer{Key: ed}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := byKey(c.signer)
			if c.change != nil {
				c.change(&p.Keys[0])
			}
			c.o.NoLog = true
			v := verifier(t, p)
			expect(t, judge(t, v, layersOf(t, sign(t, c.signer, simple(), c.o))), boltseal.CauseNone)
			good := sign(t, c.signer, statement(), c.o)
			expect(t, judge(t, v, bundleCandidate(good.Bundle(3))), boltseal.CauseNone)
			good.Signature[len(good.Signature)-1] ^= 1
			expect(t, judge(t, v, bundleCandidate(good.Bundle(3))), boltseal.CauseUntrustedSigner)
			if c.change != nil { // the configured algorithm alone is right
				c := p
				c.Keys = []Key{{Name: "release-key", Public: p.Keys[0].Public}}
				good.Signature[len(good.Signature)-1] ^= 1
				expect(t, judge(t, verifier(t, c), bundleCandidate(good.Bundle(3))), boltseal.CauseUntrustedSigner)
			}
		})
	}
}

// TestKeysThatAreRefused names keys that no trust policy may have.
func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))(t)
	good := must(rsa.GenerateKey(rand.Reader, 2048))(t).Public().(*rsa.PublicKey)
	weak := &rsa.PublicKey{N: good.N, E: 1<<31 - 1}
	small := &rsa.PublicKey{N: new(big.Int).Rsh(good.N, 1), E: 65537}
	large := &rsa.PublicKey{N: new(big.Int).Lsh(good.N, 2049), E: 65537}
	key := p256(t).Key.Public()
	for name, k := range map[string]Key{
		"P-224":               {Name: "k", Public: p224.Public()},
		"RSA of 2047 bits":    {Name: "k", Public: small},
		"RSA of 4097 bits":    {Name: "k", Public: large},
		"a large exponent":    {Name: "k", Public: weak},
		"no name":             {Public: key},
		"no key":              {Name: "k"},
		"P-256 with SHA-512":  {Name: "k", Public: key, Hash: crypto.SHA512},
		"SHA-1":               {Name: "k", Public: good, Hash: crypto.SHA1},
		"PSS without RSA":     {Name: "k", Public: key, PSS: true},
		"a reversed validity": {Name: "k", Public: key, NotBefore: noon, NotAfter: noon.Add(-1)},
	} {
		if v, err := New(Options{Name: "v", TrustPolicies: []TrustPolicy{{Name: "p", Scopes: []string{"*"}, IgnoreLog: true, Keys: []Key{k}}}}); err == nil {
			t.Errorf("%s: %v", name, v)
		}
	}
	for name, text := range map[string]string{"nothing": "", "text": "x", "private": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "two": string(p256(t).PublicPEM()) + string(p256(t).PublicPEM()),
		"broken": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "long": strings.Repeat("a", 1<<17)} {
		if k, err := ParsePublicKey([]byte(text)); err == nil || strings.Contains(err.Error(), "AAAA") {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
}

// TestKeyValidity: a key's window is held against the trusted time of the signature
// (CVE-2026-54787), and where there is none against now.
func TestKeyValidity(t *testing.T) {
	t.Parallel()
	s := p256(t)
	for name, c := range map[string]struct {
		from, to time.Time
		log      bool
		cause    boltseal.Cause
	}{
		"inside, logged":   {noon, noon, true, boltseal.CauseNone},
		"before, logged":   {noon.Add(time.Second), time.Time{}, true, boltseal.CauseCertificateExpired},
		"after, logged":    {time.Time{}, noon.Add(-time.Second), true, boltseal.CauseCertificateExpired},
		"inside, unlogged": {noon, noon.Add(time.Hour), false, boltseal.CauseNone},
		"after, unlogged":  {time.Time{}, noon.Add(-time.Second), false, boltseal.CauseCertificateExpired},
	} {
		p := byKey(s)
		p.Keys[0].NotBefore, p.Keys[0].NotAfter = c.from, c.to
		if c.log {
			p.IgnoreLog, p.Root = false, trustedRoot(t, testsigstore.RootOptions{})
		}
		ev := judge(t, verifier(t, p), bundleCandidate(sign(t, s, statement(), testsigstore.SignOptions{}).Bundle(3)))
		t.Log(name)
		expect(t, ev, c.cause)
		if c.cause == boltseal.CauseNone && !c.log && !ev.ValidUntil.Equal(c.to) {
			t.Errorf("valid until %v", ev.ValidUntil)
		}
	}
}

// TestLayersAreJudgedAlone: a layer that is wrong, foreign, unreadable or missing never
// hides a right one, in any order (Ratify 1.1; cosign's changelog of 3.0.5).
func TestLayersAreJudgedAlone(t *testing.T) {
	t.Parallel()
	s := p256(t)
	v := verifier(t, byKey(s))
	none := testsigstore.SignOptions{NoLog: true}
	b := blobs{}
	layer := func(s *testsigstore.Signed) ocispec.Descriptor {
		return b.layer(LayerType, s.Content.Payload, must(s.Annotations())(t))
	}
	good := layer(sign(t, s, simple(), none))
	other := layer(sign(t, p256(t), simple(), none))
	elsewhere := layer(sign(t, s, testsigstore.Content{Payload: testsigstore.Simple("registry.example/team/app", theirs, nil)}, none))
	junk := b.layer(LayerType, []byte("{"), map[string]string{annotationSignature: "!"})
	missing := ocispec.Descriptor{MediaType: LayerType, Digest: theirs, Size: 3}
	for _, bad := range []ocispec.Descriptor{other, elsewhere, junk, missing} {
		expect(t, judge(t, v, b.candidate(bad, good)), boltseal.CauseNone)
		expect(t, judge(t, v, b.candidate(good, bad)), boltseal.CauseNone)
		if ev := judge(t, v, b.candidate(bad)); ev.Outcome == boltseal.Verified {
			t.Errorf("%+v", ev)
		}
	}
	all := must(v.VerifyEach(t.Context(), subject(), b.candidate(other, good, junk)))(t)
	if len(all) != 3 || all[0].Outcome == boltseal.Verified || all[1].Outcome != boltseal.Verified || all[2].Outcome == boltseal.Verified {
		t.Errorf("%+v", all)
	}
	expect(t, judge(t, v, b.candidate()), boltseal.CauseMalformed)
	expect(t, judge(t, v, b.candidate(b.layer("application/json", []byte("{}"), nil))), boltseal.CauseMalformed)
	many := make([]ocispec.Descriptor, MaxSignatures+1)
	for i := range many {
		many[i] = good
	}
	expect(t, judge(t, v, b.candidate(many...)), boltseal.CauseLimit)
	large := good
	large.Size = MaxPayloadBytes + 1
	expect(t, judge(t, v, b.candidate(large)), boltseal.CauseLimit)
	c := b.candidate(good)
	c.Manifest.Subject = &ocispec.Descriptor{Digest: theirs}
	expect(t, judge(t, v, c), boltseal.CauseOtherImage)
	c.Manifest.Subject = nil // under a ".sig" tag it has none
	expect(t, judge(t, v, c), boltseal.CauseNone)
}

// TestCertificateBesideAKey: what a key has signed is judged by the key alone, and a rule
// about certificates accepts no key (sigstore-go's RequireSigningKey).
func TestCertificateBesideAKey(t *testing.T) {
	t.Parallel()
	withCertificate, key := issue(t, testsigstore.Identity{}), p256(t)
	none := testsigstore.SignOptions{NoLog: true}
	signed := sign(t, key, simple(), none)
	signed.Signer = &testsigstore.Signer{Key: key.Key, Certificate: withCertificate.Certificate}
	ev := judge(t, verifier(t, byKey(key)), layersOf(t, signed))
	expect(t, ev, boltseal.CauseNone)
	if ev.Signer.Subject != "key release-key" || ev.Scheme != "key" {
		t.Errorf("%+v", ev.Signer)
	}
	expect(t, judge(t, verifier(t, keyless(t)), layersOf(t, signed)), boltseal.CauseTampered)
	expect(t, judge(t, verifier(t, keyless(t)), bundleCandidate(sign(t, key, statement(), none).Bundle(3))), boltseal.CauseUntrustedSigner)
	// A bundle says that a certificate signed, so the key of that certificate does not count.
	bundled := sign(t, withCertificate, statement(), testsigstore.SignOptions{})
	expect(t, judge(t, verifier(t, byKey(withCertificate)), bundleCandidate(bundled.Bundle(3))), boltseal.CauseUntrustedSigner)
}

// TestKeyNeedsALogUnlessItIsSaid: with a key, too, an entry is required by default.
func TestKeyNeedsALogUnlessItIsSaid(t *testing.T) {
	t.Parallel()
	s := p256(t)
	p := byKey(s)
	p.IgnoreLog = false
	if _, err := New(Options{Name: "v", TrustPolicies: []TrustPolicy{p}}); err == nil || !strings.Contains(err.Error(), "transparency log") {
		t.Error(err)
	}
	p.Root = trustedRoot(t, testsigstore.RootOptions{})
	v := verifier(t, p)
	unlogged := sign(t, s, statement(), testsigstore.SignOptions{NoLog: true})
	expect(t, judge(t, v, bundleCandidate(unlogged.Bundle(3))), boltseal.CauseNotLogged)
	p.IgnoreLog = true
	expect(t, judge(t, verifier(t, p), bundleCandidate(unlogged.Bundle(3))), boltseal.CauseNone)
}
