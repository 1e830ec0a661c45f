package tests

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestVerifyConfigOfTheDocuments applies the file that users have, as they do,
// and measures how long it takes until images are judged by it.
func TestVerifyConfigOfTheDocuments(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	unsigned, _ := house.Signed("unsigned")
	foreign, _ := house.Signed("foreign", house.Stranger)
	begin := time.Now()
	kubectl(t, "apply", "-f", "../../examples/verify-config.yaml")
	applied := time.Now()
	eventually(t, "the unsigned image is found to be unsigned", func() error {
		trusted, text, err := boltseal.verdict(unsigned)
		return want(err == nil && !trusted && strings.Contains(text, "no referrers found"), "%t %s %v", trusted, text, err)
	})
	t.Logf("from the start of kubectl apply to the first correct verdict: %s; from its end: %s", time.Since(begin), time.Since(applied))
	if trusted, text, err := boltseal.verdict(foreign); err != nil || trusted || !strings.Contains(text, `"name":"notation"`) {
		t.Errorf("an image that somebody else signed: %t %s %v", trusted, text, err)
	}
	st, _ := stands(t, "CertificateStore", "default", "certstore-inline", true)
	if text := fmt.Sprint(st["properties"]); !strings.Contains(text, "CN=Ratify Sample") || !strings.Contains(text, "2033-06-26") || st["lastfetchedtime"] == nil {
		t.Errorf("status %v", st)
	}
	stands(t, "Store", "", "store-oras", true)
	stands(t, "Verifier", "", "verifier-notary-inline", true)
	if out := kubectl(t, "get", "certificatestores,stores,verifiers", "-A"); strings.Count(out, "true") != 3 {
		t.Errorf("kubectl get:\n%s", out)
	}
}

