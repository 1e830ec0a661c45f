package chart

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/render"
)

// namespaces makes some that are not there yet.
func namespaces(t *testing.T, labels map[string]string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := cluster.ApplyObjects(t.Context(), render.Namespace(name, labels)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAPIServerAccepts has the API server check every object of every set strictly: unknown fields are errors. Kinds of
// others, which it does not know, are held against their Go types.
func TestAPIServerAccepts(t *testing.T) {
	t.Parallel()
	namespaces(t, nil, "boltseal-system", "trust", "keys", "gatekeeper-system", "opa")
	for _, s := range sets {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			for _, u := range objects(t, rendered(t, s.options())) {
				switch u.GetKind() {
				case "PodMonitor":
					typed[monitoringv1.PodMonitor](t, u)
				case "ServiceMonitor":
					typed[monitoringv1.ServiceMonitor](t, u)
				case "PrometheusRule":
					typed[monitoringv1.PrometheusRule](t, u)
				case "ConstraintTemplate": // e2e/gatekeeper has a real Gatekeeper take it
				default:
					if ns := u.GetNamespace(); ns != "" { // of others, whose Pods' pull secrets are read
						err := cluster.Client().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
						if client.IgnoreAlreadyExists(err) != nil {
							t.Fatal(err)
						}
					}
					u.SetName(u.GetName() + "-dry-run") // others may be applying it
					if err := cluster.Client().Create(t.Context(), u, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict)); err != nil {
						t.Errorf("%s %s: %v", u.GetKind(), u.GetName(), err)
					}
				}
			}
		})
	}
}

// TestRestricted installs the chart into a namespace whose Pods must satisfy the pod security standard "restricted",
// which the API server's own admission sees to.
func TestRestricted(t *testing.T) {
	t.Parallel()
	const ns = "restricted"
	namespaces(t, render.Restricted(), ns)
	intruder := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "intruder"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}}
	if err := cluster.Client().Create(t.Context(), intruder); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "restricted") {
		t.Fatalf("a Pod that is not restricted was admitted: %v", err)
	}
	r := rendered(t, render.Options{Release: "restricted-boltseal", Namespace: ns})
	if err := cluster.Apply(t.Context(), r.Hooks, r.Objects); err != nil {
		t.Fatal(err)
	}
	want := map[string]int{"server": 2, "crds": 1}
	eventually(t, "all Pods are admitted", func() error {
		var pods corev1.PodList
		if err := cluster.Client().List(t.Context(), &pods, client.InNamespace(ns)); err != nil {
			return err
		}
		have := map[string]int{}
		for _, p := range pods.Items {
			have[p.Labels["app.kubernetes.io/component"]]++
		}
		for component, n := range want {
			if have[component] != n {
				return fmt.Errorf("%v; %w", have, refusals(t.Context(), ns))
			}
		}
		return nil
	})
}

// refusals are the events that say why Pods could not be made.
func refusals(ctx context.Context, ns string) error {
	var events corev1.EventList
	if err := cluster.Client().List(ctx, &events, client.InNamespace(ns)); err != nil {
		return err
	}
	var errs []error
	for _, e := range events.Items {
		if e.Reason == "FailedCreate" {
			errs = append(errs, errors.New(e.Message))
		}
	}
	return errors.Join(errs...)
}

// kubectl runs the real one.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), cluster.Kubectl(), append([]string{"--kubeconfig", cluster.Kubeconfig()}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestPlainManifests goes the way of who installs without Helm: in, once more, back, and out.
func TestPlainManifests(t *testing.T) {
	t.Parallel()
	const ns = "plain"
	m, err := render.Plain(render.Options{Chart: folder, Release: ns, Namespace: ns, Values: []string{"fullnameOverride: plain"}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	all, without := filepath.Join(dir, "boltseal.yaml"), filepath.Join(dir, "boltseal-without-crds.yaml")
	for name, text := range map[string]string{all: m.Everything, without: m.WithoutCRDs} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The definitions are there already, of another manager: the kit's.
	kubectl(t, "apply", "--server-side", "--force-conflicts", "-f", all)
	again := kubectl(t, "apply", "--server-side", "-f", all)
	if n := strings.Count(again, "serverside-applied"); n < 15 {
		t.Errorf("%d objects: %s", n, again)
	}
	kubectl(t, "-n", ns, "get", "deployment/plain", "service/plain", "serviceaccount/plain", "networkpolicy/plain", "poddisruptionbudget/plain")
	kubectl(t, "apply", "--server-side", "-f", without)
	kubectl(t, "delete", "--wait=false", "-f", without)
	var left appsv1.DeploymentList
	eventually(t, "all of it is gone", func() error {
		err := cluster.Client().List(t.Context(), &left, client.InNamespace(ns))
		if err == nil && len(left.Items) > 0 {
			err = errors.New("the Deployment is there")
		}
		return err
	})
	var crds apiextensionsv1.CustomResourceDefinitionList
	if err := cluster.Client().List(t.Context(), &crds); err != nil {
		t.Fatal(err)
	}
	ours := slices.DeleteFunc(crds.Items, func(c apiextensionsv1.CustomResourceDefinition) bool { return c.DeletionTimestamp != nil })
	if len(ours) < 11 {
		t.Errorf("%d definitions are left: resources of users went with them", len(ours))
	}
}

// TestFlags holds the arguments of the Pods against the program's own help.
func TestFlags(t *testing.T) {
	t.Parallel()
	help := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), binary, append(args, "--help")...).Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	known := map[string]string{"serve": help("serve"), "crds": help("crds", "apply")}
	for _, s := range sets {
		for _, u := range objects(t, rendered(t, s.options())) {
			for _, spec := range podSpecs(t, u) {
				args := spec.Containers[0].Args
				for _, a := range args[1:] {
					flag, _, _ := strings.Cut(a, "=")
					if strings.HasPrefix(flag, "--") && !strings.Contains(known[args[0]], flag+" ") {
						t.Errorf("%s: %s of %s %s is not known to the program", s.name, a, u.GetKind(), u.GetName())
					}
				}
			}
		}
	}
}

// TestJobReachesAllDefinitions holds the names in the Job's rights against the definitions.
func TestJobReachesAllDefinitions(t *testing.T) {
	t.Parallel()
	r := rendered(t, render.Options{})
	crds, err := kit.Parse(r.CRDs)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, u := range crds {
		want = append(want, u.GetName())
	}
	have := rules(t, find(objects(t, r), "ClusterRole", "boltseal-crds"))[0].ResourceNames
	slices.Sort(want)
	slices.Sort(have)
	if len(want) == 0 || !slices.Equal(have, want) {
		t.Errorf("the Job may change %v, the definitions are %v", have, want)
	}
}

// parse is kit.Parse for one object.
func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	all, err := kit.Parse(text)
	if err != nil || len(all) != 1 {
		t.Fatal(len(all), err)
	}
	return all[0]
}
