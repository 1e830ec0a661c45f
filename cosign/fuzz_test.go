package cosign

import (
	"bytes"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testsigstore"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzBundle: no bundle that nobody we trust has signed is verified, and judging one
// costs no more than its size.
func FuzzBundle(f *testing.F) {
	s, key := issue(f, testsigstore.Identity{}), p256(f)
	signed := map[string]bool{} // statements and messages that are
	for _, o := range []testsigstore.SignOptions{{}, {InToto: true}, {V2: true, Timestamp: true}} {
		for _, c := range []testsigstore.Content{statement(), manifestMessage()} {
			one := sign(f, s, c, o)
			signed[string(one.Signature)] = true
			for version := 1; version <= 3; version++ {
				f.Add(one.Bundle(version))
			}
		}
	}
	f.Add(sign(f, key, statement(), testsigstore.SignOptions{}).Bundle(3))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"tlogEntries":[{},{},{}]}}`))
	v := verifier(f, keyless(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := bundleCandidate(b)
		weight.Bound{Floor: 512 << 10, Times: 64}.Check(t, len(b), func() { _, _ = v.Verify(t.Context(), subject(), c) })
		ev, err := v.Verify(t.Context(), subject(), c)
		if err != nil {
			t.Fatal(err)
		}
		if ev.Outcome == boltseal.Verified && ev.Signer.Fingerprint == "" {
			t.Fatalf("%+v", ev)
		}
		if ev.Outcome == boltseal.Verified && ev.Signer.Subject != testsigstore.DefaultIdentity().URI {
			t.Fatalf("verified for %+v", ev.Signer)
		}
	})
}

// FuzzLayer: no payload with whatever annotations is verified that a trusted key has not
// signed, and judging it costs no more than its size.
func FuzzLayer(f *testing.F) {
	s := issue(f, testsigstore.Identity{})
	for _, o := range []testsigstore.SignOptions{{}, {NoLog: true, Timestamp: true}} {
		one := sign(f, s, simple(), o)
		a := must(one.Annotations())(f)
		f.Add(one.Content.Payload, a[annotationSignature], a[annotationCertificate], a[annotationBundle], a[annotationTimestamp])
	}
	f.Add([]byte(`{"critical":{}}`), "AAAA", "", "{}", "{}")
	want := simple().Payload
	v := verifier(f, keyless(f))
	f.Fuzz(func(t *testing.T, content []byte, signature, certificate, log, timestamp string) {
		b := blobs{}
		c := b.candidate(b.layer(LayerType, content, map[string]string{annotationSignature: signature, annotationCertificate: certificate, annotationBundle: log, annotationTimestamp: timestamp}))
		size := len(content) + len(signature) + len(certificate) + len(log) + len(timestamp)
		weight.Bound{Floor: 512 << 10, Times: 64}.Check(t, size, func() { _, _ = v.Verify(t.Context(), subject(), c) })
		ev, err := v.Verify(t.Context(), subject(), c)
		if err != nil || ev.Outcome == boltseal.Verified && !bytes.Equal(content, want) {
			t.Fatalf("%+v, %v", ev, err)
		}
	})
}

// FuzzTrustedRoot: whatever is read names somebody, and reading costs no more than its size.
func FuzzTrustedRoot(f *testing.F) {
	for _, o := range []testsigstore.RootOptions{{}, {NoLogs: true, NoCT: true}, {NoTSALeaf: true, End: noon}} {
		f.Add(sigstore(f).TrustedRoot(o))
	}
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1","tlogs":[{},{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: 256 << 10, Times: 64}.Check(t, len(b), func() { _, _ = ParseTrustedRoot(b) })
		r, err := ParseTrustedRoot(b)
		if err == nil && !r.HasAuthorities() && !r.HasLogs() && !r.HasTimestampAuthorities() {
			t.Fatal("a root of nobody")
		}
	})
}
