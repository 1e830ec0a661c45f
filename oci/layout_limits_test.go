package oci_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/oci"
)

func TestLayoutNesting(t *testing.T) {
	t.Parallel()
	dir := newLayoutDir(t)
	image := dir.image(1)
	signature, _ := dir.artifact(image, notation, "signature")
	chain := []ocispec.Descriptor{dir.index(signature)}
	for range 9 {
		inner := chain[len(chain)-1]
		chain = append(chain, dir.index(inner, inner, image)) // each twice: seen once
	}
	for depth, d := range chain {
		dir.top(d)
		l := dir.open(oci.Limits{})
		got, err := l.Referrers(t.Context(), anywhere, image.Digest, nil)
		if err != nil {
			t.Fatal(err)
		}
		// index.json is not counted, and four indexes in one another are read.
		if whole := depth < 4; whole != (len(got.Referrers) == 1) || whole != (got.Truncated == "") {
			t.Errorf("%d deep: %+v", depth, got)
		}
	}
	// An index that is said to hold itself is not what its digest says.
	self := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.FromString("self"), Size: 100}
	dir.write(blobPath(self.Digest), fmt.Appendf(nil, `{"manifests":[{"mediaType":%q,"digest":%q,"size":100}]}`, self.MediaType, self.Digest))
	dir.top(self, signature)
	if got, err := dir.open(oci.Limits{}).Referrers(t.Context(), anywhere, image.Digest, nil); err != nil || len(got.Referrers) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLayoutMalformedEntries(t *testing.T) {
	t.Parallel()
	dir := newLayoutDir(t)
	image := dir.image(1)
	signature, _ := dir.artifact(image, notation, "signature")
	entry := func(d ocispec.Descriptor, size int64, tag string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{%q:%q}}`, d.MediaType, d.Digest, size, ocispec.AnnotationRefName, tag)
	}
	dir.write("index.json", []byte(`{"schemaVersion":2,"unknown":[{"x":null}],"manifests":[null,7,"x",[],{},{"digest":"sha256:short","size":1},
		{"digest":"../../etc/passwd","size":1},`+entry(image, -1, "negative")+","+entry(image, 1<<62, "huge")+","+
		`{"mediaType":7},{"annotations":7},`+
		entry(signature, signature.Size+1, "")+","+entry(image, image.Size-1, "wrong")+","+
		entry(image, image.Size, "v1")+","+entry(signature, signature.Size, "")+","+entry(signature, 3, "")+`]}`))
	l := dir.open(oci.Limits{})
	if got, err := l.Resolve(t.Context(), tag("v1")); err != nil || !sameDescriptor(got, image) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := l.Resolve(t.Context(), anywhere.WithDigest(image.Digest)); err != nil || !sameDescriptor(got, image) {
		t.Errorf("%+v, %v", got, err)
	}
	got, err := l.Referrers(t.Context(), anywhere, image.Digest, nil)
	if err != nil || len(got.Referrers) != 1 || !sameDescriptor(got.Referrers[0], signature) {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = l.Resolve(t.Context(), tag("wrong"))
	wantLayoutError(t, err, boltseal.ErrMalformed, dir, "more than the")
	for _, name := range []string{"negative", "huge"} {
		_, err = l.Resolve(t.Context(), tag(name))
		wantLayoutError(t, err, boltseal.ErrNotFound, dir, "")
	}
	// One that cannot be read in an index below is said to be there.
	broken := dir.blob(ocispec.MediaTypeImageIndex, []byte(`{"manifests":[`))
	dir.top(broken, signature)
	got, err = dir.open(oci.Limits{}).Referrers(t.Context(), anywhere, image.Digest, nil)
	if err != nil || len(got.Referrers) != 1 || !strings.Contains(got.Truncated, broken.Digest.String()) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestLayoutLimits(t *testing.T) {
	t.Parallel()
	dir := newLayoutDir(t)
	image := dir.image(1)
	signature, envelope := dir.artifact(image, notation, strings.Repeat("x", 3000))
	dir.top(named(image, "v1"), signature)
	l := dir.open(oci.Limits{BlobBytes: 2999})
	_, err := l.Blob(t.Context(), tag("v1"), envelope)
	wantLayoutError(t, err, boltseal.ErrLimit, dir, "3000 bytes, at most 2999")
	if _, err := dir.open(oci.Limits{BlobBytes: 3000}).Blob(t.Context(), tag("v1"), envelope); err != nil {
		t.Error(err)
	}
	l = dir.open(oci.Limits{ManifestBytes: image.Size - 1})
	_, err = l.Resolve(t.Context(), tag("v1"))
	wantLayoutError(t, err, boltseal.ErrLimit, dir, "at most")
	_, err = l.Manifest(t.Context(), tag("v1"), image)
	wantLayoutError(t, err, boltseal.ErrLimit, dir, "at most")
	_, err = oci.OpenLayout(dir.dir, oci.Limits{IndexBytes: 10})
	wantLayoutError(t, err, boltseal.ErrLimit, dir, "index.json")
}

// A layout that lists more than is looked at says so.
func TestLayoutWithManyManifests(t *testing.T) {
	t.Parallel()
	dir := newLayoutDir(t)
	image := dir.image(1)
	signature, _ := dir.artifact(image, notation, "signature")
	many := make([]ocispec.Descriptor, 10_000)
	for n := range many {
		many[n] = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint(n)), Size: 1}
	}
	dir.top(append(many, signature)...)
	got, err := dir.open(oci.Limits{}).Referrers(t.Context(), anywhere, image.Digest, nil)
	if err != nil || len(got.Referrers) != 0 || got.Truncated != "only the first 10000 manifests of the layout were checked" {
		t.Errorf("%+v, %v", got, err)
	}
	dir.top(append(many[:9_999], signature)...)
	got, err = dir.open(oci.Limits{}).Referrers(t.Context(), anywhere, image.Digest, nil)
	if err != nil || len(got.Referrers) != 1 || got.Truncated != "" {
		t.Errorf("%+v, %v", got, err)
	}
}
