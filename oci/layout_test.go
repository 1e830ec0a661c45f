package oci_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content/oci"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	ours "github.com/boltseal/boltseal/oci"
)

// layoutDir is a layout that is written file by file.
type layoutDir struct {
	t   testing.TB
	dir string
}

func newLayoutDir(t testing.TB) layoutDir {
	t.Helper()
	l := layoutDir{t, t.TempDir()}
	l.write("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	l.write("index.json", []byte(`{"schemaVersion":2,"manifests":[]}`))
	return l
}

func (l layoutDir) write(name string, b []byte) {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		l.t.Fatal(err)
	}
}

func blobPath(d digest.Digest) string {
	return filepath.Join("blobs", d.Algorithm().String(), d.Encoded())
}

func (l layoutDir) blob(mediaType string, b []byte) ocispec.Descriptor {
	d := testca.NewBlob(mediaType, b).Descriptor
	l.write(blobPath(d.Digest), b)
	return d
}

func (l layoutDir) json(mediaType string, v any) ocispec.Descriptor {
	l.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.blob(mediaType, b)
}

func (l layoutDir) index(ds ...ocispec.Descriptor) ocispec.Descriptor {
	return l.json(ocispec.MediaTypeImageIndex, ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: ds})
}

func (l layoutDir) top(ds ...ocispec.Descriptor) {
	l.t.Helper()
	b, err := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: ds})
	if err != nil {
		l.t.Fatal(err)
	}
	l.write("index.json", b)
}

func (l layoutDir) image(n int) ocispec.Descriptor {
	config := l.blob(ocispec.MediaTypeImageConfig, fmt.Append(nil, n))
	return l.json(ocispec.MediaTypeImageManifest, ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{config}})
}

func (l layoutDir) artifact(subject ocispec.Descriptor, artifactType, text string) (manifest, layer ocispec.Descriptor) {
	l.t.Helper()
	a, err := testca.SignatureManifest(subject, testca.ManifestOptions{ArtifactType: artifactType},
		testca.Envelope{MediaType: "application/jose+json", Content: []byte(text)})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, b := range append(a.Blobs, a.Manifest) {
		l.write(blobPath(b.Descriptor.Digest), b.Content)
	}
	d := a.Manifest.Descriptor
	d.ArtifactType, d.Annotations = "", nil // an index need not say
	return d, a.Blobs[len(a.Blobs)-1].Descriptor
}

func (l layoutDir) open(limits ours.Limits) *ours.Layout {
	l.t.Helper()
	layout, err := ours.OpenLayout(l.dir, limits)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { layout.Close() })
	return layout
}

func named(d ocispec.Descriptor, tag string) ocispec.Descriptor {
	d.Annotations = map[string]string{ocispec.AnnotationRefName: tag}
	return d
}

var anywhere = boltseal.Reference{Registry: "registry.example", Repository: repo}

func tag(t string) boltseal.Reference {
	r := anywhere
	r.Tag = t
	return r
}

func TestLayout(t *testing.T) {
	t.Parallel()
	dir := newLayoutDir(t)
	image, child, grandchild := dir.image(1), dir.image(2), dir.image(3)
	multi := dir.index(named(child, "inner"), dir.index(grandchild)) // tags are those of index.json only
	signature, envelope := dir.artifact(image, notation, "signature")
	other, _ := dir.artifact(image, sbom, "sbom")
	ofChild, _ := dir.artifact(child, notation, "of a child")
	ofIndex, _ := dir.artifact(multi, notation, "of an index")
	referrers := named(dir.index(ofChild), strings.Replace(child.Digest.String(), ":", "-", 1)) // tag schema
	dir.top(named(image, "v1"), named(multi, "multi"), signature, other, ofIndex, referrers)
	l := dir.open(ours.Limits{})
	for text, want := range map[string]ocispec.Descriptor{"v1": image, "multi": multi} {
		for _, ref := range []boltseal.Reference{tag(text), anywhere.WithDigest(want.Digest), tag("other").WithDigest(want.Digest)} {
			if got, err := l.Resolve(t.Context(), ref); err != nil || !sameDescriptor(got, want) {
				t.Errorf("%s: %+v, %v", ref, got, err)
			}
		}
	}
	for _, d := range []ocispec.Descriptor{child, grandchild} {
		if got, err := l.Resolve(t.Context(), anywhere.WithDigest(d.Digest)); err != nil || !sameDescriptor(got, d) {
			t.Errorf("%+v, %v", got, err)
		}
	}
	for _, c := range []struct {
		of    ocispec.Descriptor
		types []string
		want  []ocispec.Descriptor
	}{
		{image, []string{notation}, []ocispec.Descriptor{signature}}, {image, []string{sbom}, []ocispec.Descriptor{other}},
		{image, nil, []ocispec.Descriptor{signature, other}}, {image, []string{notation, sbom}, []ocispec.Descriptor{signature, other}},
		{child, []string{notation}, []ocispec.Descriptor{ofChild}}, {multi, nil, []ocispec.Descriptor{ofIndex}}, {grandchild, nil, nil},
	} {
		got, err := l.Referrers(t.Context(), anywhere, c.of.Digest, c.types)
		if err != nil || len(got.Referrers) != len(c.want) || got.Truncated != "" {
			t.Errorf("of %s: %+v, %v", c.of.Digest, got, err)
			continue
		}
		for n, d := range got.Referrers {
			if !sameDescriptor(d, c.want[n]) || d.ArtifactType == "" {
				t.Errorf("of %s: %+v, want %+v", c.of.Digest, d, c.want[n])
			}
		}
	}
	if b, err := l.Manifest(t.Context(), anywhere, signature); err != nil || digest.FromBytes(b) != signature.Digest {
		t.Error(err)
	}
	if b, err := l.Blob(t.Context(), anywhere, envelope); err != nil || string(b) != "signature" {
		t.Error(err)
	}
	for _, ref := range []boltseal.Reference{tag("none"), tag("inner"), anywhere.WithDigest(digest.FromString("none")), anywhere} {
		_, err := l.Resolve(t.Context(), ref)
		wantLayoutError(t, err, boltseal.ErrNotFound, dir, "resolve")
	}
}

