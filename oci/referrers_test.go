package oci_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

func TestReferrers(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]testregistry.Options{
		"API":            {},
		"unfiltered API": {NoReferrersFilter: true},
		"pages":          {PageSize: 2},
		"tag schema":     {NoReferrersAPI: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImage(t, o, 5)
			other := i.reg.PushReferrer(repo, i.desc, sbom, []byte("sbom"))
			elsewhere := i.reg.PushImage(repo, "v2", 0)
			i.reg.PushReferrer(repo, elsewhere, notation, []byte("of another image"))
			r := newRegistry(t, oci.Options{})
			for types, want := range map[string][]ocispec.Descriptor{
				notation:              i.signatures,
				sbom:                  {other},
				"application/x-none":  nil,
				notation + " " + sbom: append(i.signatures[:5:5], other),
				"":                    append(i.signatures[:5:5], other),
			} {
				got, err := r.Referrers(testContext(t), i.byDigest(), i.desc.Digest, strings.Fields(types))
				if err != nil || got.Truncated != "" {
					t.Fatalf("%q: %q, %v", types, got.Truncated, err)
				}
				if len(got.Referrers) != len(want) {
					t.Fatalf("%q: %d referrers, want %d", types, len(got.Referrers), len(want))
				}
				listed := digests(got.Referrers)
				for _, d := range want {
					if !listed[d.Digest] {
						t.Errorf("%q: %s is missing", types, d.Digest)
					}
				}
			}
			unsigned := i.reg.PushImage(repo, "", 0)
			for _, d := range []digest.Digest{unsigned.Digest, digest.FromString("not there")} {
				if got, err := r.Referrers(testContext(t), i.byDigest(), d, []string{notation}); err != nil || len(got.Referrers) != 0 || got.Truncated != "" {
					t.Errorf("of %s: %+v, %v", d, got, err)
				}
			}
		})
	}
}

func TestReferrersFilterOnTheWire(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 1)
	r := newRegistry(t, oci.Options{})
	for types, query := range map[string]string{"application/a+b c": "artifactType=application%2Fa%2Bb+c", "": "", "a b": ""} {
		i.reg.ResetLog()
		list := []string{types}
		if types != "application/a+b c" {
			list = strings.Fields(types)
		}
		if _, err := r.Referrers(testContext(t), i.byDigest(), i.desc.Digest, list); err != nil {
			t.Fatal(err)
		}
		if got := i.reg.Requests(testregistry.Referrers)[0].Query; got != query {
			t.Errorf("%q: query %q", types, got)
		}
	}
}

// A registry that claims to have filtered is not believed.
func TestReferrersFalseFilter(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 2)
	i.reg.PushReferrer(repo, i.desc, sbom, []byte("sbom"))
	i.reg.Inject(testregistry.Fault{Kind: testregistry.FalseFilter})
	got, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), i.byDigest(), i.desc.Digest, []string{notation})
	if err != nil || len(got.Referrers) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Which of API and tag schema a registry has is asked once.
func TestTagSchemaIsRemembered(t *testing.T) {
	t.Parallel()
	now := time.Now()
	i := newImage(t, testregistry.Options{NoReferrersAPI: true}, 1)
	r := newRegistry(t, oci.Options{Clock: func() time.Time { return now }})
	const second = "team/second"
	image := i.reg.PushImage(second, "v1", 0)
	i.reg.PushReferrer(second, image, notation, []byte("x"))
	list := func(repo string, d digest.Digest, want, apiRequests int) {
		t.Helper()
		i.reg.ResetLog()
		got, err := r.Referrers(testContext(t), pinned(i.reg.Host, repo, d), d, []string{notation})
		if err != nil || len(got.Referrers) != want {
			t.Fatalf("%+v, %v", got, err)
		}
		if n := i.reg.Count(testregistry.Referrers); n != apiRequests {
			t.Errorf("the API was asked %d times, want %d", n, apiRequests)
		}
		if n := i.reg.Count(testregistry.Manifest); n != 1 {
			t.Errorf("the tag was asked for %d times", n)
		}
	}
	list(repo, i.desc.Digest, 1, 1)
	for range 3 {
		list(repo, i.desc.Digest, 1, 0)
		list(second, image.Digest, 1, 0)
	}
	// An empty list is worth a second question, as a wrong memory would deny.
	list(repo, digest.FromString("unsigned"), 0, 1)
	now = now.Add(2 * time.Hour)
	list(repo, i.desc.Digest, 1, 1)
	list(repo, i.desc.Digest, 1, 0)
}

