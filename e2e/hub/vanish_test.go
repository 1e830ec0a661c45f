package hub

import (
	"fmt"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	chart "github.com/boltseal/boltseal/charts/boltseal"
)

// TestADefinitionThatVanishes: who deletes the definition of assignments deletes all assignments by the way; clusters
// keep what was demanded of them until it is there again.
func TestADefinitionThatVanishes(t *testing.T) {
	create(t, newCluster("vanish", "/vanish"), newAssignment("vanish", "/vanish", "Deny"))
	demands := func() int {
		var b v1alpha1.ClusterBundle
		if err := client.IgnoreNotFound(admin.Get(t.Context(), client.ObjectKey{Name: "vanish"}, &b)); err != nil {
			t.Fatal(err)
		}
		return len(b.Spec.Demands)
	}
	eventually(t, "it is required", func() error {
		if n := demands(); n != 1 {
			return fmt.Errorf("%d demands", n)
		}
		return nil
	})
	crd := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: metav1.ObjectMeta{Name: "policyassignments.policy.boltseal.dev"}}
	if err := cluster.Client().Delete(t.Context(), crd); err != nil {
		t.Fatal(err)
	}
	// waits: for what must not happen; a slow machine can only hide it
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if n := demands(); n != 1 {
			t.Fatalf("%d demands, without a word of anybody", n)
		}
	}
	eventually(t, "the definition is gone", func() error {
		if err := cluster.Client().Get(t.Context(), client.ObjectKeyFromObject(crd), crd.DeepCopy()); client.IgnoreNotFound(err) != nil || err == nil {
			return fmt.Errorf("it is there: %w", err)
		}
		return nil
	})
	crds, err := chart.CRDs()
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(t.Context(), string(crds)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is there again, and demands nothing", func() error {
		if n := demands(); n != 0 {
			return fmt.Errorf("%d demands", n)
		}
		return nil
	})
}