func wantLayoutError(t *testing.T, err, sentinel error, dir layoutDir, says string) {
	t.Helper()
	if err == nil || !isOnly(err, sentinel) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), dir.dir) {
		t.Errorf("error %v, want %q that says %q", err, sentinel, says)
	}
}

// What a widely used tool writes, and what it reads.
func TestLayoutOfAnotherTool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store, err := oci.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	push := func(b testca.Blob) ocispec.Descriptor {
		t.Helper()
		if err := store.Push(t.Context(), b.Descriptor, bytes.NewReader(b.Content)); err != nil {
			t.Fatal(err)
		}
		return b.Descriptor
	}
	config := push(testca.NewBlob(ocispec.MediaTypeImageConfig, []byte("{}")))
	manifest, _ := json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{config}})
	image := push(testca.NewBlob(ocispec.MediaTypeImageManifest, manifest))
	if err := store.Tag(t.Context(), image, "v1"); err != nil {
		t.Fatal(err)
	}
	chain := testca.Test(t, testca.Options{})
	for range 3 {
		a, err := chain.Attach(image, testca.SignOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range a.Blobs {
			if ok, _ := store.Exists(t.Context(), b.Descriptor); !ok {
				push(b)
			}
		}
		push(a.Manifest)
	}
	theirs, err := store.Predecessors(t.Context(), image)
	if err != nil || len(theirs) != 3 {
		t.Fatalf("%+v, %v", theirs, err)
	}
	l, err := ours.OpenLayout(dir, ours.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, err := l.Resolve(t.Context(), tag("v1")); err != nil || !sameDescriptor(got, image) {
		t.Errorf("%+v, %v", got, err)
	}
	got, err := l.Referrers(t.Context(), anywhere, image.Digest, []string{notation})
	if err != nil || len(got.Referrers) != len(theirs) {
		t.Fatalf("%+v, %v", got, err)
	}
	listed := digests(got.Referrers)
	for _, d := range theirs {
		if !listed[d.Digest] {
			t.Errorf("%s is missing", d.Digest)
		}
	}
}

func TestOpenLayoutBad(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(layoutDir)
		want   error
		says   string
	}{
		"no oci-layout":    {func(l layoutDir) { os.Remove(filepath.Join(l.dir, "oci-layout")) }, boltseal.ErrConfiguration, "no OCI layout"},
		"no index.json":    {func(l layoutDir) { os.Remove(filepath.Join(l.dir, "index.json")) }, boltseal.ErrConfiguration, "index.json"},
		"another version":  {func(l layoutDir) { l.write("oci-layout", []byte(`{"imageLayoutVersion":"2.0.0"}`)) }, boltseal.ErrMalformed, "1.0.0"},
		"no JSON":          {func(l layoutDir) { l.write("index.json", []byte("no JSON")) }, boltseal.ErrMalformed, "index.json"},
		"cut off":          {func(l layoutDir) { l.write("index.json", []byte(`{"manifests":[`)) }, boltseal.ErrMalformed, "index.json"},
		"twice":            {func(l layoutDir) { l.write("index.json", []byte(`{"manifests":[],"manifests":[]}`)) }, boltseal.ErrMalformed, ""},
		"not a list":       {func(l layoutDir) { l.write("index.json", []byte(`{"manifests":{}}`)) }, boltseal.ErrMalformed, ""},
		"a long header":    {func(l layoutDir) { l.write("oci-layout", bytes.Repeat([]byte(" "), 5000)) }, boltseal.ErrLimit, "oci-layout"},
		"a long index":     {func(l layoutDir) { l.write("index.json", bytes.Repeat([]byte(" "), 4<<20+1)) }, boltseal.ErrLimit, "index.json"},
		"index.json a dir": {func(l layoutDir) { os.Remove(filepath.Join(l.dir, "index.json")); l.write("index.json/x", nil) }, boltseal.ErrMalformed, "not a regular file"},
		"a pipe": {func(l layoutDir) {
			os.Remove(filepath.Join(l.dir, "index.json"))
			if err := syscall.Mkfifo(filepath.Join(l.dir, "index.json"), 0o600); err != nil {
				l.t.Fatal(err)
			}
		}, boltseal.ErrMalformed, "not a regular file"},
		"a link outside": {func(l layoutDir) {
			outside := filepath.Join(l.t.TempDir(), "index.json")
			if err := os.WriteFile(outside, []byte(`{"manifests":[]}`), 0o600); err != nil {
				l.t.Fatal(err)
			}
			link(l, outside, "index.json")
		}, boltseal.ErrRefused, "leads out of the layout"},
		"a link up": {func(l layoutDir) { link(l, "../../../../../../../../etc/hostname", "index.json") }, boltseal.ErrRefused, "leads out of the layout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newLayoutDir(t)
			c.change(dir)
			l, err := ours.OpenLayout(dir.dir, ours.Limits{})
			wantLayoutError(t, err, c.want, dir, c.says)
			if l != nil {
				t.Error("a layout beside the error")
			}
		})
	}
	_, err := ours.OpenLayout(filepath.Join(t.TempDir(), "none"), ours.Limits{})
	if err == nil || !isOnly(err, boltseal.ErrConfiguration) {
		t.Error(err)
	}
}

