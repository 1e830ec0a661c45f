package installed

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/helm"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/e2e/render"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// values are sooner than the chart's; all else is as it stands.
const values = `
audit: {interval: 2s}
shutdown: {delaySeconds: 1, timeoutSeconds: 5}
`

func release() helm.Release {
	return helm.Release{Kubeconfig: cluster.Kubeconfig(), Namespace: system, Name: "boltseal"}
}

func folder() string { return filepath.Join(root, "charts", "boltseal") }

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f, func() string { return fmt.Sprint(node.Problems()) })
}

func want(ok bool, format string, a ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, a...)
}

func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v; %v", what, err, node.Problems())
	}
}

func podOf(ns, name, image string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}}}
}

// try creates a Pod that nobody keeps.
func try(ctx context.Context, ns, tag string) error {
	return cluster.Client().Create(ctx, podOf(ns, "p", registry.Ref("app", tag)), client.DryRunAll)
}

func denied(err error) error {
	return want(apierrors.IsForbidden(err) && strings.Contains(err.Error(), "nothing signed"), "not denied by Boltseal: %v", err)
}

// TestFromInstallToRemove is what docs/install.md says, in its order.
func TestFromInstallToRemove(t *testing.T) {
	ctx := t.Context()
	must(t, "the namespace", cluster.ApplyObjects(ctx, render.Namespace(system, render.Restricted()), render.Namespace("shop", nil), render.Namespace("legacy", nil)))
	eventually(t, "the namespaces' accounts are there", func() error {
		for _, ns := range []string{system, "shop", "legacy"} {
			if err := cluster.Client().Get(ctx, client.ObjectKey{Namespace: ns, Name: "default"}, &corev1.ServiceAccount{}); err != nil {
				return err
			}
		}
		return nil
	})
	before := everything(t)

	must(t, "install", release().Install(ctx, folder(), values))
	available(t)
	jobIsGone(t)
	signer, err := testca.New(testca.Options{})
	must(t, "a signer", err)
	registry.Sign("app", registry.PushImage("app", "signed", 0), signer, testca.SignOptions{})
	must(t, "whom to trust", cluster.Apply(ctx, product.Trust(signer.Root().PEM())))
	must(t, "a policy", cluster.Apply(ctx, "apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: only-trusted-images}\nspec: {match: {namespaces: [shop]}, enforcementAction: deny}\n"))
	enforced(t)
	explained(t)
	exemptionEnds(t)

	off := values + "webhook: {enabled: false}\n"
	must(t, "switch the webhook off", release().Upgrade(ctx, folder(), off))
	eventually(t, "nothing asks at admission", func() error { return errors.Join(configurations(ctx), try(ctx, "shop", "unsigned")) })
	must(t, "switch it on", release().Upgrade(ctx, folder(), values))
	enforced(t)

	must(t, "uninstall", release().Uninstall())
	must(t, "a Pod without Boltseal", try(ctx, "shop", "unsigned"))
	before["Pod legacy/old"] = true // the test's own
	patterns, commands := remains(t)
	eventually(t, "what stays is what the page lists", func() error {
		missing := map[string]bool{}
		for p := range patterns {
			missing[p] = true
		}
		var more []string
		for _, o := range added(before, everything(t)) {
			known := false
			for text, p := range patterns {
				if p.MatchString(o) {
					known = true
					delete(missing, text)
				}
			}
			if !known {
				more = append(more, o)
			}
		}
		return want(len(more) == 0 && len(missing) == 0, "not on the page: %q; on the page only: %v", more, missing)
	})

	must(t, "install again", release().Install(ctx, folder(), values))
	available(t)
	enforced(t)
	must(t, "uninstall again", release().Uninstall())
	for _, line := range commands {
		if _, err := shell(ctx, line); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "nothing stays after the page's commands", func() error {
		left := added(before, everything(t))
		left = slices.DeleteFunc(left, func(o string) bool { return strings.HasPrefix(o, "Event ") })
		return want(len(left) == 0, "%q", left)
	})
	if err := node.Problems(); err != nil {
		t.Error(err)
	}
}

// available holds that the Deployment is what its status says, and that the page's commands see it.
func available(t *testing.T) {
	t.Helper()
	var d appsv1.Deployment
	must(t, "the Deployment", cluster.Client().Get(t.Context(), client.ObjectKey{Namespace: system, Name: "boltseal"}, &d))
	if d.Status.AvailableReplicas != 2 || d.Status.UnavailableReplicas != 0 {
		t.Errorf("Helm did not wait: %+v", d.Status)
	}
	for line := range strings.Lines(section(t, "install.md", "Check")) {
		if !strings.HasPrefix(line, "kubectl ") {
			continue
		}
		if out, err := shell(t.Context(), line); err != nil || !strings.Contains(out, "successfully rolled out") {
			t.Errorf("%s: %v: %s", line, err, out)
		}
	}
}

