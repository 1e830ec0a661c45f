package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzReferrers holds what is made of an answer against a plain decoding of it:
// nothing is invented, nothing malformed or of another type is listed, nothing
// that is right is left out, and the bounds hold.
func FuzzReferrers(f *testing.F) {
	right := `{"mediaType":"a/b","artifactType":"t","digest":"sha256:` + strings.Repeat("0", 64) + `","size":7}`
	for _, seed := range []string{
		`{"schemaVersion":2,"manifests":[` + right + `]}`, `{"manifests":[null,` + right + `,` + right + `]}`, `{"manifests":null}`, `{}`, `null`, `[]`,
		`{"manifests":[{"size":-1}],"annotations":{"manifests":[` + right + `]}}`, `{"manifests":[` + right + `],"manifests":[]}`, `{"manifests":[` + right,
		`{"manifests":[` + strings.Repeat(right+",", 9) + right + `]}`, `{"m\u0061nifests":[` + right + `]}`, `{"manifests":[{"digest":"sha256:x","size":1e3}]}x`,
		`{"manifests":[` + strings.Replace(right, "}", `,"annotations":{"a":[{}],"`+boltseal.HintThumbprints+`":"[\"aa\"]"}}`, 1) + `]}`,
		`{"manifests":[` + strings.Replace(right, "}", `,"annotations":{"`+boltseal.HintThumbprints+`":["aa"]}}`, 1) + `]}`,
	} {
		f.Add([]byte(seed), "t")
		f.Add([]byte(seed), "")
	}
	f.Fuzz(func(t *testing.T, b []byte, artifactType string) {
		const limit = 5
		weight.Bound{Floor: 64 << 10, Times: 32}.Check(t, len(b), func() { _ = (&collector{limit: 2000}).add(ocispec.MediaTypeImageIndex, b) })
		c := &collector{limit: limit}
		if artifactType != "" {
			c.types = []string{artifactType}
		}
		err := c.add(ocispec.MediaTypeImageIndex, b)
		got := c.listing
		if len(got.Referrers) > limit {
			t.Fatalf("%d referrers", len(got.Referrers))
		}
		seen, digests := map[string]bool{}, map[digest.Digest]bool{}
		for _, d := range got.Referrers {
			digests[d.Digest] = true
			key := fmt.Sprint(d.MediaType, d.ArtifactType, d.Digest, d.Size)
			switch {
			case boltseal.ValidateDescriptor(d) != nil:
				t.Errorf("malformed: %+v", d)
			case artifactType != "" && d.ArtifactType != artifactType && !boltseal.Untyped(d.ArtifactType):
				t.Errorf("not asked for: %+v", d)
			case seen[key]:
				t.Errorf("twice: %+v", d)
			}
			seen[key] = true
			for name, value := range d.Annotations {
				if !boltseal.IsHint(name) || len(value) > boltseal.MaxHintBytes {
					t.Errorf("no hint: %q: %q", name, value)
				}
			}
		}
		var plain struct {
			Manifests []json.RawMessage `json:"manifests"`
		}
		if err != nil || got.Truncated != "" || json.Unmarshal(b, &plain) != nil || bytes.Contains(bytes.ToLower(b), []byte(`\u`)) {
			return
		}
		for i, raw := range plain.Manifests {
			var d ocispec.Descriptor
			if caseFolded(raw) || json.Unmarshal(raw, &d) != nil || boltseal.ValidateDescriptor(d) != nil || artifactType != "" && d.ArtifactType != artifactType {
				continue
			}
			// Of several entries of one digest one is kept: which says the most.
			if !digests[d.Digest] && json.Valid(raw) && !caseFolded(b) {
				t.Errorf("entry %d is left out: %s", i, raw)
			}
		}
	})
}

// caseFolded finds what encoding/json reads and we do not: members in another
// case, or twice, and numbers or text that are not quite right.
func caseFolded(b []byte) bool {
	for _, name := range []string{"mediaType", "artifactType", "digest", "size", "manifests"} {
		if n := strings.Count(strings.ToLower(string(b)), strings.ToLower(name)); n != strings.Count(string(b), `"`+name+`"`) {
			return true
		}
	}
	return !bytes.Equal(bytes.ToValidUTF8(b, nil), b)
}

