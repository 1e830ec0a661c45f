package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// nobody is the user that the program runs as; the name nonroot is known to the image only.
const nobody = "65532"

// builder makes images of binaries.
type builder struct {
	binaries          string
	created           time.Time
	version, revision string
}

type file struct {
	path string
	mode int64
	data []byte
}

func (b builder) annotations() map[string]string {
	a := map[string]string{
		"org.opencontainers.image.title":       "boltseal",
		"org.opencontainers.image.description": "Lets a Kubernetes cluster run only images that somebody it trusts has signed",
		"org.opencontainers.image.source":      "https://github.com/boltseal/boltseal",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     b.version,
	}
	if b.revision != "" {
		a["org.opencontainers.image.revision"] = b.revision
	}
	return a
}

func (b builder) index(platforms []string) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range platforms {
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			return nil, err
		}
		image, err := b.image(*platform)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	annotated, ok := mutate.Annotations(index, b.annotations()).(v1.ImageIndex)
	if !ok {
		return nil, fmt.Errorf("the index cannot be annotated")
	}
	return annotated, nil
}

func (b builder) image(p v1.Platform) (v1.Image, error) {
	program, err := os.ReadFile(filepath.Join(b.binaries, "boltseal-"+p.OS+"-"+p.Architecture))
	if err != nil {
		return nil, err
	}
	// What changes seldom comes first.
	base, err := b.layer([]file{
		{"etc/passwd", 0o444, []byte("nonroot:x:" + nobody + ":" + nobody + "::/:/nonexistent\n")},
		{"etc/ssl/certs/ca-certificates.crt", 0o444, authorities()},
	})
	if err != nil {
		return nil, err
	}
	top, err := b.layer([]file{{"boltseal", 0o555, program}})
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	if image, err = mutate.AppendLayers(image, base, top); err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = p.OS, p.Architecture, p.Variant
	config.Created = v1.Time{Time: b.created}
	for i, what := range []string{"user and certificate authorities", "boltseal " + b.version} {
		config.History[i] = v1.History{Created: v1.Time{Time: b.created}, Comment: what}
	}
	config.Config = v1.Config{User: nobody + ":" + nobody, Entrypoint: []string{"/boltseal"}, Cmd: []string{"serve"}, WorkingDir: "/",
		Env: []string{"PATH=/", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"}, Labels: b.annotations()}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		return nil, err
	}
	annotated, ok := mutate.Annotations(image, b.annotations()).(v1.Image)
	if !ok {
		return nil, fmt.Errorf("the image cannot be annotated")
	}
	return annotated, nil
}

// layer packs files, with the folders above them.
func (b builder) layer(files []file) (v1.Layer, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	made := map[string]bool{}
	for _, f := range files {
		parts := strings.Split(f.path, "/")
		for i := 1; i < len(parts); i++ {
			dir := strings.Join(parts[:i], "/") + "/"
			if made[dir] {
				continue
			}
			made[dir] = true
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: b.created, Format: tar.FormatPAX}); err != nil {
				return nil, err
			}
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: f.path, Mode: f.mode, Size: int64(len(f.data)), ModTime: b.created, Format: tar.FormatPAX}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }, tarball.WithMediaType(types.OCILayer))
}

// authorities are those of Mozilla's programme, as the Go project keeps them. Those
// that are trusted under conditions are left out: a PEM file cannot say which.
func authorities() []byte {
	var out bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return out.Bytes()
}
