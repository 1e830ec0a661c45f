package governance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// TestRevoked: a member's report says who signed, the hub tells from it what would be denied without a certificate
// that is trusted now, and nothing is changed by the question.
func TestRevoked(t *testing.T) {
	ns := fra1.namespace(t)
	quiet(t)
	stranger, err := testca.New(testca.Options{})
	need(t, err)
	image := registry.PushImage(repo, "strange", 2)
	registry.Sign(repo, image, stranger, testca.SignOptions{})
	strange := registry.Host + "/" + repo + "@" + image.Digest.String()
	fra1.run(t, ns, "mine", signed)
	fra1.run(t, ns, "theirs", strange)
	assign(t, "signers", "/emea/fra1")

	subject := stranger.Leaf().Certificate.Subject.String()
	eventually(t, "the report names both signers", func() error {
		u := object("ClusterReport", "fra1")
		if err := hub.cluster.Client().Get(t.Context(), client.ObjectKey{Name: "fra1"}, u); err != nil {
			return err
		}
		demands, _, err := unstructured.NestedSlice(u.Object, "report", "demands")
		text := fmt.Sprint(demands)
		if err == nil && (!strings.Contains(text, "signer:"+subject) || !strings.Contains(text, trust.Fingerprint(signer.Leaf().Certificate))) {
			err = fmt.Errorf("%s", text)
		}
		return err
	})
	if out, _ := boltseal(t.Context(), "compliance", "--cluster", "fra1", "--by", "component", "-o", "json"); !strings.Contains(out, subject) {
		t.Errorf("compliance does not say who signed: %s", out)
	}

	file := filepath.Join(t.TempDir(), "leaf.crt")
	need(t, os.WriteFile(file, signer.Leaf().PEM(), 0o600))
	for _, revoked := range []string{file, trust.Fingerprint(signer.Leaf().Certificate), signer.Root().Certificate.Subject.String()} {
		out, err := boltseal(t.Context(), "policy", "what-if", "--revoked", revoked)
		if err == nil || !strings.Contains(out, "1 image in 1 Pod would be denied, 0 perhaps") || !strings.Contains(out, "its trust rests on a signature by "+signer.Leaf().Certificate.Subject.String()) {
			t.Errorf("%s: %v\n%s", revoked, err, out)
		}
	}
	if out := ok(t, "policy", "what-if", "--revoked", trust.Fingerprint(stranger.Leaf().Certificate)); !strings.Contains(out, "0 images in 0 Pods") {
		t.Error(out)
	}
	fra1.is(t, "nothing is changed by asking", ns, signed, true)
}