// An API that answers 404 for a while, or for what it does not have, must not
// hide signatures afterwards.
func TestTagSchemaMemoryIsNotPoisoned(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"no such repository": `{"errors":[{"code":"NAME_UNKNOWN"}]}`,
		"no such manifest":   `{"errors":[{"code":"MANIFEST_UNKNOWN"}]}`,
		"an ingress":         `404 page not found`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newImage(t, testregistry.Options{}, 1)
			r := newRegistry(t, oci.Options{})
			remove := i.reg.Inject(testregistry.Fault{Kind: testregistry.Custom, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusNotFound)
				_, _ = w.Write([]byte(body))
			})})
			if got, err := r.Referrers(testContext(t), i.byDigest(), i.desc.Digest, nil); err != nil || len(got.Referrers) != 0 {
				t.Fatalf("%+v, %v", got, err)
			}
			remove()
			i.reg.ResetLog()
			if got, err := r.Referrers(testContext(t), i.byDigest(), i.desc.Digest, nil); err != nil || len(got.Referrers) != 1 {
				t.Fatalf("%+v, %v", got, err)
			}
			if tags := i.reg.Count(testregistry.Manifest); (tags != 0) != (name == "an ingress") {
				t.Errorf("the tag was asked for %d times", tags)
			}
			i.reg.ResetLog()
			if _, err := r.Referrers(testContext(t), i.byDigest(), i.desc.Digest, nil); err != nil || i.reg.Count(testregistry.Any) != 1 {
				t.Errorf("%d requests, %v", i.reg.Count(testregistry.Any), err)
			}
		})
	}
}

// An index left under the tag by an older tool does not stand for the API's list.
func TestTagSchemaMemoryAndAnOldIndex(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 1)
	old := strings.Replace(indexOf("old"), notation, sbom, 1)
	i.reg.PushManifest(repo, testregistry.ReferrersTag(i.desc.Digest), ocispec.MediaTypeImageIndex, []byte(old))
	r := newRegistry(t, oci.Options{})
	remove := i.reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 404, Class: testregistry.Referrers})
	for _, want := range []int{0, 1} {
		if got, err := r.Referrers(testContext(t), i.byDigest(), i.desc.Digest, []string{notation}); err != nil || len(got.Referrers) != want {
			t.Errorf("%+v, %v, want %d", got, err, want)
		}
		remove()
	}
}

func TestReferrersWrongContentType(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 1)
	i.reg.Inject(testregistry.Fault{Kind: testregistry.WrongContentType, Class: testregistry.Referrers, Value: "text/html"})
	index := `{"schemaVersion":2,"manifests":[{"mediaType":"` + ocispec.MediaTypeImageManifest + `","artifactType":"` + notation +
		`","digest":"` + digest.FromString("by tag").String() + `","size":7}]}`
	i.reg.PushManifest(repo, testregistry.ReferrersTag(i.desc.Digest), ocispec.MediaTypeImageIndex, []byte(index))
	got, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), i.byDigest(), i.desc.Digest, []string{notation})
	if err != nil || len(got.Referrers) != 1 || got.Referrers[0].Digest != digest.FromString("by tag") {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestReferrersTagHoldsNoIndex(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ mediaType, body string }{
		"a web page":                         {"text/html", `<html>`},
		"no JSON":                            {ocispec.MediaTypeImageIndex, "no JSON"},
		"no index":                           {ocispec.MediaTypeImageIndex, "{}"},
		"no manifest, whatever it is called": {ocispec.MediaTypeImageManifest, "no JSON"},
	} {
		host := serve(t, func(w http.ResponseWriter, req *http.Request) {
			if strings.Contains(req.URL.Path, "/referrers/") {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			w.Header().Set("Content-Type", c.mediaType)
			_, _ = w.Write([]byte(c.body))
		})
		d := digest.FromString("x")
		_, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), pinned(host, repo, d), d, nil)
		wantError(t, err, boltseal.ErrUnusable, host, "list referrers")
		_ = name
	}
	host := serve(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.Contains(req.URL.Path, "/referrers/") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		w.Header().Set("Docker-Content-Digest", digest.FromString("another").String())
		_, _ = w.Write([]byte(`{"manifests":[]}`))
	})
	d := digest.FromString("x")
	_, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), pinned(host, repo, d), d, nil)
	wantError(t, err, boltseal.ErrUnusable, host, "do not match")
}

