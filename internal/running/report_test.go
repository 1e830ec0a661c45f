package running

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/test/testca"
)

var signOptions = testca.SignOptions{}

// manyFindings are those of a cluster in which nothing is signed.
func manyFindings(namespaces, images int) *Result {
	r := &Result{At: time.Unix(1_800_000_000, 0)}
	for ns := range namespaces {
		for i := range images {
			namespace := fmt.Sprintf("namespace-%03d", ns)
			f := &Finding{Namespace: namespace, Policy: "production", Action: v1alpha1.Deny, Outcome: NotTrusted, Pods: 5,
				Image:  fmt.Sprintf("registry.example/team%03d/app%04d@sha256:%s", ns, i, hexA),
				Reason: boltseal.Reason{Cause: boltseal.CauseNothingSigned, Message: "nothing signed: no signature refers to this image", Remedy: "sign the image and push the signature to the same repository"}}
			f.Workloads = []Workload{{APIVersion: "apps/v1", Kind: "Deployment", Name: fmt.Sprintf("app%04d", i), Pods: 5}}
			for p := range 3 {
				f.First = append(f.First, Pod{Namespace: namespace, Name: fmt.Sprintf("app%04d-7d9c6b5f4-%05d", i, p)})
			}
			r.Findings = append(r.Findings, f)
		}
	}
	return r
}

func sizeOfReports(t *testing.T, all map[string]*namespaceReport, most int, now time.Time) (bytes, results int) {
	t.Helper()
	for ns, n := range all {
		r := n.report(ns, most, nil, now)
		b, err := json.Marshal(r.Results)
		if err != nil {
			t.Fatal(err)
		}
		bytes += len(b)
		results += len(r.Results)
	}
	return bytes, results
}

// TestReportsFit: however much is wrong, the reports stay small, count everything,
// and name the first of each namespace.
func TestReportsFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ namespaces, images int }{{1, 10}, {100, 20}, {1, 2000}, {500, 40}} {
		r := manyFindings(c.namespaces, c.images)
		all := reportsOf(r)
		most := fitBudget(all, DefaultReportBytes)
		bytes, results := sizeOfReports(t, all, most, r.At)
		t.Logf("%d namespaces with %d images each: %d results, %d bytes", c.namespaces, c.images, results, bytes)
		if bytes > DefaultReportBytes {
			t.Errorf("%d namespaces with %d images each: %d bytes", c.namespaces, c.images, bytes)
		}
		if whole := c.namespaces*c.images < 300; whole && results != c.namespaces*c.images {
			t.Errorf("%d results of %d", results, c.namespaces*c.images)
		}
		for ns, n := range all {
			rep, told := n.report(ns, most, nil, r.At), 0
			for _, one := range rep.Results {
				k := 1
				if text := one.Properties[propertyImages]; text != "" {
					if _, err := fmt.Sscan(text, &k); err != nil {
						t.Fatal(err)
					}
				}
				told += k
			}
			if rep.Summary.Fail != c.images || told != c.images {
				t.Fatalf("%s: summary %+v, and the results tell of %d images", ns, rep.Summary, told)
			}
		}
	}
}

func TestReportOfANamespace(t *testing.T) {
	t.Parallel()
	x := []Workload{{APIVersion: "v1", Kind: "Pod", Name: "x", Pods: 2}}
	reason := boltseal.Reason{Cause: boltseal.CauseUnavailable, Message: "no answer", Remedy: "wait"}
	r := &Result{At: time.Unix(1_800_000_000, 0), Findings: []*Finding{
		{Namespace: "shop", Policy: "p", Action: v1alpha1.Deny, Image: "a", Outcome: NotTrusted, Pods: 2, Workloads: x, Reason: boltseal.Reason{Cause: boltseal.CauseNothingSigned, Message: "nothing signed"}},
		{Namespace: "shop", Policy: "p", Action: v1alpha1.Deny, Image: "b", Outcome: Unknown, Pods: 1, Workloads: x, Reason: reason},
		{Namespace: "shop", Policy: "p", Action: v1alpha1.Deny, Image: "c", Outcome: Trusted, Pods: 3, Workloads: x},
		{Namespace: "shop", Policy: "p", Action: v1alpha1.Deny, Image: "d", Outcome: Trusted, Pods: 4, Workloads: x},
		{Namespace: "shop", Policy: "w", Action: v1alpha1.DryRun, Image: "a", Outcome: NotTrusted, Pods: 2, Workloads: x},
		{Namespace: "slow", Policy: "p", Action: v1alpha1.Deny, Image: "a", Outcome: Pending, Pods: 2},
	}}
	all := reportsOf(r)
	if !all["slow"].pending || all["shop"].pending {
		t.Error("what is pending is not known")
	}
	first := all["shop"].report("shop", fitBudget(all, DefaultReportBytes), nil, r.At)
	if first.Summary != (openreports.ReportSummary{Pass: 2, Fail: 1, Warn: 1, Error: 1}) || first.Labels[ManagedByLabel] != ManagedBy {
		t.Errorf("%+v", first)
	}
	var got []string
	for _, one := range first.Results {
		got = append(got, fmt.Sprintf("%s %s %s %v", one.Policy, one.Result, one.Severity, one.Scored))
	}
	if want := []string{"p fail high true", "p error info true", "w warn medium false", "p pass info true"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	if s := first.Results[0].Subjects; len(s) != 1 || s[0].Name != "x" || s[0].Kind != "Pod" {
		t.Errorf("%+v", s)
	}
	// Later nothing has changed, and nothing reads otherwise.
	before := writtenOf(first)
	later := all["shop"].report("shop", 5000, before.since, r.At.Add(time.Hour))
	if writtenOf(later).text != before.text {
		t.Error("the report changes with time")
	}
	if at := later.Results[0].Timestamp; at != (metav1.Timestamp{Seconds: 1_800_000_000}) {
		t.Errorf("%+v", at)
	}
}

// TestExemptIsNamed: what is exempt is named in the status without any report, the
// first ones, and the others are counted.
func TestExemptIsNamed(t *testing.T) {
	t.Parallel()
	r := manyFindings(3, 9)
	for _, f := range r.Findings {
		f.Outcome = Exempt
	}
	r.Findings = append(r.Findings, manyFindings(1, 12).Findings...)
	first := findFirst(r)["production"]
	if len(first.exempt) != maxViolations || first.exemptOtherwise != 27-maxViolations || len(first.violations) != maxViolations || first.exempt[0].Pods != 5 {
		t.Errorf("%d exempt, %d others, %d violations", len(first.exempt), first.exemptOtherwise, len(first.violations))
	}
}
