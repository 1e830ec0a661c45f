package boltseal_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/distribution/reference"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/weight"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseReference(t *testing.T) {
	for in, want := range map[string]string{
		"nginx":                                "docker.io/library/nginx:latest",
		"nginx:1.27":                           "docker.io/library/nginx:1.27",
		"acme/app":                             "docker.io/acme/app:latest",
		"docker.io/nginx":                      "docker.io/library/nginx:latest",
		"index.docker.io/library/nginx":        "docker.io/library/nginx:latest",
		"registry-1.docker.io/library/nginx":   "docker.io/library/nginx:latest",
		"ghcr.io/a/b:tag":                      "ghcr.io/a/b:tag",
		"GHCR.io/a/b:Tag":                      "ghcr.io/a/b:Tag",
		"ghcr.io:443/a/b:tag":                  "ghcr.io/a/b:tag",
		"host:5000/a@" + someDigest:            "host:5000/a@" + someDigest,
		"host:5000/a:v1@" + someDigest:         "host:5000/a:v1@" + someDigest,
		"reg:443/app":                          "reg:443/app:latest",
		"localhost:443/a":                      "localhost/a:latest",
		"localhost/a":                          "localhost/a:latest",
		"[::1]:5000/a":                         "[::1]:5000/a:latest",
		"registry.example:80/a":                "registry.example:80/a:latest",
		"myregistry.azurecr.io/team/app/x:1.0": "myregistry.azurecr.io/team/app/x:1.0",
	} {
		got, err := boltseal.ParseReference(in)
		if err != nil || got.String() != want {
			t.Errorf("%q: got %q, %v; want %q", in, got.String(), err, want)
		}
	}
}

func TestParseReferenceRefuses(t *testing.T) {
	for in, says := range map[string]string{
		"":                                      "empty",
		strings.Repeat("a", 10_000):             "limit is",
		"nginx\n":                               "0x0a",
		"nginx ":                                "0x20",
		"ghcr.io/\x00a":                         "0x00",
		"ghcr.іo/a":                             "printable ASCII", // a Cyrillic і
		"nginx:":                                "HOST/REPOSITORY",
		"ghcr.io/Acme/app":                      "lowercase",
		"EXAMPLE/app":                           "two different images",
		"registry-1.docker.io/nginx":            "docker.io/library/nginx",
		"ghcr.io/a@sha256:1234":                 "HOST/REPOSITORY",
		"ghcr.io/a@md5:" + someDigest[7:]:       "md5",
		"ghcr.io/a@sha256:" + someDigest[8:]:    "digest length",
		"a_b.example/app":                       "hyphens only",
		"https://ghcr.io/a/b":                   "HOST/REPOSITORY",
		"ghcr.io/a/../b":                        "HOST/REPOSITORY",
		someDigest[7:]:                          "64",
		"ghcr.io/a:" + strings.Repeat("t", 129): "HOST/REPOSITORY",
	} {
		got, err := boltseal.ParseReference(in)
		if !errors.Is(err, boltseal.ErrInvalidReference) || got != (boltseal.Reference{}) {
			t.Errorf("%.40q: got %v, %v", in, got, err)
		} else if !strings.Contains(err.Error(), says) || len(err.Error()) > 2*boltseal.MaxReferenceLength {
			t.Errorf("%.40q: %q does not say %q", in, err, says)
		}
	}
}

// FuzzParseReference: what we accept, the container runtimes' own parser
// accepts and reads as the same image; and our canonical text is stable.
func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"nginx", "ghcr.io/a/b:tag", "GHCR.io:443/a/b@" + someDigest, "host:5000/a:v1@" + someDigest, "EXAMPLE/app", "localhost:80/a", "registry-1.docker.io/x", "[::1]:443/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		weight.Bound{Floor: 256 << 10, Times: 32}.Check(t, len(s), func() { _, _ = boltseal.ParseReference(s) })
		ref, err := boltseal.ParseReference(s)
		if err != nil {
			return
		}
		named, err := reference.ParseNormalizedNamed(s)
		if err != nil {
			t.Fatalf("accepted %q, which a runtime refuses: %v", s, err)
		}
		host := strings.ToLower(reference.Domain(named))
		if host != ref.Registry && strings.TrimSuffix(host, ":443") != ref.Registry && ref.Registry != boltseal.DockerHub {
			t.Fatalf("%q: host %q became %q", s, host, ref.Registry)
		}
		again, err := boltseal.ParseReference(ref.String())
		if err != nil || again != ref || ref.Registry == "" || ref.Repository == "" {
			t.Fatalf("%q: canonical %q reads as %+v, %v", s, ref, again, err)
		}
		runtime, err := reference.ParseNormalizedNamed(ref.String())
		if err != nil || runtime.Name() != ref.Name() {
			t.Fatalf("%q: a runtime reads canonical %q as %v, %v", s, ref, runtime, err)
		}
	})
}
