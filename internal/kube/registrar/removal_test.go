package registrar

import (
	"context"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// made are webhook configurations as Enforce makes them for an owner.
func made(uid types.UID, labels map[string]string) []client.Object {
	w := testWebhooks()
	out := []client.Object{w.Mutating(nil), w.Validating(nil)}
	for _, o := range out {
		o.SetLabels(labels)
		o.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: "boltseal", UID: uid}})
	}
	return out
}

func (c *cluster) mutating() *admissionregistrationv1.MutatingWebhookConfiguration {
	m := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if c.Get(context.Background(), client.ObjectKey{Name: Name}, m) != nil {
		return nil
	}
	return m
}

// TestSwitchedOff: what was made before the webhook was switched off is removed, the
// webhook that validates first: alone it would refuse what nothing pins any more.
func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	c := newCluster(t, func(o *Options) { o.Mode = Off }, append(made("uid-1", map[string]string{managedByLabel: managedBy}), clusterRole())...)
	eventually(t, "both are removed", func() bool {
		m, v := c.mutating(), c.validating()
		if m == nil && v != nil {
			t.Error("the one that pins is removed before the one that demands it")
		}
		return m == nil && v == nil
	})
}

// TestSwitchedOffLeavesOthers: what another installation, or somebody by hand, has
// made is left alone.
func TestSwitchedOffLeavesOthers(t *testing.T) {
	t.Parallel()
	ours := map[string]string{managedByLabel: managedBy}
	for name, objects := range map[string][]client.Object{
		"another installation's": append(made("uid-2", ours), clusterRole()),
		"of an owner that went":  made("uid-1", ours),
		"made by hand":           append(made("uid-1", nil), clusterRole()),
	} {
		c := newCluster(t, func(o *Options) { o.Mode = Off }, objects...)
		_, bundle := newCA(t)
		c.set(bundle, true)
		c.r.Poke()
		// Its CAs are put in after the question whether to remove it was answered.
		eventually(t, name+" gets the CAs", func() bool {
			v := c.validating()
			return v != nil && string(v.Webhooks[0].ClientConfig.CABundle) == string(bundle)
		})
		if c.mutating() == nil {
			t.Errorf("%s: removed", name)
		}
	}
}
