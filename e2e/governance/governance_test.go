package governance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/product"
)

// assign makes an assignment at the hub that denies.
func assign(t *testing.T, name, scope string, more ...string) {
	t.Helper()
	ok(t, append([]string{"policy", "assignment", "create", "--name", name, "--scope", scope, "-d", "image-integrity", "--params", `{"effect": {"value": "Deny"}}`}, more...)...)
	t.Cleanup(func() {
		_, err := boltseal(context.Background(), "policy", "assignment", "delete", "--name", name)
		if err != nil {
			t.Error(err)
		}
	})
}

// quiet waits at a test's end until nothing is demanded of anybody.
func quiet(t *testing.T) {
	t.Helper()
	sites := []*site{hub, fra1, fra2}
	var namespaces []string
	for _, s := range sites {
		namespaces = append(namespaces, s.namespace(t))
	}
	t.Cleanup(func() {
		eventually(t, "nothing is required any more", func() error {
			for i, s := range sites {
				if made, err := s.governed(context.Background()); err != nil || len(made) > 0 {
					return fmt.Errorf("%s: %v %v", s.name, made, err)
				}
				// What is not there any more stays in force for a moment.
				if is, err := s.admits(context.Background(), namespaces[i], unsigned); err != nil || !is {
					return fmt.Errorf("%s: admitted %t: %v", s.name, is, err)
				}
			}
			return nil
		})
	})
}

