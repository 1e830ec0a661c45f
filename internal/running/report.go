package running

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// DefaultReportBytes bounds the results in all reports together, as JSON.
const DefaultReportBytes = 200 << 10

// What reports are named and marked by.
const (
	ReportName     = "boltseal"
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "boltseal"
	reportSource   = "boltseal"
	reportRule     = "trusted-image"
	reportCategory = "Image Integrity"
)

// Properties of a result.
const (
	propertyImage  = "image"
	propertyImages = "images"
	propertyPods   = "pods"
	propertyCause  = "cause"
	propertyExempt = "exemption"
	propertySigner = "signer"
	// propertyID is where Policy Reporter looks for a result's own id; without it,
	// it makes one that leaves the image out, and keeps one of several results.
	propertyID = "resultID"
)

// A namespace's report has a result for each image that is not trusted in each
// workload; where that would come to more than all reports may have together, for
// the first ones only, and one for all others of the same policy and outcome. Each number is tried in
// turn, so that reports are cut the same way until much has changed.
var mostResults = []int{5000, 2000, 1000, 500, 200, 100, 50, 20, 10, 5, 2, 1, 0}

// resultKey tells one result of a namespace's report from another.
type resultKey struct {
	id     string
	result openreports.Result
}

func keyOfResult(r *openreports.ReportResult) resultKey {
	return resultKey{r.Properties[propertyID], r.Result}
}

