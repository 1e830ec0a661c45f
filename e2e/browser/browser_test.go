// Package browser tests the compliance page in a real browser.
package browser

import (
	"bytes"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/e2e/chromium"
	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/governance/page/sample"
	"github.com/boltseal/boltseal/internal/governance/pageserver"
)

// checker is the program that looks for what keeps people from reading a page. `make
// e2e-browser` installs it, as package-lock.json says.
const checker = "node_modules/axe-core/axe.min.js"

func levels() map[string]page.Query {
	return map[string]page.Query{"overview": {}, "assignment": {Assignment: "production-denies"}, "cluster": {Cluster: "lon1"}, "silent": {Cluster: "par1"}, "namespace": {Cluster: "lon1", Namespace: "shop"},
		"image": {Image: imageOf()}, "exemption": {Exemption: "legacy-billing"}, "what-if": {Change: "end-legacy-billing"}}
}

// imageOf is an image that the fleet reports.
func imageOf() string {
	for _, r := range sample.Fleet(3, 2).Reports {
		for _, d := range r.Report.Demands {
			for _, c := range d.Components {
				return c.Image
			}
		}
	}
	return ""
}

func start(t *testing.T) *chromium.Browser {
	t.Helper()
	b, err := chromium.Start(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

func served(t *testing.T, in page.Input) string {
	t.Helper()
	s := httptest.NewServer(pageserver.New(pageserver.Options{Source: func(context.Context) (page.Input, error) { return in, nil }}))
	t.Cleanup(s.Close)
	return s.URL + "/"
}

// finding is what the checker complains of.
type finding struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML           string `json:"html"`
		FailureSummary string `json:"failureSummary"`
	} `json:"nodes"`
}

// readable fails where the page cannot be read by everybody, or is wider than the view.
func readable(t *testing.T, tab *chromium.Tab, axe string) {
	t.Helper()
	if err := tab.Evaluate(t.Context(), axe+";0", nil); err != nil {
		t.Fatal(err)
	}
	var found []finding
	if err := tab.Evaluate(t.Context(), `axe.run(document, {resultTypes: ["violations"]}).then(r => r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.slice(0, 3).map(n => ({html: n.html, failureSummary: n.failureSummary}))})))`, &found); err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		for _, n := range f.Nodes {
			t.Errorf("%s: %s\n%s\n%s", f.ID, f.Help, n.HTML, n.FailureSummary)
		}
	}
	var wide struct{ Content, View float64 }
	if err := tab.Evaluate(t.Context(), `({Content: document.documentElement.scrollWidth, View: innerWidth})`, &wide); err != nil {
		t.Fatal(err)
	}
	if wide.Content > wide.View {
		t.Errorf("it is %v wide in a view of %v", wide.Content, wide.View)
	}
	var styled string
	if err := tab.Evaluate(t.Context(), `getComputedStyle(document.querySelector(".top p")).display`, &styled); err != nil || styled != "flex" {
		t.Errorf("the style does not apply: %q, %v", styled, err)
	}
}

func program(t *testing.T) string {
	t.Helper()
	axe, err := os.ReadFile(checker)
	if err != nil {
		t.Fatalf("run 'make e2e-browser' first: %v", err)
	}
	return string(axe)
}

// TestEveryLevelIsReadable: with the checker, on a telephone and a large screen, dark and light.
func TestEveryLevelIsReadable(t *testing.T) {
	axe, b := program(t), start(t)
	for what, in := range map[string]page.Input{"fleet": sample.Fleet(24, 6), "nothing": {Now: sample.Now()}} {
		url := served(t, in)
		for level, q := range levels() {
			if what == "nothing" && level != "overview" {
				continue
			}
			for _, v := range []chromium.View{{Width: 360, Height: 800}, {Width: 360, Height: 800, Dark: true}, {Width: 1600, Height: 1000}, {Width: 1600, Height: 1000, Dark: true}, {Width: 900, Height: 800}, {Width: 1130, Height: 800}} {
				t.Run(fmt.Sprintf("%s/%s/%d/dark=%v", what, level, v.Width, v.Dark), func(t *testing.T) {
					tab, err := b.Open(t.Context(), url+"?"+q.Encode(), v)
					if err != nil {
						t.Fatal(err)
					}
					readable(t, tab, axe)
				})
			}
		}
	}
}

// TestFileIsReadable: the one file, and texts that are as long as they may be.
func TestFileIsReadable(t *testing.T) {
	axe, b := program(t), start(t)
	in := sample.Fleet(6, 3)
	for i := range in.Reports {
		for j := range in.Reports[i].Report.Demands {
			d := &in.Reports[i].Report.Demands[j]
			for k := range d.Components {
				c := &d.Components[k]
				c.Image, c.Message, c.Signer, c.Namespace = "registry.example/"+strings.Repeat("a", 480), strings.Repeat("M", 1024), strings.Repeat("<b>", 170), strings.Repeat("n", 63)
			}
		}
	}
	var out bytes.Buffer
	if err := page.New(in).WriteFile(&out); err != nil {
		t.Fatal(err)
	}
	name := t.TempDir() + "/compliance.html"
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, width := range []int{360, 1600} {
		tab, err := b.Open(t.Context(), "file://"+name, chromium.View{Width: width, Height: 900})
		if err != nil {
			t.Fatal(err)
		}
		readable(t, tab, axe)
		pdf, err := tab.Print(t.Context())
		if err != nil || !bytes.HasPrefix(pdf, []byte("%PDF-")) {
			t.Errorf("it cannot be printed: %v", err)
		}
	}
}

// TestNothingRuns: what is in the page cannot run, even where it were let through: the policy
// holds in a browser.
func TestNothingRuns(t *testing.T) {
	b := start(t)
	url := served(t, sample.Fleet(3, 2))
	tab, err := b.Open(t.Context(), url, chromium.View{Width: 800, Height: 600})
	if err != nil {
		t.Fatal(err)
	}
	var ran bool
	if err := tab.Evaluate(t.Context(), `(() => { const s = document.createElement("script"); s.textContent = "window.ran = true"; document.body.append(s);
		const d = document.createElement("div"); d.innerHTML = "<img src=x onerror='window.ran = true'>"; document.body.append(d);
		return new Promise(done => d.firstChild.addEventListener("error", () => setTimeout(() => done(window.ran === true), 0))) })()`, &ran); err != nil {
		t.Fatal(err)
	}
	if ran {
		t.Error("a script ran")
	}
}
