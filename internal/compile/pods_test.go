package compile_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/compile"
	keyskube "github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

func pull(namespace, name, host, user, password string) client.Object {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Data: map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{%q:{"username":%q,"password":%q}}}`, host, user, password)}}
}

// TestEachPodByItsOwnSecrets: what one Pod's Secrets could read answers for nobody
// who has others, whatever is kept.
func TestEachPodByItsOwnSecrets(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]testregistry.Options{
		"basic": {Basic: &testregistry.BasicOptions{Users: map[string]string{"reader": "right"}}},
		"token": {Token: &testregistry.TokenOptions{Users: map[string]string{"reader": "right"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, o)
			w.reg.Sign(repo, w.reg.PushImage(repo, "signed", 0), w.a, testca.SignOptions{SigningTime: now})
			host := w.reg.Host
			k := newKube(t)
			k.deps.Cloud.Objects = keyskube.Objects{Client: fake.NewClientBuilder().WithObjects(
				pull("one", "pull", host, "reader", "right"), pull("two", "copy", host, "reader", "right"), pull("two", "wrong", host, "reader", "wrong"),
				&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "one", Name: "default"}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}}},
			).Build()}
			k.apply(kmp("roots", w.pemA) + store("oras", "authProviders: [{name: podPullSecrets}]") + verifier("notary", "roots") + store("plain/oras", "") + policyDoc("ratify-policy", "default: any"))
			c, _ := k.compile()
			m := memo.New(memo.Options{})
			ask := func(c *compile.Compiled, namespace, account string, secrets ...string) (*boltseal.Engine, *memo.Answer) {
				t.Helper()
				base := c.EngineFor(namespace)
				e := c.ForPod(t.Context(), base, namespace, secrets, account)
				if e == nil || !c.PerPod(base) {
					t.Fatalf("%s: no engine, or everybody's", namespace)
				}
				return e, m.Answer(context.Background(), e, w.reg.Ref(repo, "signed"))
			}
			allowed, a := ask(c, "one", "", "pull")
			if a.Decision != boltseal.Allow {
				t.Fatalf("%+v", a.Reason)
			}
			requests := w.reg.Count(testregistry.Any)
			for _, same := range []struct{ namespace, secret string }{{"one", ""}, {"two", "copy"}} {
				if e, a := ask(c, same.namespace, "", same.secret); e != allowed || a.Decision != boltseal.Allow {
					t.Errorf("%+v: another engine, or %s", same, a.Decision)
				}
			}
			if n := w.reg.Count(testregistry.Any) - requests; n != 0 {
				t.Errorf("%d requests for those who have the same", n)
			}
			for _, other := range []struct{ namespace, secret string }{{"two", "wrong"}, {"two", ""}, {"three", "pull"}} {
				if e, a := ask(c, other.namespace, "", other.secret); e == allowed || a.Decision != boltseal.Unknown || a.Reason.Cause != boltseal.CauseUnauthorized {
					t.Errorf("%+v: %s %+v", other, a.Decision, a.Reason)
				}
			}
			// A namespace with a Store of its own that does not ask for them is everybody's.
			if e := c.EngineFor("plain"); c.PerPod(e) || c.ForPod(t.Context(), e, "plain", []string{"pull"}, "") != e {
				t.Error("plain is per Pod")
			}
			// An edit elsewhere leaves the engines, and what is kept by them.
			k.apply(verifier("team/other", "roots"))
			c2, _ := k.compile()
			if e, a := ask(c2, "one", "", "pull"); e != allowed || a.Decision != boltseal.Allow {
				t.Error("an edit elsewhere made another engine")
			}
			found := false
			for _, e := range c2.Engines() {
				found = found || e == allowed
			}
			if !found {
				t.Error("the Pods' engines are not among all engines, and would be forgotten")
			}
		})
	}
}

func TestPodSecretsMessages(t *testing.T) {
	t.Parallel()
	for parameters, want := range map[string]string{
		"authProvider: {name: podPullSecrets, secrets: []}":   "spec.parameters.authProvider.secrets: unknown field",
		"authProvider: {name: podPullSecret}":                 `did you mean "podPullSecrets"?`,
		"useHttp: true, authProvider: {name: podPullSecrets}": "not shown where a namespace sets useHttp",
	} {
		ps := fails(t, store("team/s", parameters)+kmp("roots", chain(t).Root().PEM())+verifier("v", "roots")+store("c", "scopes: [c.example]"))
		if len(ps) == 0 || !strings.Contains(ps[0].Error(), want) {
			t.Errorf("%q: %v", parameters, ps)
		}
	}
}

// TestPodEnginesAreBounded: however many Secrets somebody makes, only so many engines
// are there; what is kept by those that are not is dropped; and those who make Secrets
// that cannot be read do not have the others forgotten.
func TestPodEnginesAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	k := newKube(t)
	objects := fake.NewClientBuilder().Build()
	k.deps.Cloud.Objects = keyskube.Objects{Client: objects}
	told := 0
	m := memo.New(memo.Options{})
	k.deps.Forgot = func(c *compile.Compiled) {
		told++
		there := map[*boltseal.Engine]bool{}
		for _, e := range c.Engines() {
			there[e] = true
		}
		m.Retain(func(e *boltseal.Engine) bool { return there[e] })
	}
	k.apply(kmp("roots", w.pemA) + store("oras", "authProviders: [{name: podPullSecrets}]") + verifier("notary", "roots"))
	c, _ := k.compile()
	base := c.EngineFor("")
	var first *boltseal.Engine
	const many = 700
	for i := range many {
		name := fmt.Sprint("s", i)
		if err := objects.Create(t.Context(), pull("ns", name, "r.example", name, "x")); err != nil {
			t.Fatal(err)
		}
		e := c.ForPod(t.Context(), base, "ns", []string{name}, "")
		if i == 0 {
			first = e
		}
		m.Answer(t.Context(), e, "no image") // an answer is not kept where nothing was asked
		m.Answer(t.Context(), e, w.reg.Ref(repo, "nothing"))
		if c.ForPod(t.Context(), base, "ns", []string{"s0"}, "") != first {
			t.Fatal("what is in use was forgotten")
		}
	}
	if n := len(c.Engines()); n > 513 || n < 400 || told != 2 {
		t.Errorf("%d engines, told %d times", n, told)
	}
	if n, _ := m.Usage(); n > 520 {
		t.Errorf("%d answers are kept", n)
	}
	before := len(c.Engines())
	for i := range 300 {
		c.ForPod(t.Context(), base, fmt.Sprint("ns", i), []string{"No Name"}, "")
	}
	if n := len(c.Engines()) - before; n > 64 || n < 40 {
		t.Errorf("%d engines for what cannot be read", n)
	}
	if c.ForPod(t.Context(), base, "ns", []string{"s0"}, "") != first {
		t.Error("it was forgotten for what cannot be read")
	}
}
