package oci_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// What differs from oras-go, and why. Everything else must be the same.
var (
	// stricter are cases that oras-go takes and we do not.
	stricter = map[string]string{
		"resolve/type:application/vnd.example.other":                        "a media type that is not an image's",
		"resolve/type:application/vnd.docker.distribution.manifest.v1+json": "schema 1, whose digest does not cover its content",
		"resolve/fault:wrong-content-type":                                  "the bytes say what they are, the header is a hint",
		"referrers/fault:wrong-content-type":                                "the same",
		"referrers/fault:false-filter":                                      "a filter that is claimed and not applied is applied here",
		"referrers/fault:wrong-body":                                        "a descriptor that is malformed is left out",
		"referrers/fault:many-referrers":                                    "a list of 2000 is long enough",
		"fetch/size:2000000 blob":                                           "signatures have at most 1 MiB",
		"fetch/size:5000000 manifest":                                       "manifests have at most 4 MiB",
		"resolve/size:5000000 manifest":                                     "manifests have at most 4 MiB",
	}
	// lenient are cases that we take and oras-go does not: where a HEAD answer
	// leaves something out, the bytes themselves are asked for and hashed.
	lenient = map[string]string{
		"resolve/fault:no-headers on HEAD": "GET tells what HEAD does not",
		"resolve/fault:405 on HEAD":        "GET tells what HEAD does not",
		"fetch/fault:wrong-content-type":   "the digest says what it is",
	}
)

// both asks oras-go and us the same.
type both struct {
	t      *testing.T
	reg    *testregistry.Registry
	ours   *oci.Registry
	theirs *remote.Repository
	used   map[string]bool // differences that were met
}

func newBoth(t *testing.T, reg *testregistry.Registry, repo string, used map[string]bool) both {
	t.Helper()
	theirs, err := remote.NewRepository(reg.Host + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	theirs.PlainHTTP = true
	theirs.ReferrerListMaxPages = 20
	theirs.ManifestMediaTypes = strings.Split(acceptAll, ", ")
	theirs.Client = &auth.Client{Client: http.DefaultClient, Credential: auth.StaticCredential(reg.Host, auth.Credential{Username: user, Password: password})}
	return both{t, reg, newRegistry(t, oci.Options{Credentials: rightPassword}), theirs, used}
}

const acceptAll = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, " +
	"application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json"

// same compares two outcomes. what names the question, as in the lists above.
func (b both) same(what string, ours, theirs any, oursErr, theirsErr error) {
	b.t.Helper()
	equal := oursErr == nil && theirsErr == nil && fmt.Sprint(ours) == fmt.Sprint(theirs)
	switch {
	case equal, oursErr != nil && theirsErr != nil:
	case (oursErr != nil || theirsErr == nil) && stricter[what] != "", theirsErr != nil && lenient[what] != "":
		b.used[what] = true
	default:
		b.t.Errorf("%s:\nours   %v, %v\ntheirs %v, %v", what, ours, oursErr, theirs, theirsErr)
	}
}

func text(d ocispec.Descriptor) string { return fmt.Sprintf("%s %s %d", d.MediaType, d.Digest, d.Size) }

func (b both) resolve(what, repo, target string) {
	b.t.Helper()
	ref := tagged(b.reg.Host, repo, target)
	if d, err := digest.Parse(target); err == nil {
		ref = pinned(b.reg.Host, repo, d)
	}
	ours, oursErr := b.ours.Resolve(testContext(b.t), ref)
	theirs, theirsErr := b.theirs.Resolve(testContext(b.t), target)
	b.same("resolve/"+what, text(ours), text(theirs), oursErr, theirsErr)
}

func (b both) referrers(what, repo string, subject ocispec.Descriptor, artifactType string) {
	b.t.Helper()
	var types []string
	if artifactType != "" {
		types = []string{artifactType}
	}
	ours, oursErr := b.ours.Referrers(testContext(b.t), pinned(b.reg.Host, repo, subject.Digest), subject.Digest, types)
	var list []ocispec.Descriptor
	theirsErr := b.theirs.Referrers(testContext(b.t), subject, artifactType, func(ds []ocispec.Descriptor) error {
		list = append(list, ds...)
		return nil
	})
	if oursErr == nil && ours.Truncated != "" {
		oursErr = errors.New(ours.Truncated)
	}
	if oursErr == nil {
		oursErr = ours.Incomplete
	}
	b.same("referrers/"+what, texts(ours.Referrers), texts(list), oursErr, theirsErr)
}

func texts(ds []ocispec.Descriptor) (out []string) {
	for _, d := range ds {
		out = append(out, text(d)+" "+d.ArtifactType)
	}
	return out
}

func (b both) fetch(what, repo string, d ocispec.Descriptor, manifest bool) {
	b.t.Helper()
	get, fetcher := (*oci.Registry).Blob, content.Fetcher(b.theirs.Blobs())
	if manifest {
		get, fetcher = (*oci.Registry).Manifest, b.theirs.Manifests()
	}
	ours, oursErr := get(b.ours, testContext(b.t), pinned(b.reg.Host, repo, d.Digest), d)
	theirs, theirsErr := fetchAll(testContext(b.t), fetcher, d)
	b.same("fetch/"+what, string(ours), string(theirs), oursErr, theirsErr)
}

func fetchAll(ctx context.Context, f content.Fetcher, d ocispec.Descriptor) ([]byte, error) {
	r, err := f.Fetch(ctx, d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := content.ReadAll(r, d)
	if err != nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
	}
	return b, err
}

// TestDifferential holds our client against oras-go on the same registries.
func TestDifferential(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	src := rand.New(rand.NewPCG(7, 11))
	for n := range 24 {
		o := testregistry.Options{PageSize: src.IntN(4), NoReferrersAPI: src.IntN(3) == 0, NoReferrersFilter: src.IntN(2) == 0}
		switch src.IntN(3) {
		case 0:
			o.Token = &testregistry.TokenOptions{Users: users, OnlyToken: src.IntN(2) == 0}
		case 1:
			o.Basic = &testregistry.BasicOptions{Users: users}
		}
		reg := testregistry.New(t, o)
		repo := fmt.Sprintf("team/app-%d", n)
		b := newBoth(t, reg, repo, used)
		var subjects []ocispec.Descriptor
		for i := range 1 + src.IntN(4) {
			d := reg.PushImage(repo, fmt.Sprint("v", i), src.IntN(5000))
			if src.IntN(3) == 0 {
				d = reg.PushIndex(repo, fmt.Sprint("v", i), d)
			}
			subjects = append(subjects, d)
			b.resolve("tag", repo, fmt.Sprint("v", i))
			b.resolve("digest", repo, d.Digest.String())
		}
		for range src.IntN(12) {
			subject := subjects[src.IntN(len(subjects))]
			payload := make([]byte, src.IntN(9000))
			for i := range payload {
				payload[i] = byte(src.Uint32())
			}
			d := reg.PushReferrer(repo, subject, []string{notation, sbom, "application/x"}[src.IntN(3)], payload)
			d.Annotations = nil
			b.fetch("manifest", repo, d, true)
			b.fetch("blob", repo, ocispec.Descriptor{MediaType: "application/octet-stream", Digest: digest.FromBytes(payload), Size: int64(len(payload))}, false)
			b.resolve("referrer", repo, d.Digest.String())
		}
		for _, s := range append(subjects, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("none"), Size: 1}) {
			for _, artifactType := range []string{"", notation, sbom, "application/none"} {
				b.referrers("types", repo, s, artifactType)
			}
		}
		b.resolve("missing", repo, "missing")
		b.resolve("missing", repo, digest.FromString("missing").String())
		b.fetch("missing", repo, ocispec.Descriptor{Digest: digest.FromString("missing"), Size: 7}, false)
		b.fetch("missing", repo, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("missing"), Size: 7}, true)
	}
	differentialFaults(t, used)
	for what := range stricter {
		if !used[what] {
			t.Errorf("%s is no difference any more", what)
		}
	}
	for what := range lenient {
		if !used[what] {
			t.Errorf("%s is no difference any more", what)
		}
	}
}