// jobIsGone holds that the Job for the definitions has left nothing, its rights included.
func jobIsGone(t *testing.T) {
	t.Helper()
	key := client.ObjectKey{Namespace: system, Name: "boltseal-crds"}
	for _, o := range []client.Object{&batchv1.Job{}, &corev1.ServiceAccount{}, &rbacv1.ClusterRole{}, &rbacv1.ClusterRoleBinding{}} {
		of := key
		if _, ok := o.(*rbacv1.ClusterRole); ok {
			of.Namespace = ""
		}
		if _, ok := o.(*rbacv1.ClusterRoleBinding); ok {
			of.Namespace = ""
		}
		eventually(t, fmt.Sprintf("the Job's %T is gone", o), func() error {
			err := cluster.Client().Get(t.Context(), of, o)
			return want(apierrors.IsNotFound(err), "%v", err)
		})
	}
}

// enforced holds that Pods are judged, through the Service.
func enforced(t *testing.T) {
	t.Helper()
	eventually(t, "it denies", func() error { return denied(try(t.Context(), "shop", "unsigned")) })
	eventually(t, "it admits", func() error { return try(t.Context(), "shop", "signed") })
}

// configurations reports whether any webhook configuration is there.
func configurations(ctx context.Context) error {
	var m admissionregistrationv1.MutatingWebhookConfigurationList
	var v admissionregistrationv1.ValidatingWebhookConfigurationList
	err := errors.Join(cluster.Client().List(ctx, &m), cluster.Client().List(ctx, &v))
	return errors.Join(err, want(len(m.Items)+len(v.Items) == 0, "%d and %d webhook configurations", len(m.Items), len(v.Items)))
}

var decision = regexp.MustCompile(`\(decision ([0-9a-f]+)\)`)

// explained takes the command of docs/webhook.md to the decision that a denial names.
func explained(t *testing.T) {
	t.Helper()
	_, text, _ := strings.Cut(section(t, "webhook.md", "Why was this decided?"), "```\n")
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	i := slices.Index(fields, "explain")
	if i < 0 || !strings.HasPrefix(line, "kubectl ") {
		t.Fatalf("the page's command is another: %s", line)
	}
	named := decision.FindStringSubmatch(fmt.Sprint(try(t.Context(), "shop", "unsigned")))
	if named == nil {
		t.Fatal("the denial names no decision")
	}
	id := named[1]
	eventually(t, "its log explains the decision "+id, func() error {
		out, err := shell(t.Context(), strings.Replace(line, fields[i+1], id, 1))
		return errors.Join(err, want(strings.Contains(out, registry.Ref("app", "unsigned")), "%s", out))
	})
}

// exemptionEnds asks what would be denied without an exemption under which an untrusted Pod runs that is reported: it is
// that Pod, and never nothing.
func exemptionEnds(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	for _, line := range []string{
		`boltseal policy assignment create --name a2 -d image-integrity --scope / --params '{"effect":{"value":"Deny"}}'`,
		`boltseal policy exemption create --name leg2 --policy-assignment a2 --exemption-category Waiver --namespaces legacy --expires-on ` + time.Now().Add(72*time.Hour).UTC().Format(time.RFC3339),
	} {
		_, err := shell(ctx, line)
		must(t, line, err)
	}
	eventually(t, "the exempt Pod is admitted", func() error {
		err := cluster.Client().Create(ctx, podOf("legacy", "old", registry.Ref("app", "unsigned")))
		return client.IgnoreAlreadyExists(err)
	})
	eventually(t, "it runs", func() error {
		var p corev1.Pod
		err := cluster.Client().Get(ctx, client.ObjectKey{Namespace: "legacy", Name: "old"}, &p)
		return errors.Join(err, want(p.Status.Phase == corev1.PodRunning, "%+v", p.Status))
	})
	eventually(t, "the cluster reports the exempt Pod", func() error {
		out, err := shell(ctx, "kubectl get clusterreport local -o jsonpath='{.report.demands[*].exempt}'")
		return errors.Join(err, want(out == "1", "%q are exempt", out))
	})
	for _, change := range []string{"--without-exemption leg2", "--at " + time.Now().Add(96*time.Hour).UTC().Format(time.DateOnly)} {
		out, err := shell(ctx, "boltseal policy what-if "+change)
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(out, "1 image in 1 Pod") {
			t.Errorf("what-if %s: %v: %s", change, err, out)
		}
	}
	for _, line := range []string{"boltseal policy exemption delete --name leg2", "boltseal policy assignment delete --name a2"} {
		_, err := shell(ctx, line)
		must(t, line, err)
	}
}
