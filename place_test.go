package boltseal_test

import (
	"errors"
	"testing"

	"github.com/boltseal/boltseal"
)

func TestParsePlace(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]boltseal.Place{
		"ghcr.io":            {Registry: "ghcr.io"},
		"ghcr.io/acme/x":     {Registry: "ghcr.io", Path: "acme/x"},
		"localhost:5000/a":   {Registry: "localhost:5000", Path: "a"},
		"index.docker.io/a":  {Registry: boltseal.DockerHub, Path: "a"},
		"registry.io:443/up": {Registry: "registry.io", Path: "up"},
	} {
		if got, err := boltseal.ParsePlace(text); err != nil || got != want {
			t.Errorf("%s: %+v %v", text, got, err)
		}
	}
	for _, text := range []string{"", "/", "acme", "acme/x", "ghcr.io/", "ghcr.io//x", "ghcr.io/a:v1", "ghcr.io/a@sha256:b", "https://ghcr.io", "*.ghcr.io", "ghcr.io/A", "ghcr.io/a/../b", "user@ghcr.io", "ghcr.io/ü"} {
		if got, err := boltseal.ParsePlace(text); !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
}

// FuzzPlace: what a place says of an image is taken off and put back without loss,
// and ends at a border of the path.
func FuzzPlace(f *testing.F) {
	f.Add("ghcr.io/acme", "ghcr.io/acme/x:v1")
	f.Add("ghcr.io/acme", "ghcr.io/acmeevil/x:v1")
	f.Add("docker.io", "nginx")
	f.Fuzz(func(t *testing.T, text, image string) {
		p, err := boltseal.ParsePlace(text)
		if err != nil {
			return
		}
		ref, err := boltseal.ParseReference(image)
		if err != nil {
			return
		}
		rest, ok := p.Rest(ref)
		if !ok {
			return
		}
		if got := p.With(ref, rest); got != ref {
			t.Errorf("%q of %q: %+v", text, image, got)
		}
		if whole := p.Registry + "/" + p.Path; p.Path != "" && ref.Name() != whole+"/"+rest {
			t.Errorf("%q is not below %q", ref.Name(), whole)
		}
	})
}
