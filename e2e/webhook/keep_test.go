package webhook

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
)

// TestEditsArePutBack edits and deletes the webhook configurations by hand.
func TestEditsArePutBack(t *testing.T) {
	settled(t)
	ctx, cl := t.Context(), cluster.Client()
	mutating, validating, err := configurations(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if len(mutating.OwnerReferences) != 1 || mutating.OwnerReferences[0].Kind != "ClusterRole" || len(validating.OwnerReferences) != 1 {
		t.Errorf("owners: %v, %v", mutating.OwnerReferences, validating.OwnerReferences)
	}
	for _, f := range []*admissionregistrationv1.FailurePolicyType{mutating.Webhooks[0].FailurePolicy, validating.Webhooks[0].FailurePolicy} {
		if *f != admissionregistrationv1.Fail {
			t.Errorf("failurePolicy %s", *f)
		}
	}
	// What is as it should be is left alone.
	time.Sleep(time.Second) // waits: for what must not be written; on a slow machine less is found, and nothing wrongly
	if m, v, err := configurations(ctx); err != nil || m.ResourceVersion != mutating.ResourceVersion || v.ResourceVersion != validating.ResourceVersion {
		t.Errorf("they are written again and again: %v", err)
	}
	ignore := admissionregistrationv1.Ignore
	edits := map[string]func(v *admissionregistrationv1.ValidatingWebhookConfiguration){
		"caBundle": func(v *admissionregistrationv1.ValidatingWebhookConfiguration) {
			v.Webhooks[0].ClientConfig.CABundle = nil
		},
		"failurePolicy": func(v *admissionregistrationv1.ValidatingWebhookConfiguration) { v.Webhooks[0].FailurePolicy = &ignore },
		"rules": func(v *admissionregistrationv1.ValidatingWebhookConfiguration) {
			v.Webhooks[0].Rules[0].Resources = []string{"secrets"}
		},
		"service": func(v *admissionregistrationv1.ValidatingWebhookConfiguration) {
			v.Webhooks[0].ClientConfig.Service.Name = "other"
		},
		"a condition more": func(v *admissionregistrationv1.ValidatingWebhookConfiguration) {
			v.Webhooks[0].MatchConditions = append(v.Webhooks[0].MatchConditions, admissionregistrationv1.MatchCondition{Name: "never", Expression: "false"})
		},
		"an exemption": func(v *admissionregistrationv1.ValidatingWebhookConfiguration) {
			v.Webhooks[0].NamespaceSelector.MatchExpressions[0].Values = append(v.Webhooks[0].NamespaceSelector.MatchExpressions[0].Values, "default")
		},
		"a webhook more": func(v *admissionregistrationv1.ValidatingWebhookConfiguration) {
			w := *v.Webhooks[0].DeepCopy()
			w.Name = "other.boltseal.dev"
			v.Webhooks = append(v.Webhooks, w)
		},
		"no webhook": func(v *admissionregistrationv1.ValidatingWebhookConfiguration) { v.Webhooks = nil },
		"no owner":   func(v *admissionregistrationv1.ValidatingWebhookConfiguration) { v.OwnerReferences = nil },
		"no label":   func(v *admissionregistrationv1.ValidatingWebhookConfiguration) { v.Labels = nil },
	}
	for name, edit := range edits {
		eventually(t, "edit "+name, func() error {
			_, v, err := configurations(ctx)
			if err != nil {
				return err
			}
			edit(v)
			return cl.Update(ctx, v)
		})
		eventually(t, name+" is put back", func() error {
			_, v, err := configurations(ctx)
			if err != nil {
				return err
			}
			return want(equality.Semantic.DeepEqual(v.Webhooks, validating.Webhooks) && equality.Semantic.DeepEqual(v.OwnerReferences, validating.OwnerReferences) &&
				v.Labels["app.kubernetes.io/managed-by"] == "boltseal", "%+v", v)
		})
	}
	for _, o := range []client.Object{mutating, validating} {
		if err := cl.Delete(ctx, o.DeepCopyObject().(client.Object)); err != nil {
			t.Fatal(err)
		}
	}
	settled(t)
	eventually(t, "what was deleted is back", func() error {
		m, v, err := configurations(ctx)
		if err != nil {
			return err
		}
		return want(equality.Semantic.DeepEqual(m.Webhooks, mutating.Webhooks) && equality.Semantic.DeepEqual(v.Webhooks, validating.Webhooks), "they are others")
	})
}

// TestBrokenSecret damages the Secret in every way while Pods are created.
func TestBrokenSecret(t *testing.T) {
	settled(t)
	ctx, cl := t.Context(), cluster.Client()
	signed, _ := image("signed", signer)
	ns := namespace(t, "prod")
	before, err := secret(ctx)
	if err != nil {
		t.Fatal(err)
	}
	stop := load(t, 4, ns, signed)
	for name, damage := range map[string]func(d map[string][]byte){
		"no certificate": func(d map[string][]byte) { d["tls.crt"] = []byte("no certificate") },
		"no key":         func(d map[string][]byte) { d["tls.key"] = nil },
		"another's key":  func(d map[string][]byte) { d["tls.key"] = otherKey(t) },
		"no CAs":         func(d map[string][]byte) { d["ca.crt"] = nil },
		"no authorities": func(d map[string][]byte) { d["authorities.json"] = []byte("{}") },
		"all swapped": func(d map[string][]byte) {
			d["tls.crt"], d["tls.key"], d["ca.crt"] = d["ca.crt"], d["tls.crt"], d["tls.key"]
		},
	} {
		eventually(t, name, func() error {
			s, err := secret(ctx)
			if err != nil {
				return err
			}
			damage(s.Data)
			return cl.Update(ctx, s)
		})
		eventually(t, name+": it is mended", func() error {
			s, err := secret(ctx)
			if err != nil {
				return err
			}
			return want(equality.Semantic.DeepEqual(s.Data, before.Data), "it is not what it was")
		})
	}
	if err := cl.Delete(ctx, before.DeepCopy()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the Secret is back", func() error {
		s, err := secret(ctx)
		if err != nil {
			return err
		}
		return want(equality.Semantic.DeepEqual(s.Data, before.Data), "it is not what it was")
	})
	t.Logf("%d creates while the Secret was damaged and deleted", stop())
}

