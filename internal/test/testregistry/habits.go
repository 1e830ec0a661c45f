package testregistry

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Habit is what some registry was seen to do otherwise than the specification says.
type Habit struct {
	// Name is what it does, in a few words.
	Name string
	// Product has it, and Report is where that can be read.
	Product, Report string
	// Tags says that clients keep the referrers under tags there.
	Tags bool
	// PageSize is how many referrers a page holds there, 0 for all.
	PageSize int

	faults func(*Registry) []Fault
}

// Adopt makes the registry have the habit from now on. A habit with Tags needs
// Options.NoReferrersAPI, one with a PageSize Options.PageSize.
func (r *Registry) Adopt(h Habit) {
	for _, f := range h.faults(r) {
		r.Inject(f)
	}
}

// HabitOf is the habit of that name. It panics where there is none.
func HabitOf(name string) Habit {
	for _, h := range Habits() {
		if h.Name == name {
			return h
		}
	}
	panic("testregistry: no habit " + name)
}

// Habits are all habits.
func Habits() []Habit {
	var out []Habit
	for _, m := range []struct {
		status          int
		product, report string
	}{
		{400, "Quay", "quay/quay#3071"}, {401, "a registry behind a proxy", "distribution-spec, error codes"}, {403, "JFrog Artifactory", "sigstore/cosign#2973"},
		{404, "distribution", "distribution-spec 1.1, Unavailable Referrers API"}, {405, "a registry behind a proxy", "RFC 9110, section 15.5.6"},
		{406, "JFrog Artifactory", "google/go-containerregistry#2026"}, {410, "a registry behind a proxy", "RFC 9110, section 15.5.11"},
		{415, "a registry behind a proxy", "RFC 9110, section 15.5.16"}, {424, "Azure Container Registry, cache rules", "Azure/acr#891"},
		{500, "a registry behind a proxy", "RFC 9110, section 15.6.1"}, {501, "a registry behind a proxy", "RFC 9110, section 15.6.2"},
		{503, "a registry behind a proxy", "RFC 9110, section 15.6.4"},
	} {
		out = append(out, Habit{Name: fmt.Sprintf("the API answers %d", m.status), Product: m.product, Report: m.report, Tags: true,
			faults: alwaysFaults(Fault{Kind: Status, Class: Referrers, Status: m.status})})
	}
	return append(append(append(append(append(out, listHabits()...), pageHabits()...), answerHabits()...), contentHabits()...), tokenHabits()...)
}

func alwaysFaults(fs ...Fault) func(*Registry) []Fault { return func(*Registry) []Fault { return fs } }

func changedAnswers(class Class, change func(*Answer)) func(*Registry) []Fault {
	return alwaysFaults(Fault{Kind: Changed, Class: class, Change: change})
}

// foreignPage is an answer of somebody else than the registry.
func foreignPage(status int) func(*Answer) {
	return func(a *Answer) {
		a.Status, a.Header, a.Body = status, http.Header{"Content-Type": {"text/html; charset=utf-8"}}, []byte("<!DOCTYPE html><title>Sign in</title>")
	}
}

// changeEntries changes the entries of a list of referrers.
func changeEntries(change func(i int, m map[string]any)) func(*Answer) {
	return func(a *Answer) {
		var doc map[string]any
		if a.Status != http.StatusOK || json.Unmarshal(a.Body, &doc) != nil {
			return
		}
		list, _ := doc["manifests"].([]any)
		for i := range list {
			change(i, list[i].(map[string]any))
		}
		a.Body, _ = json.Marshal(doc)
	}
}

