package oci_test

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	ggcr "github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 0)
	index := i.reg.PushIndex(repo, "multi", i.desc)
	docker := i.reg.PushManifest(repo, "docker", "application/vnd.docker.distribution.manifest.v2+json", []byte(`{"schemaVersion":2}`))
	list := i.reg.PushManifest(repo, "list", "application/vnd.docker.distribution.manifest.list.v2+json", []byte(`{"schemaVersion":2,"manifests":[]}`))
	r := newRegistry(t, oci.Options{})
	for tag, want := range map[string]ocispec.Descriptor{"v1": i.desc, "multi": index, "docker": docker, "list": list} {
		i.reg.ResetLog()
		for _, ref := range []boltseal.Reference{
			tagged(i.reg.Host, repo, tag), pinned(i.reg.Host, repo, want.Digest),
			tagged(i.reg.Host, repo, "of-no-consequence").WithDigest(want.Digest),
		} {
			got, err := r.Resolve(testContext(t), ref)
			if err != nil {
				t.Fatalf("%s: %v", ref, err)
			}
			if !sameDescriptor(got, want) {
				t.Errorf("%s: got %+v, want %+v", ref, got, want)
			}
		}
		if n := i.reg.Count(testregistry.Any); n != 3 || i.reg.Count(testregistry.Manifest, http.MethodHead) != 3 {
			t.Errorf("%s: %d requests, want 3 HEADs", tag, n)
		}
	}
}

func TestResolveAfterTagMoved(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 0)
	r := newRegistry(t, oci.Options{})
	before, err := r.Resolve(testContext(t), i.byTag())
	if err != nil {
		t.Fatal(err)
	}
	moved := i.reg.PushImage(repo, "v1", 0)
	after, err := r.Resolve(testContext(t), i.byTag())
	if err != nil || after.Digest != moved.Digest || before.Digest != i.desc.Digest {
		t.Errorf("before %v, after %v, error %v", before.Digest, after.Digest, err)
	}
	if got, err := r.Resolve(testContext(t), i.byTag().WithDigest(before.Digest)); err != nil || got.Digest != before.Digest {
		t.Errorf("the digest followed its tag: %v, %v", got.Digest, err)
	}
}

// What HEAD does not say is read off GET.
func TestResolveByGet(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]testregistry.Fault{
		"405":                     {Kind: testregistry.Status, Status: http.StatusMethodNotAllowed, Method: http.MethodHead},
		"400":                     {Kind: testregistry.Status, Status: http.StatusBadRequest, Method: http.MethodHead},
		"403":                     {Kind: testregistry.Status, Status: http.StatusForbidden, Method: http.MethodHead},
		"404":                     {Kind: testregistry.Status, Status: http.StatusNotFound, Method: http.MethodHead},
		"500":                     {Kind: testregistry.Status, Status: http.StatusInternalServerError, Method: http.MethodHead},
		"501":                     {Kind: testregistry.Status, Status: http.StatusNotImplemented, Method: http.MethodHead},
		"no digest that is one":   {Kind: testregistry.Custom, Method: http.MethodHead, Handler: headHandler("sha256:short", ocispec.MediaTypeImageManifest, "700")},
		"an unknown hash":         {Kind: testregistry.Custom, Method: http.MethodHead, Handler: headHandler("md5:d41d8cd98f00b204e9800998ecf8427e", ocispec.MediaTypeImageManifest, "700")},
		"a static type":           {Kind: testregistry.Custom, Method: http.MethodHead, Handler: headHandler(digest.FromString("x").String(), "application/octet-stream", "700")},
		"a length over the limit": {Kind: testregistry.Custom, Method: http.MethodHead, Handler: headHandler(digest.FromString("x").String(), ocispec.MediaTypeImageManifest, "5000000")},
		"no headers":              {Kind: testregistry.NoHeaders, Method: http.MethodHead},
		"no digest":               {Kind: testregistry.Custom, Method: http.MethodHead, Handler: headHandler("", ocispec.MediaTypeImageManifest, "700")},
		"no length":               {Kind: testregistry.Custom, Method: http.MethodHead, Handler: headHandler(digest.FromString("x").String(), ocispec.MediaTypeImageManifest, "")},
		"length 0":                {Kind: testregistry.Custom, Method: http.MethodHead, Handler: headHandler(digest.FromString("x").String(), ocispec.MediaTypeImageManifest, "0")},
		"no type":                 {Kind: testregistry.Custom, Method: http.MethodHead, Handler: headHandler(digest.FromString("x").String(), "", "700")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImage(t, testregistry.Options{}, 0)
			i.reg.Inject(fault)
			r := newRegistry(t, oci.Options{})
			got, err := r.Resolve(testContext(t), i.byTag())
			if err != nil {
				t.Fatal(err)
			}
			if !sameDescriptor(got, i.desc) {
				t.Errorf("got %+v, want %+v", got, i.desc)
			}
			if n := i.reg.Count(testregistry.Manifest, http.MethodGet); n != 1 {
				t.Errorf("%d GETs", n)
			}
			// What the registry does is remembered.
			if _, err := r.Resolve(testContext(t), i.byTag()); err != nil || i.reg.Count(testregistry.Any) != 3 {
				t.Errorf("%d requests for two images, %v", i.reg.Count(testregistry.Any), err)
			}
		})
	}
}

