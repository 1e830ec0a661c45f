package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

func binaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, arch := range []string{"amd64", "arm64"} {
		if err := os.WriteFile(filepath.Join(dir, "boltseal-linux-"+arch), []byte("program for "+arch), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func build(t *testing.T, args ...string) v1.ImageIndex {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image")
	for range 2 { // the second replaces the first
		if err := run(append([]string{"-binaries", binaries(t), "-out", out, "-version", "v1.2.3", "-revision", "abc"}, args...), "1700000000"); err != nil {
			t.Fatal(err)
		}
	}
	l, err := layout.ImageIndexFromPath(out)
	if err != nil {
		t.Fatal(err)
	}
	m, err := l.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 1 || m.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "v1.2.3" {
		t.Fatalf("got %+v", m.Manifests)
	}
	index, err := l.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func TestTheSameBinariesMakeTheSameImage(t *testing.T) {
	a, err := build(t).Digest()
	if err != nil {
		t.Fatal(err)
	}
	b, err := build(t).Digest()
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("%s and %s", a, b)
	}
}

func TestImage(t *testing.T) {
	index := build(t)
	if err := validate.Index(index); err != nil {
		t.Fatal(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 2 {
		t.Fatalf("%d images", len(m.Manifests))
	}
	for _, d := range m.Manifests {
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if config.Architecture != d.Platform.Architecture || config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/boltseal"}) {
			t.Errorf("config %+v", config)
		}
		if config.Config.Labels["org.opencontainers.image.revision"] != "abc" || config.Created.Unix() != 1700000000 {
			t.Errorf("labels %v, created %v", config.Config.Labels, config.Created)
		}
		files := contents(t, image)
		var names []string
		for n := range files {
			names = append(names, n)
		}
		slices.Sort(names)
		if want := []string{"boltseal", "etc/passwd", "etc/ssl/certs/ca-certificates.crt"}; !slices.Equal(names, want) {
			t.Errorf("files %q", names)
		}
		if want := "program for " + d.Platform.Architecture; string(files["boltseal"]) != want {
			t.Errorf("program %q", files["boltseal"])
		}
		if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(files["etc/ssl/certs/ca-certificates.crt"]) || strings.Count(string(files["etc/ssl/certs/ca-certificates.crt"]), "BEGIN") < 50 {
			t.Error("hardly any authorities")
		}
	}
}

func contents(t *testing.T, image v1.Image) map[string][]byte {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, l := range layers {
		rc, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(rc); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if h.ModTime.Unix() != 1700000000 || h.Mode&0o222 != 0 && h.Typeflag == tar.TypeReg {
				t.Errorf("%s: time %v, mode %o", h.Name, h.ModTime, h.Mode)
			}
			if h.Typeflag == tar.TypeReg {
				var b bytes.Buffer
				if _, err := io.Copy(&b, r); err != nil {
					t.Fatal(err)
				}
				files[h.Name] = b.Bytes()
			}
		}
		rc.Close()
	}
	return files
}

func TestPush(t *testing.T) {
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer srv.Close()
	to := strings.TrimPrefix(srv.URL, "http://") + "/boltseal:v1.2.3"
	index := build(t, "-push", to)
	want, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(to)
	if err != nil {
		t.Fatal(err)
	}
	d, err := remote.Head(ref)
	if err != nil {
		t.Fatal(err)
	}
	if d.Digest != want {
		t.Errorf("pushed %s, built %s", d.Digest, want)
	}
}

func TestWrongUse(t *testing.T) {
	for _, tt := range []struct {
		args  []string
		epoch string
	}{
		{args: nil},
		{args: []string{"-version", "v1", "more"}},
		{args: []string{"-version", "v1"}, epoch: "yesterday"},
		{args: []string{"-version", "v1", "-binaries", t.TempDir()}},
		{args: []string{"-version", "v1", "-platforms", "a/b/c/d/e", "-binaries", binaries(t)}},
	} {
		if err := run(append([]string{"-out", filepath.Join(t.TempDir(), "image")}, tt.args...), tt.epoch); err == nil {
			t.Errorf("%q: no error", tt.args)
		}
	}
}