// resultID is a result's id: the same for as long as its policy, image and workload
// are the same (parts, in the caller's order), whatever comes out. It is the first
// 16 bytes of a SHA-256, in hexadecimal.
func resultID(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// namespaceReport is what there is to report of one namespace.
type namespaceReport struct {
	single  []openreports.ReportResult // one for each image that is not trusted, in each workload, the worst first
	sizes   []int                      // of single, as JSON
	sums    []*sum                     // by policy and outcome, in order
	summary openreports.ReportSummary
	pending bool // something is still to be looked at
}

// sum is all images with one outcome under one policy, each counted once for each
// workload that runs it.
type sum struct {
	policy       string
	action       v1alpha1.EnforcementAction
	outcome      Outcome
	images, pods int
	at           []int // places in single
}

// sumBytes is about the size of a sum's result as JSON.
const sumBytes = 390

// reportsOf groups a result by namespace.
func reportsOf(r *Result) map[string]*namespaceReport {
	out := map[string]*namespaceReport{}
	for _, f := range r.Findings {
		n := out[f.Namespace]
		if n == nil {
			n = &namespaceReport{}
			out[f.Namespace] = n
		}
		n.add(f)
	}
	return out
}

// add takes in the next finding. Findings come by policy, and of each the worst
// first.
func (n *namespaceReport) add(f *Finding) {
	if f.Outcome == Pending {
		n.pending = true
		return
	}
	s := &sum{policy: f.Policy, action: f.Action, outcome: f.Outcome}
	if len(n.sums) > 0 {
		if last := n.sums[len(n.sums)-1]; last.policy == s.policy && last.outcome == s.outcome {
			s = last
		}
	}
	if s.images == 0 {
		n.sums = append(n.sums, s)
	}
	s.images += len(f.Workloads)
	s.pods += f.Pods
	result := resultOf(f.Outcome, f.Action)
	n.count(result, len(f.Workloads))
	if f.Outcome == Trusted {
		return
	}
	for i := range f.Workloads {
		one := singleResult(f, &f.Workloads[i], result)
		s.at = append(s.at, len(n.single))
		n.single, n.sizes = append(n.single, one), append(n.sizes, sizeOf(one))
	}
}

// count adds to the report's totals.
func (n *namespaceReport) count(result openreports.Result, by int) {
	switch result {
	case "pass":
		n.summary.Pass += by
	case "fail":
		n.summary.Fail += by
	case "warn":
		n.summary.Warn += by
	case "skip":
		n.summary.Skip += by
	default:
		n.summary.Error += by
	}
}

// singleResult is what one image comes to in one workload.
func singleResult(f *Finding, w *Workload, result openreports.Result) openreports.ReportResult {
	one := openreports.ReportResult{Policy: f.Policy, Rule: reportRule, Category: reportCategory, Severity: severityOf(f.Outcome, f.Action), Result: result,
		Scored: f.Action == v1alpha1.Deny, Description: findingSentence(f), Subjects: subjectOf(f.Namespace, w),
		Properties: map[string]string{propertyImage: f.Image, propertyPods: strconv.Itoa(w.Pods), propertyCause: string(f.Reason.Cause),
			propertyID: resultID(f.Namespace, f.Policy, f.Image, f.Exemption, w.APIVersion, w.Kind, w.Name)}}
	if f.Outcome == Exempt {
		one.Properties[propertyExempt] = f.Exemption
	}
	if f.Signer != "" {
		one.Properties[propertySigner] = f.Signer
	}
	return one
}

func sizeOf(v any) int {
	b, err := json.Marshal(v)
	if err != nil {
		return 0 // only what cannot be in a report cannot be encoded
	}
	return len(b) + timestampBytes
}

// timestampBytes is what a time adds to a result that has none yet.
const timestampBytes = 20

// resultOf is an outcome in the words of reports: what a policy would not deny is a
// warning, what could not be judged an error, and what is exempt is skipped.
func resultOf(o Outcome, action v1alpha1.EnforcementAction) openreports.Result {
	switch {
	case o == Trusted:
		return "pass"
	case o == Exempt:
		return "skip"
	case o == Unknown:
		return "error"
	case action == v1alpha1.Deny:
		return "fail"
	}
	return "warn"
}

func severityOf(o Outcome, action v1alpha1.EnforcementAction) openreports.ResultSeverity {
	switch {
	case o != NotTrusted:
		return "info"
	case action == v1alpha1.Deny:
		return "high"
	}
	return "medium"
}

// findingSentence is why an image is not trusted, and what to do about it.
func findingSentence(f *Finding) string {
	s := truncateText(f.Reason.Message, maxMessage)
	if f.Outcome == Exempt {
		return fmt.Sprintf("exempt %s by %q. Found: %s", integrity.Until(f.Until), f.Exemption, s)
	}
	if f.Reason.Remedy != "" {
		s += ". What to do: " + truncateText(f.Reason.Remedy, maxMessage/2)
	}
	return s
}

// subjectOf is a workload as a report names it.
func subjectOf(namespace string, w *Workload) []corev1.ObjectReference {
	return []corev1.ObjectReference{{APIVersion: w.APIVersion, Kind: w.Kind, Namespace: namespace, Name: w.Name}}
}

// bytes is about the size of the results with at most most single ones.
func (n *namespaceReport) bytes(most int) int {
	total := 0
	for i := range n.single[:min(most, len(n.single))] {
		total += n.sizes[i]
	}
	for _, s := range n.sums {
		if s.outcome == Trusted || s.rest(most) > 0 {
			total += sumBytes
		}
	}
	return total
}

// rest is how many of the sum have no result of their own.
func (s *sum) rest(most int) int {
	rest := s.images
	for _, i := range s.at {
		if i < most {
			rest--
		}
	}
	return rest
}

// results are those of a namespace's report, with at most most single ones.
func (n *namespaceReport) results(namespace string, most int) []openreports.ReportResult {
	out := append([]openreports.ReportResult(nil), n.single[:min(most, len(n.single))]...)
	for _, s := range n.sums {
		rest := s.rest(most)
		if rest == 0 {
			continue
		}
		r := openreports.ReportResult{Policy: s.policy, Rule: reportRule, Category: reportCategory, Severity: severityOf(s.outcome, s.action),
			Result: resultOf(s.outcome, s.action), Scored: s.action == v1alpha1.Deny, Properties: map[string]string{propertyImages: strconv.Itoa(rest), propertyID: resultID(namespace, s.policy, s.outcome.String())}}
		switch {
		case s.outcome == Trusted:
			r.Properties[propertyPods] = strconv.Itoa(s.pods)
			r.Description = fmt.Sprintf("%d images are trusted", s.images)
		case s.outcome == Exempt:
			r.Description = fmt.Sprintf("%d more images are exempt; 'boltseal audit' lists them", rest)
		case s.outcome == Unknown:
			r.Description = fmt.Sprintf("%d more images could not be checked; 'boltseal audit' lists them", rest)
		default:
			r.Description = fmt.Sprintf("%d more images are not trusted; 'boltseal audit' lists them", rest)
		}
		out = append(out, r)
	}
	return out
}

// fitBudget returns how many single results each report may have so that all come to at
// most budget bytes.
func fitBudget(reports map[string]*namespaceReport, budget int) int {
	for _, most := range mostResults {
		total := 0
		for _, n := range reports {
			if total += n.bytes(most); total > budget {
				break
			}
		}
		if total <= budget {
			return most
		}
	}
	return 0
}

// report makes a namespace's report. before is when each result was there first;
// the others are from now.
func (n *namespaceReport) report(namespace string, most int, before map[resultKey]metav1.Timestamp, now time.Time) *openreports.Report {
	r := &openreports.Report{Source: reportSource, Summary: n.summary, Results: n.results(namespace, most),
		Scope: &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Name: namespace}}
	r.Name, r.Namespace, r.Labels = ReportName, namespace, map[string]string{ManagedByLabel: ManagedBy}
	r.APIVersion, r.Kind = openreports.GroupVersion.String(), "Report"
	for i := range r.Results {
		at, ok := before[keyOfResult(&r.Results[i])]
		if !ok {
			at = metav1.Timestamp{Seconds: now.Unix()}
		}
		r.Results[i].Timestamp = at
	}
	return r
}