func listHabits() []Habit {
	const gar, garReport = "Google Artifact Registry", "oras-project/oras#1626"
	without := func(members ...string) func(int, map[string]any) {
		return func(_ int, m map[string]any) {
			for _, name := range members {
				delete(m, name)
			}
		}
	}
	with := func(name string, value any) func(int, map[string]any) {
		return func(_ int, m map[string]any) { m[name] = value }
	}
	return []Habit{
		{Name: "a list without types", Product: gar, Report: garReport, faults: changedAnswers(Referrers, changeEntries(without("artifactType", "annotations")))},
		{Name: "a list without types, and a filter that finds none", Product: gar, Report: garReport, faults: func(r *Registry) []Fault {
			return []Fault{{Kind: Changed, Class: Referrers, Change: func(a *Answer) {
				if a.Request.URL.RawQuery != "" {
					a.Body, _ = encodeIndex(nil)
				}
				changeEntries(without("artifactType"))(a)
			}}}
		}},
		{Name: "a list with the empty config's type", Product: "go-containerregistry", Report: "google/go-containerregistry#1997", faults: changedAnswers(Referrers, changeEntries(with("artifactType", ocispec.MediaTypeEmptyJSON)))},
		{Name: "a list with an image's config type", Product: "Azure Container Registry", Report: "Azure/acr#784", faults: changedAnswers(Referrers, changeEntries(with("artifactType", ocispec.MediaTypeImageConfig)))},
		{Name: "a list with wrong sizes", Product: gar, Report: garReport, faults: changedAnswers(Referrers, changeEntries(with("size", 521)))},
		{Name: "a list with large sizes", Product: gar, Report: garReport, faults: changedAnswers(Referrers, changeEntries(with("size", 5<<20)))},
		{Name: "a list with sizes below zero", Product: gar, Report: garReport, faults: changedAnswers(Referrers, changeEntries(with("size", -1)))},
		{Name: "a list with sizes as text", Product: gar, Report: garReport, faults: changedAnswers(Referrers, changeEntries(with("size", "739")))},
		{Name: "a list without sizes", Product: gar, Report: garReport, faults: changedAnswers(Referrers, changeEntries(without("size")))},
		{Name: "a list without media types", Product: gar, Report: garReport, faults: changedAnswers(Referrers, changeEntries(without("mediaType")))},
		{Name: "a list of Docker's media type", Product: "a registry of Docker's types", Report: "OCI image-spec, image-index.md", faults: changedAnswers(Referrers, changeEntries(with("mediaType", "application/vnd.docker.distribution.manifest.v2+json")))},
		{Name: "a list with digests in capitals", Product: "a registry of one's own", Report: "OCI image-spec, descriptor.md", faults: changedAnswers(Referrers, changeEntries(func(_ int, m map[string]any) {
			m["digest"] = "sha256:" + strings.ToUpper(strings.TrimPrefix(m["digest"].(string), "sha256:"))
		}))},
		{Name: "a list with each entry twice", Product: "a registry behind a cache", Report: "OCI image-spec, image-index.md", faults: changedAnswers(Referrers, func(a *Answer) {
			var doc ocispec.Index
			if json.Unmarshal(a.Body, &doc) == nil {
				a.Body, _ = encodeIndex(append(doc.Manifests, doc.Manifests...))
			}
		})},
		{Name: "a list of another content type", Product: "a static registry", Report: "distribution/distribution#2384", faults: changedAnswers(Referrers, func(a *Answer) { a.Header.Set("Content-Type", "application/json") })},
		{Name: "a filter that is refused", Product: "a registry behind a proxy", Report: "distribution-spec 1.1, Listing Referrers", faults: func(*Registry) []Fault {
			return []Fault{{Kind: Status, Class: Referrers, Status: 400, Match: func(req *http.Request) bool { return req.URL.RawQuery != "" }}}
		}},
		{Name: "a filter that is claimed and not applied", Product: "Harbor", Report: "goharbor/harbor#19867", faults: changedAnswers(Referrers, func(a *Answer) { a.Header.Set("OCI-Filters-Applied", "artifactType") })},
		{Name: "an empty list beside a tag", Product: "a registry that got the API later", Report: "distribution-spec 1.1, Enabling the Referrers API", Tags: true,
			faults: alwaysFaults(Fault{Kind: Custom, Class: Referrers, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { writeIndex(w, nil) })})},
	}
}

