package running

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/weight"
)

var (
	hexA = strings.Repeat("a", 64)
	hexB = strings.Repeat("b", 64)
)

func TestIdentify(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ spec, id, ref, other string }{
		// What containerd and CRI-O say.
		{"reg.example/app:1", "reg.example/app@sha256:" + hexA, "reg.example/app@sha256:" + hexA, ""},
		{"nginx", "docker.io/library/nginx@sha256:" + hexA, "docker.io/library/nginx@sha256:" + hexA, ""},
		// The tag may have moved, and the Pod may name another digest of the same content.
		{"reg.example/app:1@sha256:" + hexB, "reg.example/app@sha256:" + hexA, "reg.example/app@sha256:" + hexA, ""},
		// What Docker says.
		{"nginx:1.27", "docker-pullable://nginx@sha256:" + hexA, "docker.io/library/nginx@sha256:" + hexA, ""},
		{"localhost:5000/app", "docker-pullable://localhost:5000/app@sha256:" + hexA, "localhost:5000/app@sha256:" + hexA, ""},
		// A node that knows the content by another name.
		{"reg.example/app:1", "mirror.example/copy@sha256:" + hexA, "reg.example/app@sha256:" + hexA, "mirror.example/copy@sha256:" + hexA},
		// What the Pod names cannot be read, but what runs can.
		{"Not An Image", "reg.example/app@sha256:" + hexA, "reg.example/app@sha256:" + hexA, ""},
		// Only the configuration's digest: the Pod's own digest is the runtime's promise.
		{"reg.example/app@sha256:" + hexB, "sha256:" + hexA, "reg.example/app@sha256:" + hexB, ""},
		{"reg.example/app:1@sha256:" + hexB, "docker://sha256:" + hexA, "reg.example/app@sha256:" + hexB, ""},
		{"reg.example/app@sha256:" + hexB, hexA, "reg.example/app@sha256:" + hexB, ""},
		// An image volume, of which nodes say nothing.
		{"reg.example/models:3", "", "reg.example/models:3", ""},
	} {
		got := identifyImage(use{c.spec, c.id})
		if got.ref != c.ref || got.other != c.other || got.name() != c.ref || !strings.HasPrefix(got.ref, got.host+"/") {
			t.Errorf("%s as %s: %+v", c.spec, c.id, got)
		}
	}
}

// TestLocalImages: what has no digest in a registry is not trusted, whatever tag it
// pretends to be.
func TestLocalImages(t *testing.T) {
	t.Parallel()
	for _, c := range []use{
		{"reg.example/app:1", "sha256:" + hexA}, {"reg.example/app:1", "docker://sha256:" + hexA}, {"app", hexA},
		{"reg.example/app:1", "reg.example/app:1"}, {"reg.example/app:1", "unheard-of://of/this kind"}, {"sha256:" + hexA, "sha256:" + hexA},
	} {
		got := identifyImage(c)
		if got.ref != "" || got.problem.Cause != boltseal.CauseLocalImage || got.problem.Remedy == "" || got.name() != c.spec {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	if got := identifyImage(use{"Not An Image", ""}); got.ref != "" || got.problem.Cause != boltseal.CauseInvalidReference {
		t.Errorf("%+v", got)
	}
}

func FuzzIdentify(f *testing.F) {
	f.Add("reg.example/app:1", "reg.example/app@sha256:"+hexA)
	f.Add("nginx", "docker-pullable://nginx@sha256:"+hexA)
	f.Add("reg.example/app@sha256:"+hexB, "sha256:"+hexA)
	f.Add("reg.example/app:1", hexA)
	f.Add("app", "://@")
	f.Fuzz(func(t *testing.T, spec, id string) {
		weight.Bound{Floor: 256 << 10, Times: 64}.Check(t, len(spec)+len(id), func() { _ = identifyImage(use{spec, id}) })
		got := identifyImage(use{spec, id})
		if (got.ref == "") == (got.problem == boltseal.Reason{}) {
			t.Fatalf("neither an image nor a problem, or both: %+v", got)
		}
		if got.ref == "" {
			return
		}
		ref, err := boltseal.ParseReference(got.ref)
		if err != nil || ref.String() != got.ref || ref.Registry != got.host {
			t.Fatalf("%q is not canonical: %v", got.ref, err)
		}
		if id == "" {
			return
		}
		// What runs is always named by digest: the node's, or the Pod's own.
		if d := ref.Digest.String(); d == "" || !strings.Contains(id, d) && !strings.Contains(spec, d) {
			t.Fatalf("%q names no digest of %q or %q", got.ref, spec, id)
		}
		// The repository is the Pod's, where it names one.
		if s, err := boltseal.ParseReference(spec); err == nil && s.Name() != ref.Name() {
			t.Fatalf("%q is not in the Pod's repository %s", got.ref, s.Name())
		}
	})
}
