package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/internal/test/testca"
)

func need(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func apply(t testing.TB, docs ...string) {
	t.Helper()
	need(t, cluster.Apply(t.Context(), docs...))
}

// eventually waits until f returns nil.
func eventually(t testing.TB, what string, f func() error) time.Duration {
	t.Helper()
	return await.Until(t, what, f, logEnd)
}

func logText() string {
	b, _ := os.ReadFile(cluster.LogFile(fmt.Sprint("boltseal-", starts)))
	return string(b)
}

func logEnd() string {
	text := logText()
	return text[max(0, len(text)-3000):]
}

func want(ok bool, format string, a ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, a...)
}

// image pushes an image, signs it, and returns it by tag and by digest.
func image(tag string, by ...*testca.Chain) (byTag, byDigest string) {
	desc := registry.PushImage(repo, tag, 0)
	for _, c := range by {
		registry.Sign(repo, desc, c, testca.SignOptions{})
	}
	return registry.Ref(repo, tag), registry.Pinned(repo, desc.Digest)
}

func namespace(t testing.TB, labels map[string]string) string {
	t.Helper()
	ns, err := cluster.Namespace(t.Context(), "audit", labels)
	need(t, err)
	return ns
}

// run makes a Pod that runs: spec is what it names, id what the node says.
func run(t testing.TB, ns, name, spec, id string) {
	t.Helper()
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: spec}}}}
	need(t, cluster.Client().Create(t.Context(), p))
	need(t, cluster.SetRunning(t.Context(), ns, name, map[string]string{"app": id}))
}

func stop(t testing.TB, ns string, names ...string) {
	t.Helper()
	for _, name := range names {
		need(t, cluster.Client().Delete(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}))
	}
}

func policyObject(ns, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	kind := v1alpha1.KindImageIntegrityPolicy
	if ns != "" {
		kind = v1alpha1.KindNamespacedImageIntegrityPolicy
	}
	u.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	u.SetNamespace(ns)
	u.SetName(name)
	return u
}

// auditOf is what a policy's status says of what runs.
func auditOf(ctx context.Context, ns, name string) (*v1alpha1.Audit, error) {
	u := policyObject(ns, name)
	if err := cluster.Client().Get(ctx, client.ObjectKeyFromObject(u), u); err != nil {
		return nil, err
	}
	fields, ok, err := unstructured.NestedMap(u.Object, "status", "audit")
	if err != nil || !ok {
		return nil, errors.Join(errors.New("no audit in the status"), err)
	}
	var a v1alpha1.Audit
	return &a, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(fields, &a, true)
}

// stands waits until a policy's status has these totals.
func stands(t testing.TB, ns, name string, pods, violations, unknown int32) (a *v1alpha1.Audit, after time.Duration) {
	t.Helper()
	after = eventually(t, fmt.Sprintf("policy %s: %d Pods, %d violations, %d unknown", name, pods, violations, unknown), func() (err error) {
		if a, err = auditOf(t.Context(), ns, name); err != nil {
			return err
		}
		return want(a.Pods == pods && a.Violations == violations && a.Unknown == unknown && a.Pending == 0, "%+v", a)
	})
	return a, after
}

// report reads the report of a namespace, strictly; nil where there is none.
func report(ctx context.Context, ns string) (*openreports.Report, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(openreports.SchemeGroupVersion.WithKind("Report"))
	err := cluster.Client().Get(ctx, client.ObjectKey{Namespace: ns, Name: "boltseal"}, u)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var r openreports.Report
	return &r, runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(u.Object, &r, true)
}

// reports waits until the report of a namespace has these totals.
func reports(t testing.TB, ns string, summary openreports.ReportSummary) (r *openreports.Report) {
	t.Helper()
	eventually(t, fmt.Sprintf("report %+v", summary), func() (err error) {
		if r, err = report(t.Context(), ns); err != nil || r == nil {
			return errors.Join(errors.New("no report"), err)
		}
		return want(r.Summary == summary, "%+v", r.Summary)
	})
	return r
}

// metric reads the sum of a metric's series whose text has the part.
func metric(ctx context.Context, name, part string) (sum float64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.Metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		end := strings.LastIndexByte(line, ' ') // a label may have a space
		if end < 0 {
			continue
		}
		series, value := line[:end], line[end+1:]
		if (series == name || strings.HasPrefix(series, name+"{")) && strings.Contains(series, part) {
			var v float64
			if _, err := fmt.Sscan(value, &v); err != nil {
				return 0, err
			}
			sum += v
		}
	}
	return sum, nil
}

// passed waits until everything was looked at once more.
func passed(t testing.TB) {
	t.Helper()
	const last = "boltseal_audit_last_pass_timestamp_seconds"
	before, err := metric(t.Context(), last, "")
	need(t, err)
	eventually(t, "another pass", func() error {
		now, err := metric(t.Context(), last, "")
		return errors.Join(err, want(now > before, "the last pass was at %f", now))
	})
}

func kubectl(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), cluster.Kubectl(), append([]string{"--kubeconfig", cluster.Kubeconfig(), "--cache-dir", filepath.Join(t.TempDir(), "cache")}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// cli runs `boltseal audit` and returns its exit code.
func cli(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs strings.Builder
	cmd := exec.CommandContext(t.Context(), binary, append([]string{"audit", "--kubeconfig", cluster.Kubeconfig()}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// printed is what `boltseal audit -o json` prints.
type printed struct {
	Pods, Images struct{ Trusted, NotTrusted, Unknown, Pending int }
	IgnoredPods  int
	Findings     []struct {
		Namespace, Policy, Image, Outcome string
		Pods                              int
		Reason                            struct{ Cause, Message string }
	}
}

func decodePrinted(t testing.TB, text string) (p printed) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return p
}