// What neither endpoint answers is no empty list.
func TestReferrersUnavailable(t *testing.T) {
	t.Parallel()
	for _, class := range []testregistry.Class{testregistry.Referrers, testregistry.Manifest} {
		for code, want := range map[int]error{500: boltseal.ErrUnavailable, 403: boltseal.ErrUnauthorized, 400: boltseal.ErrUnusable} {
			i := newImage(t, testregistry.Options{NoReferrersAPI: class == testregistry.Manifest}, 1)
			i.reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: code, Class: class})
			got, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), i.byDigest(), i.desc.Digest, nil)
			wantError(t, err, want, i.reg.Host, "list referrers", fmt.Sprint("HTTP ", code))
			if len(got.Referrers) != 0 {
				t.Errorf("%+v", got)
			}
		}
	}
}

// pages serves an index and a Link header by the query, "" being the first page.
func pages(t *testing.T, page func(req *http.Request) (body, link string)) string {
	return serve(t, func(w http.ResponseWriter, req *http.Request) {
		body, link := page(req)
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		if link != "" {
			w.Header().Set("Link", link)
		}
		_, _ = w.Write([]byte(body))
	})
}

func indexOf(names ...string) string {
	var ds []ocispec.Descriptor
	for _, n := range names {
		ds = append(ds, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: notation, Digest: digest.FromString(n), Size: 9})
	}
	b, _ := json.Marshal(ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: ds})
	return string(b)
}

func TestReferrersLinks(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int32
	other := serve(t, func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) })
	d := digest.FromString("subject")
	path := "/v2/" + repo + "/referrers/" + d.String()
	for name, c := range map[string]struct {
		link       string // of the first page
		second     bool   // the second page is read
		incomplete string
	}{
		"relative":           {link: `<` + path + `?p=2>; rel="next"`, second: true},
		"query only":         {link: `<?p=2>; rel=next`, second: true},
		"among others":       {link: `<?p=1>; rel="first"; title="a, \"b\"; rel=next", <?p=2>; x; rel="prefetch next", <?p=9>; rel="last"`, second: true},
		"none":               {link: ``},
		"other relations":    {link: `<?p=2>; rel="last", <?p=2>`},
		"itself":             {link: `<` + path + `?artifactType=` + strings.ReplaceAll(notation, "/", "%2F") + `>; rel="next"`, incomplete: "in a circle"},
		"off origin":         {link: `<http://` + other + path + `?p=2>; rel="next"`, second: true},
		"scheme-relative":    {link: `<//` + other + path + `?p=2>; rel="next"`, second: true},
		"another scheme":     {link: `<https://HOST` + path + `?p=2>; rel="next"`, second: true},
		"with a prefix":      {link: `</registry/v2/proxy/` + repo + `/referrers/` + d.String() + `?p=2>; rel="next"`, second: true},
		"with a port":        {link: `<https://registry.example:443` + path + `?p=2>; rel="next"`, second: true},
		"single quotes":      {link: `<?p=2>; rel='next'`, second: true},
		"encoded":            {link: `</v2/` + repo + `/referrers/` + strings.ReplaceAll(d.String(), ":", "%3A") + `?p=2>; rel=next`, second: true},
		"without a query":    {link: `<` + path + `>; rel="next"`, incomplete: "lies elsewhere"},
		"with a user":        {link: `<http://` + secret + `@HOST` + path + `?p=2>; rel="next"`, incomplete: "lies elsewhere"},
		"another path":       {link: `</v2/` + repo + `/manifests/v1?p=2>; rel="next"`, incomplete: "lies elsewhere"},
		"another subject":    {link: `</v2/` + repo + `/referrers/` + digest.FromString("y").String() + `?p=2>; rel="next"`, incomplete: "lies elsewhere"},
		"climbing":           {link: `<` + path + `/../../../other?p=2>; rel="next"`, incomplete: "lies elsewhere"},
		"no URL":             {link: `<:%zz>; rel="next"`, incomplete: "lies elsewhere"},
		"empty":              {link: `<>; rel="next"`, incomplete: "cannot be read"},
		"not a link":         {link: `?p=2; rel="next"`, incomplete: "cannot be read"},
		"unclosed":           {link: `<?p=2; rel="next"`, incomplete: "cannot be read"},
		"unclosed quote":     {link: `<?p=1>; title="x, <?p=2>; rel="next`, incomplete: "cannot be read"},
		"longer than a link": {link: `<?p=2` + strings.Repeat("x", 9000) + `>; rel="next"`, incomplete: "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := pages(t, func(req *http.Request) (string, string) {
				if req.URL.Path != path {
					t.Errorf("asked for %s", req.URL)
				}
				if req.URL.Query().Get("p") == "2" {
					return indexOf("two"), ""
				}
				return indexOf("one"), strings.ReplaceAll(c.link, "HOST", req.Host)
			})
			got, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), pinned(host, repo, d), d, []string{notation})
			if err != nil {
				t.Fatal(err)
			}
			if listed := digests(got.Referrers); !listed[digest.FromString("one")] || listed[digest.FromString("two")] != c.second {
				t.Errorf("listed %v", listed)
			}
			said := ""
			if got.Incomplete != nil {
				said = got.Incomplete.Error()
			}
			if got.Truncated != "" || (said == "") != (c.incomplete == "") || !strings.Contains(said, c.incomplete) || strings.Contains(said, secret) {
				t.Errorf("incomplete: %q, truncated: %q", said, got.Truncated)
			}
		})
	}
	t.Cleanup(func() {
		if n := elsewhere.Load(); n != 0 {
			t.Errorf("%d requests off origin", n)
		}
	})
}