func headHandler(digest, mediaType, length string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		for name, v := range map[string]string{"Docker-Content-Digest": digest, "Content-Type": mediaType, "Content-Length": length} {
			if v != "" {
				w.Header().Set(name, v)
			}
		}
	}
}

// getInstead answers HEAD with 405 and GET with what it is given.
func getInstead(body []byte, header http.Header) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		for k, v := range header {
			w.Header()[k] = v
		}
		_, _ = w.Write(body)
	}
}

func TestResolveBadAnswers(t *testing.T) {
	t.Parallel()
	body := []byte(`{"schemaVersion":2}`)
	right, other := digest.FromBytes(body), digest.FromString("other")
	oci1 := ocispec.MediaTypeImageManifest
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		byTag   bool
		want    error
		says    string
	}{
		"HEAD for another digest":            {handler: headHandler(other.String(), oci1, "19"), want: boltseal.ErrUnusable, says: "the registry answered for " + other.String()},
		"a manifest over the limit":          {handler: headHandler(right.String(), oci1, "5000000"), want: boltseal.ErrLimit, says: "5000000 bytes, at most 4194304"},
		"schema 1":                           {handler: getInstead(body, http.Header{"Content-Type": {"application/vnd.docker.distribution.manifest.v1+prettyjws"}}), want: boltseal.ErrMalformed, says: "schema 1"},
		"a web page":                         {handler: getInstead([]byte("<html>"), http.Header{"Content-Type": {"text/html; charset=utf-8"}}), byTag: true, want: boltseal.ErrUnusable, says: "a web page"},
		"a web page for a digest":            {handler: getInstead([]byte("<html>"), http.Header{"Content-Type": {"text/html; charset=utf-8"}}), want: boltseal.ErrUnusable, says: "a web page"},
		"text":                               {handler: getInstead([]byte("text"), http.Header{"Content-Type": {"text/plain"}}), byTag: true, want: boltseal.ErrUnusable, says: "text/plain"},
		"GET of other bytes":                 {handler: getInstead([]byte("{}"), http.Header{"Content-Type": {oci1}}), want: boltseal.ErrUnusable, says: "do not match the digest"},
		"GET for another digest":             {handler: getInstead(body, http.Header{"Content-Type": {oci1}, "Docker-Content-Digest": {other.String()}}), want: boltseal.ErrUnusable},
		"GET by tag that contradicts itself": {handler: getInstead(body, http.Header{"Content-Type": {oci1}, "Docker-Content-Digest": {other.String()}}), byTag: true, want: boltseal.ErrUnusable},
		"GET of a web page":                  {handler: getInstead(body, http.Header{"Content-Type": {"text/html"}}), want: boltseal.ErrMalformed},
		"GET over the limit":                 {handler: getInstead(bytes.Repeat([]byte(" "), 4<<20+1), http.Header{"Content-Type": {oci1}}), want: boltseal.ErrLimit},
		"400":                                {handler: status(http.StatusBadRequest), want: boltseal.ErrUnusable, says: "HTTP 400"},
		"204":                                {handler: status(http.StatusNoContent), want: boltseal.ErrUnusable, says: "HTTP 204"},
		"403":                                {handler: status(http.StatusForbidden), want: boltseal.ErrUnauthorized, says: "HTTP 403"},
		"401 without a challenge":            {handler: status(http.StatusUnauthorized), want: boltseal.ErrUnauthorized, says: "HTTP 401"},
		"404":                                {handler: status(http.StatusNotFound), want: boltseal.ErrNotFound, says: "HTTP 404"},
		"500":                                {handler: status(http.StatusInternalServerError), want: boltseal.ErrUnavailable, says: "HTTP 500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := serve(t, c.handler)
			ref := pinned(host, repo, right)
			if c.byTag {
				ref = tagged(host, repo, "v1")
			}
			got, err := newRegistry(t, oci.Options{}).Resolve(testContext(t), ref)
			wantError(t, err, c.want, host, "resolve", ref.String(), c.says)
			if !sameDescriptor(got, ocispec.Descriptor{}) {
				t.Errorf("a descriptor beside the error: %+v", got)
			}
		})
	}
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestResolveOfNoDigest(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, oci.Options{})
	for _, d := range []digest.Digest{"sha256", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../x", digest.Digest("sha256:" + strings.Repeat("A", 64))} {
		if _, err := r.Resolve(testContext(t), pinned("127.0.0.1:1", repo, d)); err == nil || !isOnly(err, boltseal.ErrMalformed) {
			t.Errorf("%q: %v", d, err)
		}
		if _, err := r.Referrers(testContext(t), pinned("127.0.0.1:1", repo, d), d, nil); err == nil || !isOnly(err, boltseal.ErrMalformed) {
			t.Errorf("%q: %v", d, err)
		}
	}
}