func pageHabits() []Habit {
	link := func(target func(a *Answer, query string) string) func(*Registry) []Fault {
		return changedAnswers(Referrers, func(a *Answer) {
			if _, after, ok := strings.Cut(a.Header.Get("Link"), "?"); ok {
				query, _, _ := strings.Cut(after, ">")
				a.Header["Link"] = []string{target(a, query)}
			}
		})
	}
	return []Habit{
		{Name: "links to http", Product: "Harbor behind a TLS proxy", Report: "goharbor/harbor#20530", PageSize: 1, faults: link(func(a *Answer, q string) string {
			return "<http://" + a.Request.Host + a.Request.URL.Path + "?" + q + `>; rel="next"`
		})},
		{Name: "links to the name behind the proxy", Product: "Sonatype Nexus", Report: "sonatype/nexus-public#1011", PageSize: 1, faults: link(func(a *Answer, q string) string {
			return "<https://nexus.internal:8443/repository/docker" + a.Request.URL.Path + "?" + q + `>; rel="next"`
		})},
		{Name: "links with a port", Product: "a registry behind a proxy", Report: "RFC 9110, section 4.2.3", PageSize: 1, faults: link(func(a *Answer, q string) string {
			return "<https://registry.example:443" + a.Request.URL.Path + "?" + q + ">; rel=next"
		})},
		{Name: "links without the proxy's prefix", Product: "a registry behind a proxy", Report: "google/go-containerregistry#2446", PageSize: 1, faults: link(func(a *Answer, q string) string {
			return "</v2/referrers/" + a.Target + "?" + q + `>; rel="next"`
		})},
		{Name: "links that are a query", Product: "a registry of one's own", Report: "RFC 3986, section 4.2", PageSize: 1, faults: link(func(_ *Answer, q string) string {
			return `<?` + q + `>; title="x, y"; rel="prev next", <?first>; rel="first"`
		})},
	}
}

func tokenHabits() []Habit {
	token := func(change func(map[string]any)) func(*Registry) []Fault {
		return changedAnswers(Token, func(a *Answer) {
			var doc map[string]any
			if json.Unmarshal(a.Body, &doc) == nil {
				change(doc)
				a.Body, _ = json.Marshal(doc)
			}
		})
	}
	return []Habit{
		{Name: "a token's life as text", Product: "a token server of one's own", Report: "distribution-spec, token authentication", faults: token(func(m map[string]any) { m["expires_in"] = "300" })},
		{Name: "a token's date as a number", Product: "a token server of one's own", Report: "distribution-spec, token authentication", faults: token(func(m map[string]any) { m["issued_at"] = 1772366100 })},
		{Name: "a token without a life", Product: "GitLab", Report: "distribution-spec, token authentication", faults: token(func(m map[string]any) { delete(m, "expires_in"); delete(m, "issued_at") })},
		{Name: "only access_token", Product: "Azure Container Registry", Report: "RFC 6749, section 5.1", faults: token(func(m map[string]any) { delete(m, "token") })},
	}
}