func TestReferrersPagesWithoutEnd(t *testing.T) {
	t.Parallel()
	d := digest.FromString("subject")
	asked := map[string]int{}
	host := pages(t, func(req *http.Request) (string, string) {
		q := req.URL.RawQuery
		asked[q]++
		return indexOf("page " + q), fmt.Sprintf(`<?%sx>; rel="next"`, q)
	})
	got, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), pinned(host, repo, d), d, nil)
	if err != nil || len(got.Referrers) != 1024 || got.Truncated != "only the first 1024 pages of the referrers were read" {
		t.Errorf("%d referrers, %q, %v", len(got.Referrers), got.Truncated, err)
	}
	for q, n := range asked {
		if n != 1 {
			t.Errorf("page %q was asked for %d times", q, n)
		}
	}
	// Pages that go in a larger circle.
	host = pages(t, func(req *http.Request) (string, string) {
		next := map[string]string{"": "p=1", "p=1": "p=2", "p=2": "p=1"}[req.URL.RawQuery]
		return indexOf("page " + req.URL.RawQuery), "<?" + next + `>; rel="next"`
	})
	got, err = newRegistry(t, oci.Options{}).Referrers(testContext(t), pinned(host, repo, d), d, nil)
	if err != nil || len(got.Referrers) != 3 || got.Incomplete == nil || !strings.Contains(got.Incomplete.Error(), "circle") {
		t.Errorf("%d referrers, %v, %v", len(got.Referrers), got.Incomplete, err)
	}
}

func TestReferrersLaterPageFails(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]error{404: boltseal.ErrNotFound, 400: boltseal.ErrUnusable, 500: boltseal.ErrUnavailable, 403: boltseal.ErrUnauthorized} {
		i := newImage(t, testregistry.Options{PageSize: 1}, 2)
		i.reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: code, Skip: 1})
		got, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), i.byDigest(), i.desc.Digest, nil)
		if err != nil || len(got.Referrers) != 1 || got.Truncated != "" || !errors.Is(got.Incomplete, want) || !strings.Contains(got.Incomplete.Error(), "page 2 of the referrers could not be read") {
			t.Errorf("%d: %+v, %v", code, got, err)
		}
	}
}

func TestThousandsOfReferrers(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 0)
	i.reg.Inject(testregistry.Fault{Kind: testregistry.ManyReferrers, Class: testregistry.Referrers})
	got, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), i.byDigest(), i.desc.Digest, []string{notation})
	if err != nil || len(got.Referrers) != 2000 || got.Truncated != "only the first 2000 referrers were checked" {
		t.Errorf("%d referrers, %q, %v", len(got.Referrers), got.Truncated, err)
	}
	// Of a type that is not asked for: nothing of them is kept.
	got, err = newRegistry(t, oci.Options{}).Referrers(testContext(t), i.byDigest(), i.desc.Digest, []string{sbom})
	if err != nil || len(got.Referrers) != 0 || got.Truncated != "" {
		t.Errorf("%d referrers, %q, %v", len(got.Referrers), got.Truncated, err)
	}
	// More than fit one page of 4 MiB.
	i.reg.ClearFaults()
	i.reg.Inject(testregistry.Fault{Kind: testregistry.ManyReferrers, Size: 30_000})
	_, err = newRegistry(t, oci.Options{}).Referrers(testContext(t), i.byDigest(), i.desc.Digest, nil)
	wantError(t, err, boltseal.ErrLimit, i.reg.Host)
}

