package page_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/governance/page/sample"
	"github.com/boltseal/boltseal/internal/governance/whatif"
)

func written(t *testing.T, s *page.Site, q page.Query) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Write(&b, q); err != nil {
		t.Fatalf("%+v: %v", q, err)
	}
	return b.String()
}

func file(t *testing.T, s *page.Site) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.WriteFile(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

var (
	links = regexp.MustCompile(`href="([^"]*)"`)
	ids   = regexp.MustCompile(` id="([^"]*)"`)
	tags  = regexp.MustCompile(`<[^>]*>`)
	space = regexp.MustCompile(`\s+`)
)

// words is what a reader sees.
func words(text string) string {
	_, body, _ := strings.Cut(text, "<body>")
	return space.ReplaceAllString(html.UnescapeString(tags.ReplaceAllString(body, " ")), " ")
}

func has(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in\n%.3000s", w, text)
		}
	}
}

func hasNot(t *testing.T, text string, never ...string) {
	t.Helper()
	for _, w := range never {
		if strings.Contains(text, w) {
			t.Errorf("%q in the page", w)
		}
	}
}

// TestEveryLinkLeadsToAPage follows all links from the overview on.
func TestEveryLinkLeadsToAPage(t *testing.T) {
	t.Parallel()
	s := page.New(sample.Fleet(30, 6))
	seen, kinds := map[string]bool{"?": true}, map[string]bool{}
	for next := []string{"?"}; len(next) > 0; next = next[1:] {
		q, err := page.ParseQuery(next[0][1:])
		if err != nil {
			t.Fatalf("%s: %v", next[0], err)
		}
		kinds[strings.SplitN(next[0], "=", 2)[0]] = true
		for _, m := range links.FindAllStringSubmatch(written(t, s, q), -1) {
			if href := html.UnescapeString(m[1]); !seen[href] {
				seen[href] = true
				next = append(next, href)
			}
		}
	}
	for _, k := range []string{"?assignment", "?cluster", "?image", "?exemption", "?change"} {
		if !kinds[k] {
			t.Errorf("no link leads to %s", k)
		}
	}
	if !slices.ContainsFunc(slices.Collect(mapKeys(seen)), func(h string) bool { return strings.Contains(h, "&namespace=") }) {
		t.Error("no link leads to a namespace")
	}
}

func mapKeys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestFileLinksToItself: each link of the file leads to one place in it, and nothing else.
func TestFileLinksToItself(t *testing.T) {
	t.Parallel()
	text := file(t, page.New(sample.Fleet(20, 6)))
	places := map[string]int{}
	for _, m := range ids.FindAllStringSubmatch(text, -1) {
		places[html.UnescapeString(m[1])]++
	}
	for p, n := range places {
		if n != 1 || strings.ContainsAny(p, " \t\n") {
			t.Errorf("place %q is there %d times", p, n)
		}
	}
	for _, m := range links.FindAllStringSubmatch(text, -1) {
		href := html.UnescapeString(m[1])
		if !strings.HasPrefix(href, "#") || places[href[1:]] != 1 {
			t.Errorf("%s leads nowhere", href)
		}
	}
	has(t, words(text), "production-denies", "the exemption legacy-billing ends", "CN=release pipeline,O=Example,C=NL")
}