// TestVerifyConfigWithAnotherRoot is the same file with another certificate in it:
// what that signed is trusted from then on.
func TestVerifyConfigWithAnotherRoot(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	signed, _ := house.Signed("signed", house.Signer)
	unsigned, _ := house.Signed("unsigned")
	data, err := os.ReadFile("../../examples/verify-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	i, j := strings.Index(text, "      -----BEGIN"), strings.Index(text, "\n---")
	text = text[:i] + "      " + strings.ReplaceAll(strings.TrimSpace(string(house.Signer.Root().PEM())), "\n", "\n      ") + text[j:]
	file := t.TempDir() + "/verify-config.yaml"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	kubectl(t, "apply", "-f", file)
	applied := time.Now()
	eventually(t, "the signed image is trusted", func() error {
		trusted, text, err := boltseal.verdict(signed)
		return want(err == nil && trusted, "%t %s %v", trusted, text, err)
	})
	t.Logf("from the start of kubectl apply to the first image that is trusted: %s; from its end: %s", time.Since(begin), time.Since(applied))
	becomes(t, unsigned, false)
}

func TestOrderOfCreationDoesNotMatter(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	apply(t, verifier("", "verifier", "roots"))
	st, c := stands(t, "Verifier", "", "verifier", false)
	if c.Reason != "CertificatesMissing" || !strings.Contains(fmt.Sprint(st["error"]), "roots, which is not there") || st["brieferror"] == "" {
		t.Errorf("status %v", st)
	}
	apply(t, store(""))
	becomes(t, image, false)
	apply(t, provider("", "roots", house.Signer))
	becomes(t, image, true)
	st, _ = stands(t, "Verifier", "", "verifier", true)
	if st["error"] != nil || st["brieferror"] != nil {
		t.Errorf("what was mended is still told: %v", st)
	}
}

func TestBrokenEditKeepsServingAndSaysSo(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"))
	stands(t, "KeyManagementProvider", "", "roots", true)
	becomes(t, image, true)

	apply(t, document("KeyManagementProvider", "", "roots", "type: inline\n  parameters: {value: this is no certificate}"))
	st, c := stands(t, "KeyManagementProvider", "", "roots", false)
	if c.Reason != "LastGoodInForce" || !strings.Contains(fmt.Sprint(st["error"]), "spec.parameters.value") || st["lastfetchedtime"] == nil {
		t.Errorf("status %v", st)
	}
	becomes(t, image, true)
	stands(t, "Verifier", "", "verifier", true)
	eventually(t, "an event tells of it", func() error {
		var events corev1.EventList
		if err := cluster.Client().List(t.Context(), &events, client.InNamespace("default")); err != nil {
			return err
		}
		for _, e := range events.Items {
			if e.InvolvedObject.Kind == "KeyManagementProvider" && e.Type == corev1.EventTypeWarning && e.Reason == "LastGoodInForce" {
				return nil
			}
		}
		return fmt.Errorf("%d events", len(events.Items))
	})
	if _, text, _ := get(t.Context(), boltseal.metrics+"/metrics"); !strings.Contains(text, `boltseal_resources{kind="KeyManagementProvider",ready="false"} 1`) || !strings.Contains(text, "boltseal_config_last_load_successful 0") {
		t.Error("the metrics do not tell of the broken resource")
	}

	// An unknown field, a name that leads nowhere: the Verifier as it was stays in force.
	apply(t, strings.Replace(verifier("", "verifier", "roots"), "verificationCertStores", "verificationCertStore", 1))
	if st, c := stands(t, "Verifier", "", "verifier", false); c.Reason != "LastGoodInForce" || !strings.Contains(fmt.Sprint(st["error"]), "verificationCertStore") {
		t.Errorf("status %v", st)
	}
	becomes(t, image, true)
	apply(t, verifier("", "verifier", "rots"))
	if _, c := stands(t, "Verifier", "", "verifier", false); c.Reason != "LastGoodInForce" {
		t.Errorf("condition %v", c)
	}
	becomes(t, image, true)

	apply(t, provider("", "roots", house.Stranger), verifier("", "verifier", "roots"))
	becomes(t, image, false)
	stands(t, "KeyManagementProvider", "", "roots", true)
	stands(t, "Verifier", "", "verifier", true)
}

func TestDeletionTakesEffect(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"))
	becomes(t, image, true)
	remove(t, "KeyManagementProvider", "", "roots")
	becomes(t, image, false)
	stands(t, "Verifier", "", "verifier", false)
	apply(t, provider("", "roots", house.Signer))
	becomes(t, image, true)
	remove(t, "Verifier", "", "verifier")
	becomes(t, image, false)
}

func TestBrokenResourceTakesDownNothingElse(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	a, b := namespace(t, nil), namespace(t, nil)
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"))
	// Namespace a has a broken Verifier of its own, b one that works, and a third nothing.
	apply(t, document("Verifier", a, "verifier", "name: notary\n  artifactTypes: application/vnd.cncf.notary.signature"),
		provider(b, "own", house.Stranger), verifier(b, "verifier", "own"), document("KeyManagementProvider", "", "other", "type: azure"))
	stands(t, "NamespacedVerifier", a, "verifier", false)
	stands(t, "KeyManagementProvider", "", "other", false)
	becomes(t, image, true)
	becomes(t, "["+b+"]"+image, false)
	if trusted, text, err := boltseal.verdict("[" + a + "]" + image); err != nil || trusted || !strings.Contains(text, "NamespacedVerifier "+a+"/verifier") {
		t.Errorf("a namespace whose only verifier is broken falls back to the cluster's: %t %s %v", trusted, text, err)
	}
	// With a working verifier of its own beside the broken one it is the same: what the broken one would have said is not known.
	apply(t, verifier(a, "good", "roots"))
	stands(t, "NamespacedVerifier", a, "good", true)
	remove(t, "NamespacedVerifier", a, "verifier")
	becomes(t, "["+a+"]"+image, true)
}

func TestPoliciesOfClusterAndNamespace(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	both, _ := house.Signed("both", house.Signer, house.Stranger)
	plain, team := namespace(t, nil), namespace(t, map[string]string{"images": "trusted"})
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"),
		provider(team, "own", house.Stranger), verifier(team, "verifier", "own"),
		document("ImageIntegrityPolicy", "", "labelled", "match: {namespaceSelector: {matchLabels: {images: trusted}}}"))
	stands(t, "ImageIntegrityPolicy", "", "labelled", true)
	unsigned, _ := house.Signed("unsigned")
	admission(t, plain, unsigned, true) // the policy does not select it
	admission(t, team, unsigned, false)
	// The namespace's own verifier trusts somebody else, and has no say in the cluster's policy.
	admission(t, team, image, true)
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: plain}, &corev1.Namespace{}); err != nil {
		t.Fatal(err)
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: plain}}
	if err := cluster.Client().Patch(t.Context(), ns, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"images":"trusted"}}}`))); err != nil {
		t.Fatal(err)
	}
	admission(t, plain, unsigned, false)
	// What a team demands of itself comes on top.
	apply(t, document("ImageIntegrityPolicy", team, "own", "enforcementAction: deny"))
	stands(t, "NamespacedImageIntegrityPolicy", team, "own", true)
	admission(t, team, image, false)
	admission(t, team, both, true)
	admission(t, plain, image, true)
	remove(t, "NamespacedImageIntegrityPolicy", team, "own")
	admission(t, team, image, true)
	remove(t, "ImageIntegrityPolicy", "", "labelled")
	admission(t, team, unsigned, true)
}

func admission(t testing.TB, namespace, image string, allowed bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s in %s is admitted: %t", image, namespace, allowed), func() error {
		got, text := boltseal.admits(t, namespace, image)
		return want(got == allowed, "%t: %s", got, text)
	})
}

func namespace(t testing.TB, labels map[string]string) string {
	t.Helper()
	ns, err := cluster.Namespace(t.Context(), "test", labels)
	if err != nil {
		t.Fatal(err)
	}
	return ns
}