func differentialFaults(t *testing.T, used map[string]bool) {
	t.Helper()
	faults := map[string]testregistry.Fault{
		"link elsewhere":     {Kind: testregistry.Link, Class: testregistry.Referrers, Value: `<http://localhost:1/v2/x>; rel="next"`},
		"405 on HEAD":        {Kind: testregistry.Status, Status: 405, Method: http.MethodHead},
		"no-headers on HEAD": {Kind: testregistry.NoHeaders, Method: http.MethodHead},
	}
	for _, kind := range []testregistry.Kind{testregistry.WrongBody, testregistry.TruncatedBody, testregistry.ShortBody, testregistry.LongBody,
		testregistry.WrongContentType, testregistry.WrongDigest, testregistry.SelfLink, testregistry.ManyReferrers, testregistry.FalseFilter, testregistry.Redirect} {
		f := testregistry.Fault{Kind: kind, Value: map[testregistry.Kind]string{testregistry.WrongContentType: "text/plain"}[kind]}
		switch kind {
		case testregistry.SelfLink, testregistry.ManyReferrers, testregistry.FalseFilter:
			f.Class = testregistry.Referrers
		case testregistry.Redirect:
			f.Match = func(req *http.Request) bool { return req.URL.Query().Get("again") == "" }
			f.Kind, f.Handler = testregistry.Custom, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				q := req.URL.Query()
				q.Set("again", "1")
				w.Header().Set("Location", req.URL.Path+"?"+q.Encode())
				w.WriteHeader(http.StatusTemporaryRedirect)
			})
		}
		faults[string(kind)] = f
	}
	for name, f := range faults {
		reg := testregistry.New(t, testregistry.Options{})
		image := reg.PushImage(repo, "v1", 0)
		signature := reg.PushReferrer(repo, image, notation, []byte("signature"))
		reg.PushReferrer(repo, image, sbom, []byte("sbom"))
		blob := reg.PushBlob(repo, "application/octet-stream", []byte(strings.Repeat("blob", 100)))
		signature.Annotations = nil
		b := newBoth(t, reg, repo, used)
		reg.Inject(f)
		what := "fault:" + name
		b.resolve(what, repo, "v1")
		b.resolve(what, repo, image.Digest.String())
		b.referrers(what, repo, image, notation)
		b.fetch(what, repo, signature, true)
		if name != string(testregistry.WrongContentType) { // of a blob, nobody looks at it
			b.fetch(what, repo, blob, false)
		}
	}
	reg := testregistry.New(t, testregistry.Options{})
	b := newBoth(t, reg, repo, used)
	for _, mediaType := range []string{"application/vnd.example.other", "application/vnd.docker.distribution.manifest.v1+json"} {
		d := reg.PushManifest(repo, "odd", mediaType, []byte(`{"schemaVersion":1}`))
		b.resolve("type:"+mediaType, repo, "odd")
		b.resolve("type:"+mediaType, repo, d.Digest.String())
	}
	for _, size := range []int{2_000_000, 5_000_000} {
		d := pushBoth(t, reg, jsonOf(size))
		b.fetch(fmt.Sprintf("size:%d manifest", size), repo, d, true)
		b.fetch(fmt.Sprintf("size:%d blob", min(size, 2_000_000)), repo, d, false)
		b.resolve(fmt.Sprintf("size:%d manifest", size), repo, d.Digest.String())
	}
}