// FuzzChallenge checks that what a challenge says is in the header, that a
// header of our own is read as it was meant, and that order does not matter.
func FuzzChallenge(f *testing.F) {
	for _, seed := range []string{
		`Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"`, `Basic realm="x"`, `Negotiate abc==, Basic realm=x`,
		`Basic`, `Bearer realm="a\"b"`, `Bearer realm="`, ` , ,Bearer`, `Bearer realm=a realm=b`, `=,="`, `Digest a="\`,
	} {
		f.Add(seed, "https://auth.example/token", "registry.example")
	}
	f.Fuzz(func(t *testing.T, header, realm, service string) {
		weight.Bound{Floor: 16 << 10, Times: 8}.Check(t, len(header), func() { _, _ = parseChallenges([]string{header}) })
		c, ok := parseChallenges([]string{header})
		if ok != (c.scheme == "basic" || c.scheme == "bearer") || !ok && c != (challenge{}) {
			t.Errorf("%q: %+v, %v", header, c, ok)
		}
		if !ok && (c.realm != "" || c.service != "") || !strings.Contains(strings.ToLower(header), c.scheme) {
			t.Errorf("%q: %+v", header, c)
		}
		if len(c.realm)+len(c.service) > len(header) || !subsequence(c.realm, header) || !subsequence(c.service, header) {
			t.Errorf("%q: %+v", header, c)
		}
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
		own := challenge{scheme: "bearer", realm: realm, service: service}
		text := `Bearer realm="` + quoted.Replace(realm) + `", service="` + quoted.Replace(service) + `"`
		if len(text) > maxChallengeLength-100 {
			return
		}
		for _, headers := range [][]string{{text}, {text, "Basic realm=x"}, {"Basic realm=x", text}, {"Basic realm=x, " + text}, {text + `, Basic realm="x"`}, {"Negotiate a==, " + text}} {
			if got, ok := parseChallenges(headers); !ok || got != own {
				t.Errorf("%q: %+v, %v", headers, got, ok)
			}
		}
	})
}

func subsequence(a, b string) bool {
	for i := 0; i < len(b) && a != ""; i++ {
		if b[i] == a[0] {
			a = a[1:]
		}
	}
	return a == ""
}

// FuzzLink checks that a link of our own is found wherever it stands, that a
// target is one that stands in the header, and that a client which follows
// links never leaves the path and never asks twice.
func FuzzLink(f *testing.F) {
	for _, seed := range []string{
		`</v2/a/b/referrers/x?n=1>; rel="next"`, `<a>; rel="last", <b>; title="x, y"; rel=next`, `<http://evil.invalid/>; rel=next`, `<>; rel=next`, `<..>; rel=next`,
		`<//evil.invalid>;rel="next"`, `<a`, `,,`, `<?%zz>; rel=next`, `<?a#b>; rel=next`,
	} {
		f.Add(seed, "/v2/a/b/referrers/x?n=1")
	}
	f.Fuzz(func(t *testing.T, header, target string) {
		weight.Bound{Floor: 16 << 10, Times: 8}.Check(t, len(header), func() { _, _ = nextLink(http.Header{"Link": {header}}) })
		got, err := nextLink(http.Header{"Link": {header}})
		if got != "" && (err != nil || !strings.Contains(header, "<") || !strings.Contains(header, got)) {
			t.Errorf("%q: %q, %v", header, got, err)
		}
		if target = strings.TrimSpace(target); target != "" && !strings.ContainsAny(target, "<>") && len(target) < 1000 {
			own := "<" + target + `>; title="a, <b>; rel=next\""; rel="prev next"`
			for _, h := range []string{own, `<x>; rel="last", ` + own, own + `, <y>; rel=next`} {
				if got, err := nextLink(http.Header{"Link": {h}}); err != nil || got != target {
					t.Errorf("%q: %q, %v", h, got, err)
				}
			}
		}
		follow(t, header)
	})
}