func link(l layoutDir, to, name string) {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		l.t.Fatal(err)
	}
	if err := os.Symlink(to, path); err != nil {
		l.t.Fatal(err)
	}
}

// What is wrong with one blob is reported when it is asked for.
func TestLayoutBadBlobs(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	for name, c := range map[string]struct {
		change func(layoutDir, string)
		want   error
		says   string
	}{
		"missing":        {func(l layoutDir, p string) { os.Remove(filepath.Join(l.dir, p)) }, boltseal.ErrNotFound, ""},
		"other bytes":    {func(l layoutDir, p string) { flip(l, p) }, boltseal.ErrMalformed, "do not match the digest"},
		"shorter":        {func(l layoutDir, p string) { resize(l, p, -1) }, boltseal.ErrMalformed, "where its descriptor says"},
		"empty":          {func(l layoutDir, p string) { l.write(p, nil) }, boltseal.ErrMalformed, "0 bytes where"},
		"longer":         {func(l layoutDir, p string) { resize(l, p, 1) }, boltseal.ErrMalformed, "more than the"},
		"a directory":    {func(l layoutDir, p string) { os.Remove(filepath.Join(l.dir, p)); l.write(p+"/x", nil) }, boltseal.ErrMalformed, "not a regular file"},
		"a link outside": {func(l layoutDir, p string) { copyTo(l, p, outside); link(l, outside, p) }, boltseal.ErrRefused, "leads out of the layout"},
		"a folder that is a link outside": {func(l layoutDir, p string) {
			if err := os.Rename(filepath.Join(l.dir, "blobs"), filepath.Join(l.t.TempDir(), "blobs")); err != nil {
				l.t.Fatal(err)
			}
			link(l, l.t.TempDir(), "blobs")
		}, boltseal.ErrRefused, "leads out of the layout"},
		"a file in place of a folder": {func(l layoutDir, p string) { os.RemoveAll(filepath.Join(l.dir, "blobs")); l.write("blobs", nil) }, boltseal.ErrNotFound, ""},
		"a device":                    {func(l layoutDir, p string) { link(l, "/dev/zero", p) }, boltseal.ErrRefused, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := newLayoutDir(t)
			image := dir.image(1)
			signature, _ := dir.artifact(image, notation, "signature")
			dir.top(named(image, "v1"), signature)
			l := dir.open(ours.Limits{})
			c.change(dir, blobPath(signature.Digest))
			_, err := l.Manifest(t.Context(), tag("v1"), signature)
			wantLayoutError(t, err, c.want, dir, c.says)
			_, err = l.Blob(t.Context(), tag("v1"), signature)
			wantLayoutError(t, err, c.want, dir, c.says)
			// Opened again, the layout serves what is left of it.
			again := dir.open(ours.Limits{})
			got, err := again.Referrers(t.Context(), tag("v1"), image.Digest, nil)
			if err != nil || len(got.Referrers) != 0 {
				t.Errorf("%+v, %v", got, err)
			}
			_, err = again.Resolve(t.Context(), anywhere.WithDigest(signature.Digest))
			wantLayoutError(t, err, c.want, dir, c.says)
		})
	}
}

func (l layoutDir) read(name string) []byte {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

func flip(l layoutDir, name string) {
	b := l.read(name)
	b[len(b)/2] ^= 1
	l.write(name, b)
}

func resize(l layoutDir, name string, by int) {
	b := append(l.read(name), ' ')
	l.write(name, b[:len(b)-1+by])
}

func copyTo(l layoutDir, name, outside string) {
	if err := os.WriteFile(outside, l.read(name), fs.FileMode(0o600)); err != nil {
		l.t.Fatal(err)
	}
}
