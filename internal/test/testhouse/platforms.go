package testhouse

import (
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/policy"
)

// Index pushes an image for each platform ("linux/amd64"; signed where a + follows)
// and an index of them under a tag. It returns the index, then the images.
func (h *House) Index(tag string, platforms ...string) []ocispec.Descriptor {
	var out []ocispec.Descriptor
	for _, p := range platforms {
		name, signed := strings.CutSuffix(p, "+")
		d := h.Registry.PushImage(Repo, "", 0)
		if signed {
			h.Registry.Sign(Repo, d, h.Signer, testca.SignOptions{})
		}
		parts := append(strings.Split(name, "/"), "")
		d.Platform = &ocispec.Platform{OS: parts[0], Architecture: parts[1], Variant: parts[2]}
		out = append(out, d)
	}
	return append([]ocispec.Descriptor{h.Registry.PushIndex(Repo, tag, out...)}, out...)
}

// Asking makes another engine over the same registry that asks something of images
// of several platforms; wrap, where it is not nil, is put around its store.
func (h *House) Asking(t testing.TB, d boltseal.Demand, wrap func(boltseal.Store) boltseal.Store, platforms ...string) *boltseal.Engine {
	t.Helper()
	o := policy.Options{Default: policy.Any, MultiArch: d}
	for _, p := range platforms {
		o.Platforms = append(o.Platforms, Need(boltseal.ParsePlatform(p))(t))
	}
	return h.EngineOf(t, Options{Wrap: wrap, Engine: boltseal.Options{Policy: Need(policy.New(o))(t)}})
}