// follow lists referrers from a registry that links to wherever it likes. The
// network ends at this transport: what is asked for is recorded.
func follow(t *testing.T, link string) {
	t.Helper()
	for _, c := range link {
		if c < ' ' || c == 0x7f {
			return // no header has this
		}
	}
	asked := map[string]bool{}
	r, err := NewRegistry(Options{Limits: Limits{ListBytes: 4 * pageCost}})
	if err != nil {
		t.Fatal(err)
	}
	const subject = digest.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000000")
	h := r.hosts.get("127.0.0.1:1")
	h.transport = &http.Transport{}
	h.transport.RegisterProtocol("memory", roundTrip(func(req *http.Request) *http.Response {
		if u := req.URL.String(); asked[u] || req.URL.Host != "127.0.0.1:1" || req.URL.Path != "/v2/a/b/referrers/"+string(subject) && req.URL.Path != "/v2/a/b/manifests/"+referrersTag(subject) {
			t.Errorf("link %q: asked for %s", link, u)
		} else {
			asked[u] = true
		}
		w := httptest.NewRecorder()
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		w.Header()["Link"] = []string{link}
		_, _ = io.WriteString(w, `{"manifests":[]}`)
		return w.Result()
	}))
	h.scheme = "memory"
	listing, err := r.Referrers(t.Context(), boltseal.Reference{Registry: "127.0.0.1:1", Repository: "a/b", Digest: subject}, subject, nil)
	delete(asked, "memory://127.0.0.1:1/v2/a/b/manifests/"+referrersTag(subject))
	if len(listing.Referrers) > 0 || err != nil && !errors.Is(err, boltseal.ErrUnusable) || len(asked) > 4 || len(asked) == 4 && listing.Truncated == "" && err == nil {
		t.Errorf("link %q: %d pages, %q, %v", link, len(asked), listing.Truncated, err)
	}
	for u := range asked {
		if _, err := url.Parse(u); err != nil {
			t.Errorf("link %q: %v", link, err)
		}
	}
}

type roundTrip func(*http.Request) *http.Response

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req), nil }

// FuzzLayout opens a layout with any index.json: what it resolves are bytes
// that match, tags are those of the index, and nothing outside is read.
func FuzzLayout(f *testing.F) {
	manifest := []byte(`{"schemaVersion":2,"config":{"mediaType":"t","digest":"sha256:` + strings.Repeat("0", 64) + `","size":1},"layers":[]}`)
	image := digest.FromBytes(manifest)
	signature := []byte(`{"schemaVersion":2,"artifactType":"t","config":{"mediaType":"t","digest":"sha256:` + strings.Repeat("0", 64) +
		`","size":1},"layers":[],"subject":{"mediaType":"` + ocispec.MediaTypeImageManifest + `","digest":"` + image.String() + `","size":` + fmt.Sprint(len(manifest)) + `}}`)
	entry := func(b []byte, tag string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"annotations":{"org.opencontainers.image.ref.name":%q}}`,
			ocispec.MediaTypeImageManifest, digest.FromBytes(b), len(b), tag)
	}
	for _, seed := range []string{
		`{"manifests":[` + entry(manifest, "v1") + `,` + entry(signature, "") + `]}`, `{"manifests":[` + entry(signature, "v1") + `,` + entry(signature, "v1") + `]}`,
		`{"manifests":[{"digest":"sha256:../../../oci-layout","size":30},` + entry(manifest, "../v1") + `]}`, `{"manifests":[null,7]}`, `{`, `null`,
	} {
		f.Add([]byte(seed))
	}
	dir := f.TempDir()
	for name, b := range map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`),
		"blobs/sha256/" + image.Encoded(): manifest, "blobs/sha256/" + digest.FromBytes(signature).Encoded(): signature} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			f.Fatal(err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, "index.json"), b, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLayout(dir, Limits{IndexBytes: 1 << 16})
		if err != nil {
			return
		}
		defer l.Close()
		for tag := range l.tags {
			d, err := l.Resolve(t.Context(), boltseal.Reference{Tag: tag})
			if err != nil {
				continue
			}
			got, err := l.Manifest(t.Context(), boltseal.Reference{Tag: tag}, d)
			if err != nil || digest.FromBytes(got) != d.Digest || int64(len(got)) != d.Size {
				t.Errorf("%q: %+v, %v", tag, d, err)
			}
		}
		for subject, ds := range l.referrers {
			for _, d := range ds {
				if subject != image || !bytes.Contains(signature, []byte(subject)) || d.Digest != digest.FromBytes(signature) || d.ArtifactType != "t" {
					t.Errorf("%s has the referrer %+v", subject, d)
				}
			}
			if len(ds) != 1 {
				t.Errorf("%d referrers", len(ds))
			}
		}
	})
}