// TestPolicyAllowsTheStyleAndNothingElse: the hash is that of what browsers get.
func TestPolicyAllowsTheStyleAndNothingElse(t *testing.T) {
	t.Parallel()
	for _, text := range []string{written(t, page.New(sample.Fleet(3, 2)), page.Query{}), file(t, page.New(sample.Fleet(3, 2)))} {
		_, style, _ := strings.Cut(text, "<style>")
		style, _, _ = strings.Cut(style, "</style>")
		sum := sha256.Sum256([]byte(style))
		has(t, page.Policy(), "default-src 'none'", "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
		has(t, html.UnescapeString(text), `content="`+page.Policy()+`"`)
		hasNot(t, text, "<script", " style=", "javascript:", "@import", "url(", "ZgotmplZ", "<no value>")
	}
}

// TestWhatIsNotKnownComesFirst and is in none of the numbers.
func TestWhatIsNotKnownComesFirst(t *testing.T) {
	t.Parallel()
	in := sample.Fleet(8, 8) // lon1 has images that are not trusted, par1 and sfo1 are silent
	got := words(written(t, page.New(in), page.Query{}))
	has(t, got, "Nothing is known of 2 clusters", "8 clusters registered", "5 compliant 83.3 % of those that are known", "1 non-compliant", "2 unknown", "16 Pods not trusted of 240 that were checked")
	if a, b := strings.Index(got, "par1"), strings.Index(got, "lon1"); a < 0 || b < 0 || a > b {
		t.Error("silent clusters are not first")
	}
	// What a silent cluster reported last is shown as that, and counted nowhere.
	for i := range in.Reports {
		if in.Reports[i].Name == "sfo1" {
			in.Reports[i].Report.Demands[0].Violations = 7
			in.Reports[i].Report.Demands[0].Components = []v1alpha1.Component{{Namespace: "old", Image: "registry.example/old@sha256:1", Pods: 7, State: v1alpha1.NonCompliant, FirstSeen: metav1.NewTime(in.Now), LastSeen: metav1.NewTime(in.Now)}}
		}
	}
	s := page.New(in)
	got = words(written(t, s, page.Query{}))
	has(t, got, "16 Pods not trusted of 240")
	hasNot(t, got, "registry.example/old")
	has(t, words(written(t, s, page.Query{Cluster: "sfo1"})), "Nothing is known of this cluster now", "Namespaces as they were reported last", "Pods unknown")
	has(t, words(written(t, s, page.Query{Cluster: "sfo1", Namespace: "old"})), "This is what the cluster reported last", "registry.example/old")
}

// TestHubThatStopped: statuses stay as they were when the hub stops. A cluster of which it
// last knew something long ago is unknown all the same.
func TestHubThatStopped(t *testing.T) {
	t.Parallel()
	in := sample.Fleet(2, 0)
	in.Now = in.Now.Add(time.Hour)
	got := words(written(t, page.New(in), page.Query{}))
	has(t, got, "Nothing is known of 2 clusters", "The hub does not keep its numbers up to date", "0 compliant", "2 unknown", "unknown Pods not trusted")
}

func TestNothingRegistered(t *testing.T) {
	t.Parallel()
	s := page.New(page.Input{Now: sample.Now()})
	for _, text := range []string{written(t, s, page.Query{}), file(t, s)} {
		got := words(text)
		has(t, got, "0 clusters", "No cluster is registered", "Nothing is assigned", "There are no exemptions", "unknown Pods not trusted", "Nothing is known: no cluster is registered")
		hasNot(t, got, "%  ", "100", "is not trusted.")
	}
}

// TestNoTextOfAClusterIsMarkup puts hostile texts into each field that others choose.
func TestNoTextOfAClusterIsMarkup(t *testing.T) {
	t.Parallel()
	for _, evil := range []string{`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, "javascript:alert(1)", "' onmouseover='x", "</style><script>x", "{{.}}", "a\u202egpj.exe", "\x00\x1b[2J", "\ufeff\u200b", strings.Repeat("é", 5000), "&lt;b&gt;", "%3Cscript%3E#&?=", "\xff\xfe"} {
		in := sample.Fleet(4, 1)
		in.Clusters[2].Status.Version, in.Clusters[2].Spec.Location, in.Clusters[2].Status.AddOn = evil, evil, v1alpha1.AddOnState(evil)
		for i := range in.Clusters[2].Status.Assignments {
			a := &in.Clusters[2].Status.Assignments[i]
			a.Message, a.Reason, a.PolicyDefinitionReferenceID, a.State = evil, evil, evil, v1alpha1.ComplianceState(evil)
		}
		in.Assignments[0].Spec.Description, in.Assignments[0].Status.Compliance.CompliantPercent = evil, evil
		in.Assignments[0].Status.Compliance.Trend[3].CompliantPercent = evil
		in.Exemptions[0].Spec.Description, in.Exemptions[0].Spec.Within.Namespaces[0] = evil, evil
		for i := range in.Reports {
			for j := range in.Reports[i].Report.Demands {
				d := &in.Reports[i].Report.Demands[j]
				d.TrustedBy[0].Signers[0].Subject = evil
				for k := range d.Components {
					c := &d.Components[k]
					c.Image, c.Namespace, c.Pod, c.Signer, c.Message, c.Reason, c.Pods = evil, evil, evil, evil, evil, evil, -5
				}
			}
		}
		s := page.New(in)
		name := in.Clusters[2].Name
		for what, text := range map[string]string{"the file": file(t, s), "the cluster": written(t, s, page.Query{Cluster: name}), "the namespace": written(t, s, page.Query{Cluster: name, Namespace: evil}), "the image": written(t, s, page.Query{Image: evil})} {
			hasNot(t, text, "<script", "<img", "onmouseover='", "\u202e", "\x1b", "\x00", "\u200b", strings.Repeat("é", 600), "-5")
			for _, m := range links.FindAllStringSubmatch(text, -1) {
				if href := html.UnescapeString(m[1]); !strings.HasPrefix(href, "?") && !strings.HasPrefix(href, "#") {
					t.Errorf("%s: a link to %q", what, href)
				}
			}
			if n := strings.Count(text, "<style>"); n != 1 || strings.Count(text, "</style>") != 1 {
				t.Errorf("%s: %d styles", what, n)
			}
		}
	}
}

func TestWhatIf(t *testing.T) {
	t.Parallel()
	in := sample.Fleet(8, 8)
	s := page.New(in)
	has(t, words(written(t, s, page.Query{Exemption: "legacy-billing"})), "2026-12-06 09:30 UTC", "in 12 days", "the exemption legacy-billing ends", "Billing moves")
	asked := 0
	in.Changes = []page.Change{{Name: "x", Title: "x ends", Look: func() (whatif.Result, error) {
		asked++
		return whatif.Result{Denied: []whatif.Denied{{Cluster: "lon1", Image: "i", Pods: 3, Certain: true}, {Cluster: "lon1", Image: "j", Pods: 4, Doubt: "it depends on labels"}},
			Gaps: []whatif.Gap{{Cluster: "par1", Message: "it is silent"}}}, nil
	}}}
	s = page.New(in)
	if asked != 0 {
		t.Error("it was asked although nobody opened it")
	}
	for range 2 {
		has(t, words(written(t, s, page.Query{Change: "x"})), "3 Pods would be denied", "4 Pods perhaps", "Not everything is known", "it depends on labels", "it is silent")
	}
	if asked != 1 {
		t.Errorf("it was asked %d times", asked)
	}
	in.Changes[0].Look = func() (whatif.Result, error) { return whatif.Result{}, errors.New("no") }
	var b bytes.Buffer
	if err := page.New(in).Write(&b, page.Query{Change: "x"}); err == nil || b.Len() > 0 {
		t.Error("an answer that failed was shown")
	}
}

func TestWhatDoesNotExist(t *testing.T) {
	t.Parallel()
	s := page.New(sample.Fleet(3, 2))
	for _, q := range []page.Query{{Assignment: "x"}, {Cluster: "x"}, {Cluster: "x", Namespace: "shop"}, {Cluster: "lon1", Namespace: "x"}, {Image: "x"}, {Exemption: "x"}, {Change: "x"}} {
		var b bytes.Buffer
		if err := s.Write(&b, q); !errors.Is(err, page.ErrNotFound) || b.Len() > 0 {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

// TestNarrowedDown: the filter holds for every level.
func TestNarrowedDown(t *testing.T) {
	t.Parallel()
	in := sample.Fleet(12, 8)
	in.Changes = nil
	in.Filter.Cluster, in.Filter.Namespace = "lon1", "billing"
	got := words(file(t, page.New(in)))
	has(t, got, "Only cluster lon1, namespace billing.", "1 cluster registered", "registry.example/billing/invoices")
	hasNot(t, got, "shop/cart", "lon2", "par1")
}

// TestPercentages are never better than what is known.
func TestPercentages(t *testing.T) {
	t.Parallel()
	in := sample.Fleet(1, 0)
	in.Clusters[0].Status.Assignments[0].State, in.Clusters[0].Status.Assignments[1].State = v1alpha1.Unknown, v1alpha1.Compliant
	in.Clusters[0].Status.Assignments[0].Reason = compliance.ReasonBundlePending
	got := words(written(t, page.New(in), page.Query{}))
	has(t, got, "0 compliant", "1 unknown")
	hasNot(t, got, "% of those that are known")
}
