// Package agent tests the agent between two real control planes, a hub and a member, with the rights that it has in each.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	chart "github.com/boltseal/boltseal/charts/boltseal"
	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/internal/governance/agent"
	"github.com/boltseal/boltseal/internal/governance/hub"
)

const (
	namespace = "boltseal-system"
)

var (
	hubCluster, member *kit.Cluster
	atHub, inMember    client.Client
	proxy              *gate // the way of agents to the hub
)

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	s.AddKnownTypes(v1alpha1.GroupVersion, &v1alpha1.PolicyAssignment{}, &v1alpha1.PolicyAssignmentList{}, &v1alpha1.PolicyExemption{}, &v1alpha1.PolicyDefinition{},
		&v1alpha1.Cluster{}, &v1alpha1.ClusterList{}, &v1alpha1.ClusterBundle{}, &v1alpha1.ClusterBundleList{}, &v1alpha1.ClusterReport{}, &v1alpha1.ClusterReportList{}, &v1alpha1.Remediation{})
	s.AddKnownTypes(integrity.GroupVersion, &integrity.ImageIntegrityPolicy{})
	metav1.AddToGroupVersion(s, v1alpha1.GroupVersion)
	metav1.AddToGroupVersion(s, integrity.GroupVersion)
	if err := errors.Join(rbacv1.AddToScheme(s), corev1.AddToScheme(s)); err != nil {
		panic(err)
	}
	return s
}

func TestMain(m *testing.M) {
	run := func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		var err error
		if member, err = kit.Start(ctx, kit.Options{Controllers: []string{}}); err == nil {
			defer func() { _ = member.Stop() }()
			err = install(ctx)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer proxy.Close()
		return m.Run()
	}
	os.Exit(kit.Main(run, kit.Options{Controllers: []string{}}, &hubCluster))
}

func install(ctx context.Context) error {
	crds, err := chart.CRDs()
	if err != nil {
		return err
	}
	if err := errors.Join(hubCluster.Apply(ctx, string(crds)), member.Apply(ctx, string(crds))); err != nil {
		return err
	}
	if atHub, err = client.New(hubCluster.Config(), client.Options{Scheme: newScheme()}); err != nil {
		return err
	}
	if inMember, err = client.New(member.Config(), client.Options{Scheme: newScheme()}); err != nil {
		return err
	}
	if err := inMember.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		return err
	}
	proxy = newGate()
	return err
}

// grant gives a user rights in a cluster, all over it and in the namespace.
func grant(ctx context.Context, c client.Client, user string, rules, inNamespace []rbacv1.PolicyRule) error {
	subject := []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: user}}
	err := errors.Join(
		c.Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: rules}),
		c.Create(ctx, &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user}, Subjects: subject,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user}}))
	if inNamespace != nil {
		err = errors.Join(err,
			c.Create(ctx, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Name: user, Namespace: namespace}, Rules: inNamespace}),
			c.Create(ctx, &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user, Namespace: namespace}, Subjects: subject,
				RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user}}))
	}
	return err
}

// runner runs the agent of one cluster, again and again.
type runner struct {
	o      agent.Options
	cancel context.CancelFunc
	ended  chan error
}

// newRunner makes an agent with its own rights in both clusters. The name is that of the cluster at the hub.
func newRunner(t *testing.T, name string) *runner {
	t.Helper()
	user := "agent-" + name
	if err := errors.Join(grant(t.Context(), atHub, user, hub.AgentRules(name), nil),
		grant(t.Context(), inMember, user, agent.Rules(), agent.NamespaceRules())); err != nil {
		t.Fatal(err)
	}
	toHub, err := hubCluster.UserConfig(user)
	if err != nil {
		t.Fatal(err)
	}
	toMember, err := member.UserConfig(user)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{o: agent.Options{Hub: proxy.through(toHub), Member: toMember, Cluster: name, Namespace: namespace, Version: "test",
		Recheck: 2 * time.Second, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}}
	t.Cleanup(r.stop)
	return r
}

func (r *runner) start(t *testing.T) {
	t.Helper()
	a, err := agent.New(r.o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel, r.ended = cancel, make(chan error, 1)
	go func() { r.ended <- a.Run(ctx) }()
}

func (r *runner) stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	r.cancel = nil
	if err := <-r.ended; err != nil {
		fmt.Fprintln(os.Stderr, "the agent ended:", err)
	}
}

// forget takes away what an agent keeps in the member, and what it installed.
func forget(t *testing.T) {
	t.Cleanup(func() {
		ctx := context.Background()
		for _, name := range []string{agent.KeptBundle, agent.KeptSeen, agent.KeptAddOn} {
			_ = inMember.Delete(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
		}
		_ = inMember.DeleteAllOf(ctx, &integrity.ImageIntegrityPolicy{})
	})
}

func eventually(t testing.TB, what string, ask func() error) {
	t.Helper()
	await.Until(t, what, ask)
}

// stands waits until an object is as it is wanted.
func stands[T client.Object](t testing.TB, c client.Client, name string, o T, what string, ok func() bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("%T %s: %s", o, name, what), func() error {
		if err := c.Get(t.Context(), client.ObjectKey{Name: name}, o); err != nil {
			return err
		}
		if !ok() {
			b, _ := json.Marshal(o)
			return fmt.Errorf("%s", b)
		}
		return nil
	})
}

// change changes an object, again where somebody else did so meanwhile.
func change[T client.Object](t testing.TB, c client.Client, name string, o T, f func()) {
	t.Helper()
	eventually(t, "changing "+name, func() error {
		if err := c.Get(t.Context(), client.ObjectKey{Name: name}, o); err != nil {
			return err
		}
		f()
		return c.Update(t.Context(), o)
	})
}

func create(t testing.TB, c client.Client, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := c.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Delete(context.Background(), o) })
	}
}

// through is a configuration by way of the gate.
func (g *gate) through(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.Dial = g.dial
	return c
}
