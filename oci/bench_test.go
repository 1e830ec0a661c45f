package oci_test

import (
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// BenchmarkImageRequests is what one image costs over warm connections: HEAD,
// referrers, manifest, blob. The registry runs in the same process, so its own
// work is in the figures; compare them with BenchmarkRequest of this package.
func BenchmarkImageRequests(b *testing.B) {
	for name, o := range map[string]testregistry.Options{
		"plain": {MaxLog: -1}, "TLS": {MaxLog: -1, TLS: true}, "token": {MaxLog: -1, Token: &testregistry.TokenOptions{Users: users}},
	} {
		b.Run(name, func(b *testing.B) {
			reg := testregistry.New(b, o)
			image := reg.PushImage(repo, "v1", 0)
			signature := reg.Sign(repo, image, testca.Test(b, testca.Options{}), testca.SignOptions{})
			r := newRegistry(b, oci.Options{Credentials: rightPassword, Hosts: map[string]oci.HostOptions{reg.Host: {RootCAs: reg.RootCAs(), PlainHTTP: !o.TLS}}})
			ref := pinned(reg.Host, repo, image.Digest)
			manifest, err := r.Manifest(b.Context(), ref, signature)
			if err != nil {
				b.Fatal(err)
			}
			m, err := boltseal.ParseArtifactManifest(signature.MediaType, manifest)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Resolve(b.Context(), ref); err != nil {
					b.Fatal(err)
				}
				list, err := r.Referrers(b.Context(), ref, image.Digest, []string{notation})
				if err != nil || len(list.Referrers) != 1 {
					b.Fatal(err)
				}
				if _, err := r.Manifest(b.Context(), ref, list.Referrers[0]); err != nil {
					b.Fatal(err)
				}
				if _, err := r.Blob(b.Context(), ref, m.Layers[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
