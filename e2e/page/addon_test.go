package page

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/process"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/e2e/render"
)

// TestAddOn: a cluster in scope that has no Boltseal is not compliant; a remediation installs the release's manifests
// in it by its agent, and disabling removes them again.
func TestAddOn(t *testing.T) {
	edge, err := kit.Start(t.Context(), kit.Options{Controllers: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := edge.Stop(); err != nil {
			t.Error(err)
		}
	})
	manifests, err := render.Plain(render.Options{Chart: filepath.Join(root, "charts", "boltseal"), Namespace: product.Namespace, Values: []string{"governance: {enabled: false}"}})
	if err != nil {
		t.Fatal(err)
	}
	addOn, hub, member := filepath.Join(work, "boltseal.yaml"), filepath.Join(work, "hub.kubeconfig"), filepath.Join(work, "edge.kubeconfig")
	must := func(script string) {
		t.Helper()
		if _, err := shell(t.Context(), script); err != nil {
			t.Fatal(err)
		}
	}
	must("boltseal cluster register --name edge --scope /edge && boltseal cluster kubeconfig --name edge > " + hub)
	// The agent that installs others' rights needs them itself; here it is the cluster's administrator.
	if err := edge.Client().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: product.Namespace}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(addOn, []byte(manifests.Everything), 0o600), kit.WriteKubeconfig(member, edge.Config())); err != nil {
		t.Fatal(err)
	}
	p, err := edge.Run(process.Spec{Name: "agent", Path: binary, Args: []string{"agent", "--kubeconfig", member, "--namespace", product.Namespace,
		"--hub-kubeconfig", hub, "--cluster", "edge", "--add-on", addOn}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(p.LogFile())
			t.Logf("%s", log[max(0, len(log)-3000):])
		}
		if err := p.Stop(0); err != nil {
			t.Log(err)
		}
	})

	must("boltseal policy assignment create --name edge -d image-integrity --scope /edge")
	says(t, "AddOnMissing", "boltseal compliance --cluster edge -o json")
	there := func(want bool) func() error {
		return func() error {
			var errs []error
			for _, o := range []client.Object{
				&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "boltseal", Namespace: product.Namespace}},
				&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "boltseal", Namespace: product.Namespace}},
				&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "boltseal"}},
			} {
				err := edge.Client().Get(t.Context(), client.ObjectKeyFromObject(o), o)
				switch {
				case want && err != nil, !want && err != nil && !apierrors.IsNotFound(err):
					errs = append(errs, err)
				case !want && err == nil:
					errs = append(errs, fmt.Errorf("%T is there", o))
				}
			}
			return errors.Join(errs...)
		}
	}
	if err := there(false)(); err != nil {
		t.Fatal(err)
	}
	must("boltseal policy remediation create -n edge -a edge --definition-reference-id deployAKSImageIntegrity")
	eventually(t, "the add-on is installed", there(true))
	says(t, "AddOnInstalling", "boltseal compliance --cluster edge -o json")
	// There are no nodes: its Pods are said to run.
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "boltseal", Namespace: product.Namespace}}
	eventually(t, "the Deployment is available", func() error {
		if err := edge.Client().Get(t.Context(), client.ObjectKeyFromObject(d), d); err != nil {
			return err
		}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation, Replicas: 2, ReadyReplicas: 2, AvailableReplicas: 2, UpdatedReplicas: 2,
			Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue}}}
		return edge.Client().Status().Update(t.Context(), d)
	})
	says(t, "Succeeded", "boltseal policy remediation show -n edge")
	says(t, "Installed", "boltseal cluster show --name edge -o json")

	must("boltseal cluster update -n edge --disable-image-integrity")
	eventually(t, "the add-on is removed", there(false))
	must("boltseal cluster update -n edge --enable-image-integrity --no-wait") // there are no nodes for it to be done
	eventually(t, "the add-on is installed again", there(true))
	must("boltseal policy assignment delete --name edge && boltseal cluster unregister --name edge")
}
