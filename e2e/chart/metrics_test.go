package chart

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/render"
)

// scraped are labels that Prometheus adds.
var scraped = []string{"job", "instance", "namespace", "pod"}

// series are the metrics that the program has, by name, with their labels.
func series(t *testing.T) map[string]map[string]bool {
	t.Helper()
	s, err := server()
	if err != nil {
		t.Fatal(err)
	}
	// Some appear when there is something to count.
	c := &http.Client{Timeout: await.Limit, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for _, path := range []string{"/admission/validate", "/ratify/gatekeeper/v1/verify"} {
		resp, err := c.Post(s.main()+path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	eventually(t, "the audit and the hub have written something, and a provider has read something", func() error {
		text, err := get(t.Context(), s.metrics()+"/metrics")
		for _, late := range []string{"boltseal_audit_writes_total{", "boltseal_key_provider_age_seconds{", "boltseal_hub_assignment_compliance_percent{", "boltseal_hub_assignment_clusters{", "boltseal_agent_writes_total{", "boltseal_agent_demands{", "boltseal_hub_writes_total{"} {
			if err == nil && !strings.Contains(text, late) {
				err = fmt.Errorf("there is no %s", late)
			}
		}
		return err
	})
	text, err := get(t.Context(), s.metrics()+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]bool{}
	for name, f := range families {
		names := []string{name}
		if f.GetType() == dto.MetricType_HISTOGRAM {
			names = []string{name + "_bucket", name + "_sum", name + "_count"}
		}
		for _, n := range names {
			out[n] = map[string]bool{"le": strings.HasSuffix(n, "_bucket")}
			for _, l := range scraped {
				out[n][l] = true
			}
			for _, m := range f.GetMetric() {
				for _, l := range m.GetLabel() {
					out[n][l.GetName()] = true
				}
			}
		}
	}
	// This server is its own hub; a member of another one has these, too.
	out["boltseal_agent_hub_credential_expiry_timestamp_seconds"] = map[string]bool{"job": true, "instance": true, "namespace": true, "pod": true}
	return out
}

// variables of Grafana, and what they may stand for.
var variables = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*")

// check holds an expression against the metrics that there are.
func check(t *testing.T, where, text string, have map[string]map[string]bool) {
	t.Helper()
	expr, err := parser.ParseExpr(variables.Replace(text))
	if err != nil {
		t.Errorf("%s: %v", where, err)
		return
	}
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			known := have[n.Name]
			if known == nil {
				t.Errorf("%s: there is no metric %s", where, n.Name)
				return nil
			}
			for _, m := range n.LabelMatchers {
				if m.Name != labels.MetricName && !known[m.Name] {
					t.Errorf("%s: %s has no label %s", where, n.Name, m.Name)
				}
			}
		case *parser.AggregateExpr:
			for _, l := range n.Grouping {
				if !anyHas(n.Expr, l, have) {
					t.Errorf("%s: nothing here has a label %s", where, l)
				}
			}
		}
		return nil
	})
}

// anyHas reports whether some metric of an expression has a label.
func anyHas(e parser.Node, label string, have map[string]map[string]bool) (found bool) {
	parser.Inspect(e, func(node parser.Node, _ []parser.Node) error {
		if v, ok := node.(*parser.VectorSelector); ok && have[v.Name][label] {
			found = true
		}
		return nil
	})
	return found
}

