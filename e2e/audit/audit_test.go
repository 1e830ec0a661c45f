package audit

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// remove deletes a policy when the test has ended, and waits until the audit has heard of it.
func removePolicies(t *testing.T, names ...string) {
	t.Cleanup(func() {
		for _, name := range names {
			ns, own, found := strings.Cut(name, "/")
			if !found {
				ns, own = "", name
			}
			if err := client.IgnoreNotFound(cluster.Client().Delete(context.Background(), policyObject(ns, own))); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestAClusterThatWasNotEmpty is the story of a cluster in which things run when Boltseal arrives. Its steps build on
// each other.
func TestAClusterThatWasNotEmpty(t *testing.T) {
	ns, other := namespace(t, map[string]string{"stage": "prod"}), namespace(t, map[string]string{"stage": "prod"})
	tag, signed := image("v1", signer)
	_, unsigned := image("v1") // the tag was moved: only the digest tells the two apart
	_, strange := image("v2", stranger)
	run(t, ns, "good-1", tag, signed)
	run(t, ns, "good-2", signed, "docker-pullable://"+signed)
	run(t, ns, "bad-1", tag, unsigned)
	run(t, ns, "bad-2", tag, unsigned)
	run(t, ns, "local", tag, "sha256:"+strings.Repeat("a", 64))
	run(t, other, "strange", strange, strange)
	run(t, "kube-system", "system", tag, unsigned)
	removePolicies(t, "production", ns+"/own")
	const prod = "match: {namespaceSelector: {matchLabels: {stage: prod}}}"
	apply(t, config(signer), document("ImageIntegrityPolicy", "", "production", prod))
	need(t, start(t.Context()))

	t.Run("totals and the first violations stand in the status, without any reports", func(t *testing.T) {
		a, _ := stands(t, "", "production", 6, 4, 0)
		if a.Images != 4 || a.ViolatingImages != 3 || len(a.First) != 3 || a.ChangedAt.IsZero() {
			t.Errorf("%+v", a)
		}
		causes := map[string]string{}
		for _, v := range a.First {
			causes[v.Image] = fmt.Sprint(v.Namespace, " ", v.Pods, " ", v.Reason)
			if v.Message == "" || v.Pod == "" {
				t.Errorf("%+v", v)
			}
		}
		for image, text := range map[string]string{unsigned: ns + " 2 nothing-signed", tag: ns + " 1 local-image", strange: other + " 1 untrusted-signer"} {
			if causes[image] != text {
				t.Errorf("%s: %q, want %q", image, causes[image], text)
			}
		}
		if !strings.Contains(logText(), "does not know openreports.io/v1alpha1") {
			t.Error("the log does not say that there are no reports")
		}
		var out string
		eventually(t, "kubectl get shows violations", func() error {
			out = kubectl(t, "get", "iip", "production")
			return want(strings.Contains(out, "VIOLATIONS") && strings.Contains(strings.Join(strings.Fields(out), " "), "production deny True 6 4"), "%s", out)
		})
	})

	t.Run("an event tells of each new violation", func(t *testing.T) {
		eventually(t, "events", func() error {
			var events corev1.EventList
			if err := cluster.Client().List(t.Context(), &events, client.InNamespace(ns), client.MatchingFields{"reason": "UntrustedImage"}); err != nil {
				return err
			}
			at := map[string]bool{}
			for _, e := range events.Items {
				if e.Type != corev1.EventTypeWarning || e.InvolvedObject.UID == "" || !strings.Contains(e.Message, `policy "production"`) {
					t.Errorf("%+v", e)
				}
				at[e.InvolvedObject.Name] = true
			}
			return want(len(events.Items) == 2 && at["bad-1"] && at["local"], "%d events at %v", len(events.Items), at)
		})
	})

	crds, err := reportCRDs(t.Context())
	need(t, err)
	t.Run("reports appear once the cluster knows them", func(t *testing.T) {
		apply(t, crds)
		r := reports(t, ns, openreports.ReportSummary{Pass: 2, Fail: 2})
		if r.Source != "boltseal" || r.Labels["app.kubernetes.io/managed-by"] != "boltseal" || len(r.Results) != 3 || r.Scope.Name != ns {
			t.Errorf("%+v", r)
		}
		for _, one := range r.Results {
			if one.Policy != "production" || one.Timestamp.Seconds == 0 || one.Description == "" {
				t.Errorf("%+v", one)
			}
			if one.Properties["image"] == unsigned && (one.Result != "fail" || one.Properties["pods"] != "2" || len(one.Subjects) != 1 || one.Subjects[0].Name != "bad-1" || one.Properties["resultID"] == "") {
				t.Errorf("%+v", one)
			}
		}
		reports(t, other, openreports.ReportSummary{Fail: 1})
		if r, err := report(t.Context(), "kube-system"); r != nil || err != nil {
			t.Errorf("a report of kube-system: %v %v", r, err)
		}
		if out := strings.Join(strings.Fields(kubectl(t, "get", "reports", "-n", ns)), " "); !strings.Contains(out, "boltseal 2 2 0 0 0") {
			t.Errorf("kubectl get reports: %s", out)
		}
	})

	t.Run("what does not change is not written, and what is known is not asked", func(t *testing.T) {
		passed(t)
		writes, err := metric(t.Context(), "boltseal_audit_writes_total", "")
		need(t, err)
		requests := registry.Count(testregistry.Any)
		passed(t)
		passed(t)
		if now, err := metric(t.Context(), "boltseal_audit_writes_total", ""); err != nil || now != writes {
			t.Errorf("%f writes, %v", now-writes, err)
		}
		if n := registry.Count(testregistry.Any) - requests; n != 0 {
			t.Errorf("%d requests to the registry", n)
		}
	})

	t.Run("a key is removed, and comes back", func(t *testing.T) {
		apply(t, roots(stranger))
		a, after := stands(t, "", "production", 6, 5, 0)
		t.Logf("from kubectl apply to the totals: %s", after)
		for _, v := range a.First {
			if v.Image == strange {
				t.Errorf("%+v", v)
			}
		}
		reports(t, ns, openreports.ReportSummary{Fail: 4})
		reports(t, other, openreports.ReportSummary{Pass: 1})
		apply(t, roots(signer))
		stands(t, "", "production", 6, 4, 0)
		reports(t, ns, openreports.ReportSummary{Pass: 2, Fail: 2})
	})

	t.Run("an outage is neither a violation nor a pass", func(t *testing.T) {
		registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: http.StatusServiceUnavailable})
		defer registry.ClearFaults()
		apply(t, roots(signer, stranger)) // nothing is known under these keys
		stands(t, "", "production", 6, 1, 5)
		reports(t, ns, openreports.ReportSummary{Fail: 1, Error: 3}) // the local image needs no registry
		if code, out, errs := cli(t, "-n", ns); code != 2 || !strings.Contains(out, "unknown") {
			t.Errorf("exit code %d\n%s\n%s", code, out, errs)
		}
		registry.ClearFaults()
		_, after := stands(t, "", "production", 6, 3, 0)
		t.Logf("from the end of the outage to the totals: %s", after)
		apply(t, roots(signer))
		stands(t, "", "production", 6, 4, 0)
	})

	t.Run("a namespace's own policy", func(t *testing.T) {
		apply(t, document("ImageIntegrityPolicy", ns, "own", "{enforcementAction: warn, excludedImages: ["+tag+"]}"))
		a, _ := stands(t, ns, "own", 1, 0, 0)
		if a.Images != 1 {
			t.Errorf("%+v", a)
		}
		run(t, ns, "own-bad", unsigned, unsigned)
		stands(t, ns, "own", 2, 1, 0)
		r := reports(t, ns, openreports.ReportSummary{Pass: 3, Fail: 3, Warn: 1})
		for _, one := range r.Results {
			if one.Result == "warn" && (one.Policy != ns+"/own" || one.Scored) {
				t.Errorf("%+v", one)
			}
		}
		stop(t, ns, "own-bad")
		need(t, cluster.Client().Delete(t.Context(), policyObject(ns, "own")))
		reports(t, ns, openreports.ReportSummary{Pass: 2, Fail: 2})
	})

	t.Run("another action is another result, and the rest of the status stays", func(t *testing.T) {
		apply(t, document("ImageIntegrityPolicy", "", "production", prod+"\n  enforcementAction: dryrun"))
		reports(t, ns, openreports.ReportSummary{Pass: 2, Warn: 2})
		eventually(t, "the status speaks of the new version, and of what runs", func() error {
			u := policyObject("", "production")
			if err := cluster.Client().Get(t.Context(), client.ObjectKeyFromObject(u), u); err != nil {
				return err
			}
			observed, _, _ := unstructured.NestedInt64(u.Object, "status", "observedGeneration")
			violations, _, _ := unstructured.NestedInt64(u.Object, "status", "audit", "violations")
			return want(observed == u.GetGeneration() && observed > 1 && violations == 4, "%v", u.Object["status"])
		})
		apply(t, document("ImageIntegrityPolicy", "", "production", prod))
		reports(t, ns, openreports.ReportSummary{Pass: 2, Fail: 2})
		reports(t, other, openreports.ReportSummary{Fail: 1})
	})

	t.Run("another replica takes over, and has nothing to write", func(t *testing.T) {
		need(t, server.Process.Stop(0))
		need(t, start(t.Context()))
		eventually(t, "a pass", func() error {
			at, err := metric(t.Context(), "boltseal_audit_last_pass_timestamp_seconds", "")
			return want(err == nil && at > 0, "%v", err)
		})
		if n, err := metric(t.Context(), "boltseal_audit_writes_total", ""); err != nil || n != 0 {
			t.Errorf("%f writes, %v", n, err)
		}
		violations, err := metric(t.Context(), "boltseal_audit_pods", `"not trusted"`)
		if err != nil || violations != 4 {
			t.Errorf("%f violations, %v", violations, err)
		}
	})

	t.Run("the command line says the same", func(t *testing.T) { commandLine(t, ns, tag) })

	t.Run("what ends leaves nothing", func(t *testing.T) {
		stop(t, ns, "bad-1", "bad-2", "local")
		stands(t, "", "production", 3, 1, 0)
		reports(t, ns, openreports.ReportSummary{Pass: 2})
		stop(t, ns, "good-1", "good-2")
		eventually(t, "no report of a namespace in which nothing runs", func() error {
			r, err := report(t.Context(), ns)
			return want(err == nil && r == nil, "%v %v", r, err)
		})
		need(t, cluster.Client().Delete(t.Context(), policyObject("", "production")))
		eventually(t, "no report without a policy", func() error {
			r, err := report(t.Context(), other)
			return want(err == nil && r == nil, "%v %v", r, err)
		})
		need(t, cluster.Client().Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}))
	})
	need(t, server.Process.Stop(0))
}