// What is malformed in a list does not hide what is not.
func TestReferrersMalformedDescriptors(t *testing.T) {
	t.Parallel()
	right := `{"mediaType":"` + ocispec.MediaTypeImageManifest + `","artifactType":"` + notation + `","digest":"` + digest.FromString("right").String() + `","size":9}`
	d := digest.FromString("subject")
	for _, bad := range []string{
		`null`, `7`, `"x"`, `[]`, `{}`, `{"digest":7}`, `{"digest":"sha256:short","size":1}`,
		strings.Replace(right, `9}`, `-1}`, 1), strings.Replace(right, `9}`, `4611686018427387904}`, 1),
		strings.Replace(right, `9}`, `1e99}`, 1), strings.Replace(right, `9}`, `"9"}`, 1), strings.Replace(right, `9}`, `9.5}`, 1),
		strings.Replace(right, `"size":9`, `"size":8`, 1), // another size of the same digest
	} {
		for _, body := range []string{bad + "," + right, right + "," + bad} {
			host := pages(t, func(*http.Request) (string, string) { return `{"manifests":[` + body + `]}`, "" })
			got, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), pinned(host, repo, d), d, []string{notation})
			if err != nil || !digests(got.Referrers)[digest.FromString("right")] || got.Truncated != "" {
				t.Errorf("%s: %+v, %v", body, got, err)
				continue
			}
		}
	}
	host := pages(t, func(*http.Request) (string, string) { return `{"manifests":[` + right + "," + right + `]}`, "" })
	if got, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), pinned(host, repo, d), d, nil); err != nil || len(got.Referrers) != 1 {
		t.Errorf("listed twice: %+v, %v", got, err)
	}
	for _, body := range []string{``, `null`, `[]`, `{"manifests":7}`, `{"manifests":{}}`, `{"manifests":[],"manifests":[]}`, `{"manifests":[]`, `{"manifests":[]}x`, `{"a":"\xff"}`} {
		host := pages(t, func(*http.Request) (string, string) { return body, "" })
		_, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), pinned(host, repo, d), d, nil)
		wantError(t, err, boltseal.ErrUnusable, host)
	}
}

// A registry whose API fails is asked for the tag first from then on, and for the API
// where the tag has nothing, so that it costs no further round trip.
func TestFailingAPIIsRemembered(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for _, code := range []int{400, 401, 403, 405, 406, 410, 415, 424, 500, 501} {
		i := newImage(t, testregistry.Options{NoReferrersAPI: true}, 1)
		i.reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: code, Class: testregistry.Referrers})
		at := now
		r := newRegistry(t, oci.Options{Clock: func() time.Time { return at }})
		for n, requests := range []int{3, 1, 1} {
			i.reg.ResetLog()
			got, err := r.Referrers(testContext(t), i.byDigest(), i.desc.Digest, []string{notation})
			if err != nil || len(got.Referrers) != 1 || got.Incomplete == nil || i.reg.Count(testregistry.Any) > requests {
				t.Errorf("%d, %d: %+v, %d requests, %v", code, n, got, i.reg.Count(testregistry.Any), err)
			}
		}
		// Another Store learns nothing of it.
		i.reg.ResetLog()
		if _, err := newRegistry(t, oci.Options{}).Referrers(testContext(t), i.byDigest(), i.desc.Digest, []string{notation}); err != nil || i.reg.Count(testregistry.Referrers) == 0 {
			t.Errorf("%d: %d requests by another Store, %v", code, i.reg.Count(testregistry.Referrers), err)
		}
		// It may have been passing.
		at = now.Add(time.Hour)
		i.reg.ClearFaults()
		i.reg.ResetLog()
		if got, err := r.Referrers(testContext(t), i.byDigest(), i.desc.Digest, []string{notation}); err != nil || got.Incomplete != nil || i.reg.Count(testregistry.Referrers) != 1 {
			t.Errorf("%d: %+v, %v", code, got, err)
		}
	}
}