// TestAlerts holds the alert rules against the metrics that the program has.
func TestAlerts(t *testing.T) {
	have := series(t)
	raw, err := os.ReadFile(filepath.Join(folder, "dashboards", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Rules []struct {
			Alert, Expr         string
			For                 string
			Labels, Annotations map[string]string
		}
	}
	if err := yaml.UnmarshalStrict(raw, &file); err != nil {
		t.Fatal(err)
	}
	pages, err := os.ReadFile(filepath.Join(folder, "..", "..", "docs", "troubleshooting.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range regexp.MustCompile("boltseal_[a-z_]+").FindAllString(string(pages), -1) {
		if have[name] == nil && !strings.HasSuffix(name, "_") {
			t.Errorf("docs/troubleshooting.md speaks of %s, which there is not", name)
		}
	}
	var names []string
	for _, r := range file.Rules {
		names = append(names, r.Alert)
		check(t, r.Alert, r.Expr, have)
		if r.For != "" {
			if _, err := model.ParseDuration(r.For); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
		}
		if s := r.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s has the severity %q", r.Alert, s)
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s says nothing", r.Alert)
		}
		runbook := "https://github.com/boltseal/boltseal/blob/main/docs/troubleshooting.md#" + strings.ToLower(r.Alert)
		if r.Annotations["runbook_url"] != runbook || !strings.Contains(string(pages), "\n### "+r.Alert+"\n") {
			t.Errorf("%s has no runbook at %s", r.Alert, runbook)
		}
		// A label in the words must be one that the expression leaves.
		for _, m := range regexp.MustCompile(`\$labels\.([a-z_]+)`).FindAllStringSubmatch(fmt.Sprint(r.Annotations), -1) {
			if expr, err := parser.ParseExpr(r.Expr); err != nil || !anyHas(expr, m[1], have) {
				t.Errorf("%s: no label %s: %v", r.Alert, m[1], err)
			}
		}
	}
	slices.Sort(names)
	if len(names) < 10 || len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("alerts %v", names)
	}
}

// TestDashboard holds the dashboard against the metrics that the program has, and every metric of the program's own
// against dashboard and alerts: one that nobody looks at is not needed.
func TestDashboard(t *testing.T) {
	have := series(t)
	raw, err := os.ReadFile(filepath.Join(folder, "dashboards", "boltseal.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID                 int
			Title, Type        string
			Description        string
			Targets            []struct{ Expr string }
			GridPos            struct{ X, Y, W, H int }
			Datasource, Legend any
		}
	}
	if err := json.Unmarshal(raw, &board); err != nil {
		t.Fatal(err)
	}
	taken, ids, used := map[[2]int]string{}, map[int]bool{}, string(raw)
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at[0] >= 24 {
					t.Errorf("%q lies over %q", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q shows nothing", p.Title)
		}
		for _, target := range p.Targets {
			check(t, p.Title, target.Expr, have)
		}
	}
	alerts, err := os.ReadFile(filepath.Join(folder, "dashboards", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	used += string(alerts)
	for name := range have {
		if strings.HasPrefix(name, "boltseal_") && !strings.Contains(used, strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")) {
			t.Errorf("nobody looks at %s", name)
		}
	}
}

// TestMonitoringObjects finds the dashboard and the rules in what the chart makes.
func TestMonitoringObjects(t *testing.T) {
	t.Parallel()
	all := objects(t, rendered(t, sets[len(sets)-1].options()))
	board := find(all, "ConfigMap", "boltseal-dashboard")
	raw, err := os.ReadFile(filepath.Join(folder, "dashboards", "boltseal.json"))
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := board.Object["data"].(map[string]any); strings.TrimSpace(fmt.Sprint(data["boltseal.json"])) != strings.TrimSpace(string(raw)) {
		t.Error("the dashboard in the ConfigMap is another")
	}
	rules := fmt.Sprint(find(all, "PrometheusRule", "boltseal").Object)
	if !strings.Contains(rules, "BoltsealDown") || strings.Contains(rules, "BoltsealAuditStale") || !strings.Contains(rules, "{{ $labels.endpoint }}") {
		t.Errorf("rules %s", rules)
	}
	if objects(t, rendered(t, render.Options{})) == nil || find(objects(t, rendered(t, render.Options{})), "ConfigMap", "boltseal-dashboard") != nil {
		t.Error("the dashboard is made without being asked for")
	}
}