// A registry names its content by another hash than the reference does.
func TestResolveBySHA512(t *testing.T) {
	t.Parallel()
	body := []byte(`{"schemaVersion":2}`)
	long := digest.SHA512.FromBytes(body)
	for name, h := range map[string]http.HandlerFunc{
		"HEAD": headHandler(digest.FromBytes(body).String(), ocispec.MediaTypeImageManifest, strconv.Itoa(len(body))),
		"GET":  getInstead(body, http.Header{"Content-Type": {ocispec.MediaTypeImageManifest}, "Docker-Content-Digest": {digest.FromBytes(body).String()}}),
	} {
		got, err := newRegistry(t, oci.Options{}).Resolve(testContext(t), pinned(serve(t, h), repo, long))
		if err != nil || got.Digest != long {
			t.Errorf("%s: %v, %v", name, got.Digest, err)
		}
	}
	byTag := getInstead(body, http.Header{"Content-Type": {ocispec.MediaTypeImageManifest}, "Docker-Content-Digest": {long.String()}})
	if got, err := newRegistry(t, oci.Options{}).Resolve(testContext(t), tagged(serve(t, byTag), repo, "v1")); err != nil || got.Digest != long {
		t.Errorf("by tag: %v, %v", got.Digest, err)
	}
}

// A second implementation of a registry, with and without the referrers API.
func TestGoContainerRegistry(t *testing.T) {
	t.Parallel()
	for _, api := range []bool{true, false} {
		s := httptest.NewServer(ggcr.New(ggcr.WithReferrersSupport(api), ggcr.Logger(log.New(io.Discard, "", 0))))
		t.Cleanup(s.Close)
		host := strings.TrimPrefix(s.URL, "http://")
		blob := []byte("signature")
		put(t, s.URL+"/v2/"+repo+"/blobs/uploads/1?digest="+digest.FromBytes(blob).String(), "application/octet-stream", blob)
		manifest := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `"}`)
		subject := digest.FromBytes(manifest)
		put(t, s.URL+"/v2/"+repo+"/manifests/v1", ocispec.MediaTypeImageManifest, manifest)
		artifact := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"` + notation +
			`","digest":"` + digest.FromBytes(blob).String() + `","size":9},"layers":[],"subject":{"mediaType":"` + ocispec.MediaTypeImageManifest +
			`","digest":"` + subject.String() + `","size":` + strconv.Itoa(len(manifest)) + `}}`)
		put(t, s.URL+"/v2/"+repo+"/manifests/"+digest.FromBytes(artifact).String(), ocispec.MediaTypeImageManifest, artifact)
		if !api {
			index := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest +
				`","artifactType":"` + notation + `","digest":"` + digest.FromBytes(artifact).String() + `","size":` + strconv.Itoa(len(artifact)) + `}]}`)
			put(t, s.URL+"/v2/"+repo+"/manifests/"+testregistry.ReferrersTag(subject), ocispec.MediaTypeImageIndex, index)
		}

		r := newRegistry(t, oci.Options{})
		desc, err := r.Resolve(testContext(t), tagged(host, repo, "v1"))
		if err != nil || desc.Digest != subject || desc.Size != int64(len(manifest)) {
			t.Fatalf("API %v: %+v, %v", api, desc, err)
		}
		list, err := r.Referrers(testContext(t), pinned(host, repo, subject), subject, []string{notation})
		if err != nil || len(list.Referrers) != 1 || list.Truncated != "" {
			t.Fatalf("API %v: %+v, %v", api, list, err)
		}
		if got, err := r.Manifest(testContext(t), pinned(host, repo, subject), list.Referrers[0]); err != nil || !bytes.Equal(got, artifact) {
			t.Errorf("API %v: %s, %v", api, got, err)
		}
		d := ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob))}
		if got, err := r.Blob(testContext(t), pinned(host, repo, subject), d); err != nil || !bytes.Equal(got, blob) {
			t.Errorf("API %v: %s, %v", api, got, err)
		}
		missing := digest.FromString("missing")
		_, err = r.Resolve(testContext(t), pinned(host, "no/such", missing))
		wantError(t, err, boltseal.ErrNotFound, host)
		if list, err := r.Referrers(testContext(t), pinned(host, "no/such", missing), missing, nil); err != nil || len(list.Referrers) != 0 {
			t.Errorf("API %v: a missing repository: %+v, %v", api, list, err)
		}
	}
}

func put(t *testing.T, url, contentType string, body []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("PUT %s: %d %s", url, resp.StatusCode, b)
	}
}
