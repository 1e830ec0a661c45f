package webhook

import (
	"context"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// eventually waits until f returns nil.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f, logs)
}

func want(ok bool, format string, a ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, a...)
}

// image pushes an image under the tag, if it is not there yet, signed by the chains, and returns its reference and
// its digest.
func image(tag string, by ...*testca.Chain) (ref, digest string) {
	if d, ok := images.Load(tag); ok {
		return registry.Ref(repo, tag), d.(string)
	}
	d := registry.PushImage(repo, tag, 0)
	for _, c := range by {
		registry.Sign(repo, d, c, testca.SignOptions{})
	}
	images.Store(tag, d.Digest.String())
	return registry.Ref(repo, tag), d.Digest.String()
}

var images sync.Map // tag → digest

// namespace makes one of a stage (prod, test or lab), and waits until Boltseal knows it: until then an unknown
// label must let nothing through.
func namespace(t testing.TB, stage string) string {
	t.Helper()
	ns, err := cluster.Namespace(t.Context(), stage, map[string]string{"stage": stage})
	if err != nil {
		t.Fatal(err)
	}
	signed, _ := image("signed", signer)
	eventually(t, "the webhook judges in "+ns, func() error {
		return cluster.Client().Create(t.Context(), pod(ns, "probe", signed), client.DryRunAll)
	})
	return ns
}

func pod(namespace, name, image string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}}}
}

// warnings are what the API server says to whoever creates something.
type warnings struct {
	mu   sync.Mutex
	text []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, text)
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.text, "\n")
}

// clientOf makes a client by a configuration that the caller may have changed.
func clientOf(t testing.TB, c *rest.Config) client.Client {
	t.Helper()
	cl, err := client.New(c, client.Options{Scheme: cluster.Client().Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// configurations are the webhook configurations as they are now.
func configurations(ctx context.Context) (*admissionregistrationv1.MutatingWebhookConfiguration, *admissionregistrationv1.ValidatingWebhookConfiguration, error) {
	m, v := &admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}
	key := client.ObjectKey{Name: "boltseal"}
	if err := cluster.Client().Get(ctx, key, m); err != nil {
		return nil, nil, err
	}
	return m, v, cluster.Client().Get(ctx, key, v)
}

func secret(ctx context.Context) (*corev1.Secret, error) {
	s := &corev1.Secret{}
	return s, cluster.Client().Get(ctx, client.ObjectKey{Namespace: system, Name: "boltseal-serving"}, s)
}

// authorities is how many certificates a bundle has.
func authorities(bundle []byte) (n int) {
	for {
		var b *pem.Block
		if b, bundle = pem.Decode(bundle); b == nil {
			return n
		}
		n++
	}
}

// settled waits until the webhooks have the CAs of the Secret, and judge.
func settled(t testing.TB) {
	t.Helper()
	eventually(t, "the webhook configurations are in place", func() error {
		m, v, err := configurations(t.Context())
		if err != nil {
			return err
		}
		s, err := secret(t.Context())
		if err != nil {
			return err
		}
		ca := string(s.Data["ca.crt"])
		return want(len(m.Webhooks) == 1 && len(v.Webhooks) == 2 && ca != "" && string(m.Webhooks[0].ClientConfig.CABundle) == ca &&
			string(v.Webhooks[0].ClientConfig.CABundle) == ca && string(v.Webhooks[1].ClientConfig.CABundle) == ca, "webhooks %d, %d; %d CAs", len(m.Webhooks), len(v.Webhooks), authorities(s.Data["ca.crt"]))
	})
}

// load creates Pods without a pause until its stop is called, which returns how many were created. A failure fails
// the test.
func load(t *testing.T, workers int, ns, image string) (stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var mu sync.Mutex
	created, failed := 0, 0
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				err := cluster.Client().Create(context.WithoutCancel(ctx), pod(ns, "load", image), client.DryRunAll)
				mu.Lock()
				created++
				if err != nil {
					if failed++; failed <= 3 {
						t.Errorf("after %d good ones: %v", created-failed, err)
					}
				}
				mu.Unlock()
			}
		})
	}
	return func() int {
		cancel()
		wg.Wait()
		if failed > 0 {
			t.Errorf("%d of %d requests failed", failed, created)
		}
		return created
	}
}

// podsOf is how many Pods of an app there are.
func podsOf(ctx context.Context, ns, app string) (int, error) {
	var list corev1.PodList
	err := cluster.Client().List(ctx, &list, client.InNamespace(ns), client.MatchingLabels{"app": app})
	return len(list.Items), err
}