// TestDeny: what is assigned at the hub denies in the member it is for and in no other, and shows at the hub with
// the image's name.
func TestDeny(t *testing.T) {
	ns1, ns2 := fra1.namespace(t), fra2.namespace(t)
	fra1.until(t, "before", ns1, unsigned, true) // what the test before demanded may still be going
	fra1.run(t, ns1, "old", unsigned)

	t.Cleanup(func() { // a failure here is not one of the tests that follow
		if t.Failed() {
			_, _ = boltseal(context.Background(), "policy", "assignment", "delete", "--name", "deny")
		}
	})
	begin := time.Now()
	ok(t, "policy", "assignment", "create", "--name", "deny", "--scope", "/emea/fra1", "-d", "image-integrity", "--params", `{"effect": {"value": "Deny"}}`)
	assigned := time.Now()
	fra1.until(t, "an unsigned Pod is denied", ns1, unsigned, false)
	t.Logf("from the command's end to the denial: %s; from its start: %s", time.Since(assigned).Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	reported(t, "fra1", "NonCompliant")
	t.Logf("from the command's end to the compliance: %s", time.Since(assigned).Round(time.Millisecond))
	fra1.is(t, "a signed Pod", ns1, signed, true)
	fra2.is(t, "out of scope", ns2, unsigned, true)

	eventually(t, "compliance names the image", func() error {
		out, err := boltseal(t.Context(), "compliance", "--cluster", "fra1", "--by", "image")
		if strings.Contains(out, unsigned[strings.LastIndex(unsigned, "@"):][:20]) || strings.Contains(out, repo) {
			return nil // it ends with 1: something is not compliant
		}
		return err
	})

	eventually(t, "the trend has it", func() error {
		out, err := boltseal(t.Context(), "compliance", "--by", "trend", "--assignment", "deny", "-o", "csv")
		if err == nil && !strings.Contains(out, "deny,") {
			err = errors.New(out)
		}
		return err
	})

	// What is exempt is admitted at once, and denied when the exemption goes.
	ok(t, "policy", "exemption", "create", "--name", "legacy", "--policy-assignment", "deny", "--exemption-category", "Waiver", "--namespace", ns1, "--expires-on", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	fra1.until(t, "an exempt Pod is admitted", ns1, unsigned, true)
	reported(t, "fra1", "Compliant")
	ok(t, "policy", "exemption", "delete", "--name", "legacy")
	fra1.until(t, "it is denied again", ns1, unsigned, false)

	// A hand edit is put back, and what somebody else has made stays.
	theirs := object(v1alpha1.KindImageIntegrityPolicy, "theirs")
	theirs.Object["spec"] = map[string]any{"match": map[string]any{"namespaces": []any{"elsewhere"}}}
	need(t, fra1.cluster.Client().Create(t.Context(), theirs))
	made, err := fra1.governed(t.Context())
	if err != nil || len(made) != 1 {
		t.Fatal(made, err)
	}
	for name := range made {
		need(t, fra1.cluster.Client().Delete(t.Context(), object(v1alpha1.KindImageIntegrityPolicy, name)))
	}
	fra1.restored(t, 1)
	fra1.until(t, "denied after a hand edit", ns1, unsigned, false)

	ok(t, "policy", "assignment", "delete", "--name", "deny")
	fra1.until(t, "nothing is required any more", ns1, unsigned, true)
	if err := fra1.cluster.Client().Get(t.Context(), client.ObjectKey{Name: "theirs"}, theirs); err != nil {
		t.Error(err)
	}
	need(t, fra1.cluster.Client().Delete(t.Context(), theirs))
}

// TestOwnHub: the hub demands things of its own cluster without anything set up.
func TestOwnHub(t *testing.T) {
	eventually(t, "the hub's own cluster is registered", func() error {
		_, _, err := state(t.Context(), hub.name)
		return err
	})
	quiet(t)
	assign(t, "own", "/")
	eventually(t, "all three have it", func() error {
		for _, s := range []*site{hub, fra1, fra2} {
			if made, err := s.governed(t.Context()); err != nil || len(made) == 0 {
				return os.ErrNotExist
			}
		}
		return nil
	})
}

// TestHubKilled: the hub's Boltseal is killed in the middle of things and comes again: nothing is lost, nothing is
// double, and members deny all the while.
func TestHubKilled(t *testing.T) {
	ns1, ns2 := fra1.namespace(t), fra2.namespace(t)
	quiet(t)
	assign(t, "first", "/emea/fra1")
	fra1.until(t, "denied", ns1, unsigned, false)
	before, err := fra1.governed(t.Context())
	need(t, err)

	need(t, hub.server.Process.Kill())
	assign(t, "second", "/emea/fra2") // the API server takes it; nobody acts on it
	await.Throughout(time.Second, func() {
		fra1.is(t, "without the hub", ns1, unsigned, false)
	})
	fra2.is(t, "without the hub", ns2, unsigned, true)

	need(t, hub.start(t.Context()))
	fra2.until(t, "what was assigned meanwhile denies", ns2, unsigned, false)
	reported(t, "fra2", "Compliant")
	after, err := fra1.governed(t.Context())
	if err != nil || !maps.Equal(before, after) {
		t.Errorf("before %v, after %v: %v", before, after, err)
	}
	if made, err := fra2.governed(t.Context()); err != nil || len(made) != 1 {
		t.Errorf("%v %v", made, err)
	}
}

// TestMemberCutOff: a member that does not reach the hub goes on, also when it is started anew, and catches up.
// BOLTSEAL_CUT_OFF says for how long (5s).
func TestMemberCutOff(t *testing.T) {
	length := 5 * time.Second
	if text := os.Getenv("BOLTSEAL_CUT_OFF"); text != "" {
		var err error
		length, err = time.ParseDuration(text)
		need(t, err)
	}
	ns := fra2.namespace(t)
	quiet(t)
	assign(t, "kept", "/emea/fra2")
	fra2.until(t, "denied", ns, unsigned, false)
	before, err := fra2.governed(t.Context())
	need(t, err)

	way.close()
	defer way.open()
	need(t, fra2.server.Process.Stop(await.Limit))
	need(t, fra2.start(t.Context()))
	need(t, fra2.cluster.Client().Delete(t.Context(), fra2.webhook()))
	need(t, fra2.cluster.Client().Create(t.Context(), fra2.webhook()))
	need(t, fra2.cluster.Client().Delete(t.Context(), product.Pinning(fra2.webhook())))
	need(t, fra2.cluster.Client().Create(t.Context(), product.Pinning(fra2.webhook())))
	for name := range before { // by hand, while the hub is away
		need(t, fra2.cluster.Client().Delete(t.Context(), object(v1alpha1.KindImageIntegrityPolicy, name)))
	}
	fra2.restored(t, len(before))
	fra2.until(t, "cut off and started anew: denied", ns, unsigned, false)
	ok(t, "policy", "exemption", "create", "--name", "meanwhile", "--policy-assignment", "kept", "--exemption-category", "Waiver", "--namespace", ns, "--expires-on", time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	await.Throughout(length, func() {
		fra2.is(t, "cut off", ns, unsigned, false)
	})
	way.open()
	fra2.until(t, "it has caught up", ns, unsigned, true)
	ok(t, "policy", "exemption", "delete", "--name", "meanwhile")
	fra2.until(t, "denied again", ns, unsigned, false)
	after, err := fra2.governed(t.Context())
	if err != nil || !slices.Equal(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after))) {
		t.Errorf("before %v, after %v: %v", before, after, err)
	}
	_, u, err := state(t.Context(), "fra2")
	need(t, err)
	all, _, err := unstructured.NestedSlice(u.Object, "status", "assignments")
	seen := map[string]bool{}
	for _, a := range all {
		m, _ := a.(map[string]any)
		if key := fmt.Sprint(m["assignment"], m["policyDefinitionReferenceId"]); seen[key] || m["assignment"] != "kept" {
			t.Errorf("%v stands in the status twice, or should not", m)
		} else {
			seen[key] = true
		}
	}
	if err != nil || len(all) == 0 {
		t.Errorf("%v %v", all, err)
	}
}
