package hub

import (
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/test/weight"
)

func TestSinksAreChecked(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"", "http://a.example/s3cret", "https:///s3cret", "https://me:s3cret@a.example", "https://a.example:x/s3cret"} {
		_, err := New(Options{Config: &rest.Config{}, Notify: []Sink{{URL: u}}})
		if !errors.Is(err, boltseal.ErrConfiguration) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v", u, err)
		}
	}
	if _, err := New(Options{Config: &rest.Config{}, Notify: []Sink{{URL: "https://a.example/hook"}}}); err != nil {
		t.Error(err)
	}
}

func TestOldestNotificationGoesFirst(t *testing.T) {
	t.Parallel()
	n, err := newNotifier([]Sink{{URL: "https://a.example"}}, nil, newMetrics())
	if err != nil {
		t.Fatal(err)
	}
	for range maxQueue {
		n.add(CloudEvent{ID: "old"})
	}
	n.add(CloudEvent{ID: "new"})
	if q := n.sinks[0].queue; len(q) != maxQueue || q[len(q)-1].ID != "new" {
		t.Errorf("%d in the queue, the last is %q", len(q), q[len(q)-1].ID)
	}
}

func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	all := []v1alpha1.Deployment{{Cluster: "under way", Status: deploymentRunning}}
	for range 200 {
		all = append(all, v1alpha1.Deployment{Cluster: "x", Status: deploymentFailed})
	}
	if got := boundDeployments(all); len(got) != maxDeployments || got[0].Cluster != "under way" {
		t.Errorf("%d are told of, the first is %s", len(got), got[0].Cluster)
	}
}

func FuzzBelieved(f *testing.F) {
	f.Add("Installed", "v1", "a\nb", "Bad Reason", int64(-1), int32(math.MinInt32), 300)
	f.Add("\x1b[2J", "\xff", strings.Repeat("é", 900), "x", int64(math.MaxInt64), int32(5), 3)
	f.Fuzz(func(t *testing.T, state, version, message, reason string, attempt int64, pods int32, n int) {
		in := &v1alpha1.ClusterReport{}
		in.Name = "a"
		in.Report = v1alpha1.ClusterReportContent{Version: version, Pods: pods, AddOn: v1alpha1.AddOnReport{State: v1alpha1.AddOnState(state), Attempt: attempt, Message: message}}
		for range min(max(0, n), 500) {
			in.Report.Demands = append(in.Report.Demands, v1alpha1.DemandReport{Name: "d", Reason: reason, Message: message, Violations: pods,
				Components: make([]v1alpha1.Component, min(max(0, n), 500))})
		}
		weight.Bound{Floor: 64 << 10, Times: 4}.Check(t, len(reportBytes(t, in)), func() { _ = believedReport(in) })
		out := believedReport(in).Report
		for _, s := range []string{out.Version, out.AddOn.Message} {
			if !utf8.ValidString(s) || len(s) > maxSentence || strings.ContainsFunc(s, unicode.IsControl) {
				t.Errorf("%q", s)
			}
		}
		if out.Pods < 0 || out.AddOn.Attempt < 0 || out.AddOn.Attempt > maxAttempt || len(out.Demands) > maxReported {
			t.Errorf("%+v", out)
		}
		for _, d := range out.Demands {
			if d.Violations < 0 || len(d.Components) > maxComponents || strings.ContainsAny(d.Reason, " \n<") || len(d.Message) > maxSentence {
				t.Errorf("%+v", d)
			}
		}
		if in.Report.Pods != pods || len(in.Report.Demands) > 0 && in.Report.Demands[0].Message != message {
			t.Error("the cache's object was changed")
		}
	})
}

func reportBytes(t *testing.T, r *v1alpha1.ClusterReport) []byte {
	t.Helper()
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// FuzzReport: what a member sends costs no more than its size to read, from the bytes
// to what is believed of it.
func FuzzReport(f *testing.F) {
	head := `{"apiVersion":"` + v1alpha1.GroupVersion.String() + `","kind":"ClusterReport","metadata":{"name":"a"}`
	for _, s := range []string{head + `}`, head + `,"report":{"demands":[` + strings.Repeat("{},", 300) + `{}]}}`,
		head + `,"report":{"demands":[{"name":"d","components":[` + strings.Repeat("{},", 300) + `{}]}],"version":"\u001b[2J"}}`, `{}`, `[`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: 128 << 10, Times: 256}.Check(t, len(b), func() {
			in := &v1alpha1.ClusterReport{}
			if json.Unmarshal(b, in) == nil {
				_ = believedReport(in)
			}
		})
	})
}
