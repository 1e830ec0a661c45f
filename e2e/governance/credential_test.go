package governance

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/governance/agent/hubtoken"
)

// TestStolenCredential: who has an agent's credential can lie about its own cluster, and nothing else. It ends with
// the cluster's registration.
func TestStolenCredential(t *testing.T) {
	ok(t, "cluster", "register", "--name", "robbed", "--scope", "/apac/robbed")
	ok(t, "cluster", "register", "--name", "other", "--scope", "/apac/other")
	t.Cleanup(func() {
		if _, err := boltseal(context.Background(), "cluster", "unregister", "--name", "other"); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(t.TempDir(), "kubeconfig")
	need(t, os.WriteFile(file, []byte(ok(t, "cluster", "kubeconfig", "--name", "robbed", "--lifetime", "1h")), 0o600))
	config, err := clientcmd.BuildConfigFromFlags("", file)
	need(t, err)
	thief, err := client.New(config, client.Options{})
	need(t, err)
	assign(t, "bait", "/apac")
	eventually(t, "both have a bundle", func() error {
		for _, name := range []string{"robbed", "other"} {
			if err := hub.cluster.Client().Get(t.Context(), client.ObjectKey{Name: name}, object("ClusterBundle", name)); err != nil {
				return err
			}
		}
		return nil
	})

	bare := func(group, kind, namespace, name string) *unstructured.Unstructured {
		u := &unstructured.Unstructured{}
		u.SetGroupVersionKind(schema.GroupVersionKind{Group: group, Version: "v1", Kind: kind})
		u.SetNamespace(namespace)
		u.SetName(name)
		return u
	}
	get := func(u *unstructured.Unstructured) func() error {
		return func() error { return thief.Get(t.Context(), client.ObjectKeyFromObject(u), u) }
	}
	list := func(u *unstructured.Unstructured) func() error {
		l := &unstructured.UnstructuredList{}
		gvk := u.GroupVersionKind()
		gvk.Kind += "List"
		l.SetGroupVersionKind(gvk)
		return func() error { return thief.List(t.Context(), l) }
	}
	lie := func(name string) func() error {
		u := object("ClusterReport", name)
		u.Object["report"] = map[string]any{"version": "none of yours"}
		return func() error {
			b, err := u.MarshalJSON()
			need(t, err)
			return thief.Patch(t.Context(), u, client.RawPatch(types.ApplyPatchType, b), client.FieldOwner("thief"), client.ForceOwnership)
		}
	}
	create := func(u *unstructured.Unstructured) func() error {
		return func() error { return thief.Create(t.Context(), u) }
	}
	remove := func(u *unstructured.Unstructured) func() error {
		return func() error { return thief.Delete(t.Context(), u) }
	}
	kube, err := kubernetes.NewForConfig(config)
	need(t, err)
	renew := func(account string) func() error {
		return func() error {
			_, err := kube.CoreV1().ServiceAccounts("boltseal-system").CreateToken(t.Context(), account, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		}
	}
	need(t, os.WriteFile(file+".other", []byte(ok(t, "cluster", "kubeconfig", "--name", "other", "--lifetime", "1h")), 0o600))
	exemption := object("PolicyExemption", "mine")
	exemption.Object["spec"] = map[string]any{"policyAssignmentId": "bait", "exemptionCategory": "Waiver"}
	for name, c := range map[string]struct {
		do      func() error
		allowed bool
	}{
		"read its own bundle":           {get(object("ClusterBundle", "robbed")), true},
		"write its own report":          {lie("robbed"), true},
		"read another's bundle":         {get(object("ClusterBundle", "other")), false},
		"list bundles":                  {list(object("ClusterBundle", "")), false},
		"change its own bundle":         {remove(object("ClusterBundle", "robbed")), false},
		"write another's report":        {lie("other"), false},
		"read another's report":         {get(object("ClusterReport", "fra1")), false},
		"list reports":                  {list(object("ClusterReport", "")), false},
		"delete its own report":         {remove(object("ClusterReport", "robbed")), false},
		"make a report of a new name":   {create(object("ClusterReport", "made-up")), false},
		"list clusters":                 {list(object("Cluster", "")), false},
		"read its own Cluster":          {get(object("Cluster", "robbed")), false},
		"list assignments":              {list(object("PolicyAssignment", "")), false},
		"delete an assignment":          {remove(object("PolicyAssignment", "bait")), false},
		"exempt itself":                 {create(exemption), false},
		"read secrets":                  {list(bare("", "Secret", "boltseal-system", "")), false},
		"list Pods":                     {list(bare("", "Pod", "", "")), false},
		"renew its own credential":      {renew("boltseal-agent-robbed"), true},
		"get another's credential":      {renew("boltseal-agent-other"), false},
		"get Boltseal's own credential": {renew("boltseal"), false},
		"list ServiceAccounts":          {list(bare("", "ServiceAccount", "", "")), false},
		"give itself the right to more": {create(bare("rbac.authorization.k8s.io", "ClusterRoleBinding", "", "mine")), false},
	} {
		err := c.do()
		if c.allowed && err != nil || !c.allowed && !apierrors.IsForbidden(err) {
			t.Errorf("%s: allowed should be %t: %v", name, c.allowed, err)
		}
	}

	// The agent renews it by itself, half an hour later, and stores it.
	kubeconfig := hubtoken.File{Path: file}
	before, err := kubeconfig.Read()
	need(t, err)
	var later atomic.Int64
	source, _, err := hubtoken.New(hubtoken.Options{Hub: config, Read: kubeconfig.Read, Save: kubeconfig.Save, Log: slog.Default(),
		// waits: in place of half an hour; how long is all the same
		Clock: func() time.Time { return time.Now().Add(time.Duration(later.Load())) }, After: func(time.Duration) <-chan time.Time { return time.After(100 * time.Millisecond) }})
	need(t, err)
	later.Store(int64(31 * time.Minute))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = source.Run(ctx) }()
	eventually(t, "the credential is renewed and stored", func() error {
		if token, err := kubeconfig.Read(); err != nil || token == before {
			return os.ErrNotExist
		}
		return nil
	})
	cancel()
	<-ended
	renewed, err := clientcmd.BuildConfigFromFlags("", file)
	need(t, err)
	again, err := client.New(renewed, client.Options{})
	need(t, err)
	need(t, again.Get(t.Context(), client.ObjectKey{Name: "robbed"}, object("ClusterBundle", "robbed")))

	// As somebody does who knows kubectl only; 'cluster unregister' is the way of the other one.
	need(t, hub.cluster.Client().Delete(t.Context(), object("Cluster", "robbed")))
	eventually(t, "the credential has ended", func() error {
		if err := get(object("ClusterBundle", "robbed"))(); !apierrors.IsUnauthorized(err) && !apierrors.IsForbidden(err) {
			return os.ErrExist
		}
		if err := again.Get(t.Context(), client.ObjectKey{Name: "robbed"}, object("ClusterBundle", "robbed")); !apierrors.IsUnauthorized(err) && !apierrors.IsForbidden(err) {
			return os.ErrExist
		}
		return nil
	})
	if out, err := boltseal(t.Context(), "cluster", "kubeconfig", "--name", "robbed"); err == nil || strings.Contains(out, "token") {
		t.Error("a cluster that is not registered got a credential")
	}
}