// commandLine runs `boltseal audit` against the cluster as it stands.
func commandLine(t *testing.T, ns, tag string) {
	code, out, errs := cli(t, "-o", "json")
	p := decodePrinted(t, out)
	if code != 1 || p.Pods.Trusted != 2 || p.Pods.NotTrusted != 4 || p.Images.NotTrusted != 3 || p.IgnoredPods == 0 || errs != "" {
		t.Errorf("exit code %d\n%s\n%s", code, out, errs)
	}
	code, out, _ = cli(t, "-n", ns)
	for _, part := range []string{"NAMESPACE", "not trusted", "bad-1, bad-2", "nothing signed", "do:", "3 images: 1 trusted, 2 not trusted, 0 unknown", "5 Pods: 2 trusted, 3 not trusted, 0 unknown", tag} {
		if !strings.Contains(out, part) {
			t.Errorf("exit code %d, and %q is not in\n%s", code, part, out)
		}
	}
	// Another configuration, without policies, before it is applied.
	file := filepath.Join(t.TempDir(), "config.yaml")
	need(t, os.WriteFile(file, []byte(config(signer, stranger)), 0o600))
	code, out, errs = cli(t, "--config", file, "-o", "yaml")
	if code != 1 || !strings.Contains(out, "policy: every-pod") || !strings.Contains(errs, "all Pods are checked") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errs)
	}
	if code, out, errs = cli(t, "--context", "nowhere"); code != 2 || !strings.Contains(errs, "nowhere") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errs)
	}
	if code, out, errs = cli(t, "-n", "no-such-namespace"); code != 2 || !strings.Contains(errs, "no-such-namespace") {
		t.Errorf("exit code %d\n%s\n%s", code, out, errs)
	}
}