// otherKey is a key that fits nothing here.
func otherKey(t *testing.T) []byte {
	t.Helper()
	ca, err := kit.NewCA("other", nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(kit.ForServer, pkix.Name{CommonName: "other"}, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	return pair.Key
}

// TestRemove shows what an administrator does to be rid of the webhooks.
func TestRemove(t *testing.T) {
	settled(t)
	remove := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), binary, "webhook", "remove", "--kubeconfig", cluster.Kubeconfig()).CombinedOutput()
		return string(out), err
	}
	if out, err := remove(); err == nil || !strings.Contains(out, "a running Boltseal has put them back") {
		t.Errorf("with replicas that keep them: %v\n%s", err, out)
	}
	settled(t)
	stopAll(t, (*replica).stop)
	defer restart(t)
	if out, err := remove(); err != nil || strings.Count(out, ": removed") != 2 {
		t.Errorf("without replicas: %v\n%s", err, out)
	}
	unsigned, _ := image("unsigned")
	ns, err := cluster.Namespace(t.Context(), "prod", map[string]string{"stage": "prod"})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing is judged", func() error { return cluster.Client().Create(t.Context(), pod(ns, "p", unsigned), client.DryRunAll) })
	// What was printed can be applied, and gets its CAs by a replica that makes none itself.
	printed, err := exec.CommandContext(t.Context(), binary, "webhook", "print", "--service", fmt.Sprintf("boltseal:%d", front.port())).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(t.Context(), string(printed)); err != nil {
		t.Fatal(err)
	}
	r, err := start(t.Context(), "--webhook", "off")
	if err != nil {
		t.Fatal(err)
	}
	settled(t)
	eventually(t, "it is judged again", func() error {
		return denied(cluster.Client().Create(t.Context(), pod(ns, "p", unsigned), client.DryRunAll))
	})
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// TestUninstall deletes what the webhook configurations belong to, while replicas run: nothing may be left that
// refuses Pods.
func TestUninstall(t *testing.T) {
	settled(t)
	ctx, cl := t.Context(), cluster.Client()
	if err := cl.Delete(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "boltseal"}}); err != nil {
		t.Fatal(err)
	}
	gone := func() error {
		for _, o := range []client.Object{&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}} {
			if err := cl.Get(ctx, client.ObjectKey{Name: "boltseal"}, o); !apierrors.IsNotFound(err) {
				return errors.Join(errors.New("one is there"), err)
			}
		}
		return nil
	}
	eventually(t, "the webhook configurations went with their owner", gone)
	await.Throughout(3*time.Second, func() {
		if err := gone(); err != nil {
			t.Fatalf("they were made again: %v", err)
		}
	})
	if err := cluster.Apply(ctx, rights); err != nil {
		t.Fatal(err)
	}
	settled(t)
}

// stopAll ends the standing replicas.
func stopAll(t *testing.T, end func(*replica) error) {
	t.Helper()
	for _, r := range standing {
		if err := end(r); err != nil {
			t.Error(err)
		}
	}
	standing = nil
}

// restart brings two standing replicas back.
func restart(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	for range 2 - len(standing) {
		r, err := start(ctx, args...)
		if err != nil {
			t.Fatal(err)
		}
		standing = append(standing, r)
	}
	for _, r := range standing {
		if err := r.waitReady(ctx); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both replicas are in the service", func() error {
		return want(front.leadsTo(standing[0]) && front.leadsTo(standing[1]), "one is not ready")
	})
}

// logs are the ends of all replicas' logs, for a test that failed.
func logs() string {
	var b bytes.Buffer
	all, _ := filepath.Glob(filepath.Join(cluster.Dir(), "logs", "boltseal-*.log"))
	for _, name := range all {
		text, _ := os.ReadFile(name)
		fmt.Fprintf(&b, "%s:\n%s\n", filepath.Base(name), text[max(0, len(text)-3000):])
	}
	return b.String()
}