func answerHabits() []Habit {
	return []Habit{
		{Name: "the API is a web page", Product: "a registry behind a sign-in", Report: "awslabs/soci-snapshotter#512", Tags: true, faults: changedAnswers(Referrers, foreignPage(200))},
		{Name: "the API redirects to a web page", Product: "GitHub Container Registry", Report: "artifacthub/hub#4785", Tags: true,
			faults: func(r *Registry) []Fault {
				return []Fault{{Kind: Redirect, Class: Referrers, Value: r.URL + "/signin"}, {Kind: Changed, Class: Other, Change: foreignPage(200)}}
			}},
		{Name: "the tag is the image itself", Product: "GitLab", Report: "oras-project/oras-go#1396", Tags: true, faults: func(r *Registry) []Fault {
			return []Fault{{Kind: Changed, Class: Manifest, Change: func(a *Answer) {
				repo := strings.TrimSuffix(strings.TrimPrefix(a.Request.URL.Path, "/v2/"), "/manifests/"+a.Target)
				d, ok := strings.CutPrefix(a.Target, "sha256-")
				if b, desc, err := r.manifest(repo, digest.Digest("sha256:"+d)); ok && a.Status == 404 && err == nil {
					a.Status, a.Body = 200, b
					a.Header = http.Header{"Content-Type": {desc.MediaType}, "Docker-Content-Digest": {desc.Digest.String()}}
				}
			}}}
		}},
		{Name: "HEAD is refused by 400", Product: "Harbor", Report: "crossplane/crossplane#3223", faults: alwaysFaults(Fault{Kind: Status, Status: 400, Method: http.MethodHead})},
		{Name: "HEAD is refused by 403", Product: "registry.centos.org", Report: "containerd/containerd#6684", faults: alwaysFaults(Fault{Kind: Status, Status: 403, Method: http.MethodHead})},
		{Name: "HEAD is refused by 500", Product: "a registry behind a proxy", Report: "containerd/containerd#6684", faults: alwaysFaults(Fault{Kind: Status, Status: 500, Method: http.MethodHead})},
		{Name: "HEAD states another length", Product: "a registry behind a proxy that compresses", Report: "RFC 9110, section 8.6", faults: alwaysFaults(Fault{Kind: Changed, Method: http.MethodHead,
			Change: func(a *Answer) { a.Header.Set("Content-Length", "77") }})},
		{Name: "HEAD states another type", Product: "a registry behind a cache", Report: "RFC 9110, section 9.3.2", faults: alwaysFaults(Fault{Kind: Changed, Method: http.MethodHead,
			Change: func(a *Answer) { a.Header.Set("Content-Type", "application/vnd.docker.distribution.manifest.v2+json") }})},
		{Name: "HEAD signed for GET only", Product: "a registry on object storage", Report: "containerd/containerd#6684", faults: func(r *Registry) []Fault {
			return []Fault{{Kind: Redirect, Class: Manifest, Method: http.MethodHead, Value: r.URL + "/bucket/x"}, {Kind: Status, Class: Other, Status: 403}}
		}},
	}
}

func contentHabits() []Habit {
	static := func(mediaType string) func(*Answer) {
		return func(a *Answer) {
			if a.Status == http.StatusOK {
				a.Header = http.Header{}
				if mediaType != "" {
					a.Header.Set("Content-Type", mediaType)
				}
			}
		}
	}
	encode := func(name string, pack func([]byte) []byte) func(*Registry) []Fault {
		return changedAnswers(Any, func(a *Answer) {
			if a.Status == http.StatusOK {
				a.Header.Set("Content-Encoding", name)
				a.Body = pack(a.Body)
				if a.Request.Method == http.MethodHead {
					a.Header.Set("Content-Length", "33")
				}
			}
		})
	}
	return []Habit{
		{Name: "everything is octets", Product: "a static registry", Report: "moby/moby#31318", Tags: true, faults: changedAnswers(Any, static("application/octet-stream"))},
		{Name: "everything is text", Product: "a static registry", Report: "distribution/distribution#2384", Tags: true, faults: changedAnswers(Any, static("text/plain; charset=utf-8"))},
		{Name: "nothing has a type", Product: "a static registry", Report: "distribution/distribution#2384", Tags: true, faults: changedAnswers(Any, static(""))},
		{Name: "everything is packed by gzip", Product: "a proxy that compresses", Report: "RFC 9110, section 8.4", faults: encode("gzip", func(b []byte) []byte {
			var out bytes.Buffer
			w := gzip.NewWriter(&out)
			_, _ = w.Write(b)
			w.Close()
			return out.Bytes()
		})},
		{Name: "everything is packed by deflate", Product: "a proxy that compresses", Report: "RFC 9110, section 8.4", faults: encode("deflate", func(b []byte) []byte {
			var out bytes.Buffer
			w := zlib.NewWriter(&out)
			_, _ = w.Write(b)
			w.Close()
			return out.Bytes()
		})},
		{Name: "everything is packed by bare deflate", Product: "a proxy that compresses", Report: "RFC 9110, section 8.4.1.2", faults: encode("deflate", func(b []byte) []byte {
			var out bytes.Buffer
			w, _ := flate.NewWriter(&out, flate.BestSpeed) // the level is one
			_, _ = w.Write(b)
			w.Close()
			return out.Bytes()
		})},
	}
}
