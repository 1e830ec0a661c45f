package kube_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/kube"
	keyskube "github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/oci"
)

func (h *house) pods() *kube.Pods {
	return kube.NewPods(keyskube.Objects{Client: h}, func() time.Time { return time.Unix(h.now.Load(), 0) })
}

func userOf(t *testing.T, s oci.CredentialSource, host string) string {
	t.Helper()
	c, err := s.Credential(t.Context(), host, "app")
	if err != nil {
		t.Fatal(err)
	}
	return c.Username
}

// TestPodsIdentity: who has the same content is the same, wherever it is; who has
// not is another; and who has nothing is nobody.
func TestPodsIdentity(t *testing.T) {
	t.Parallel()
	mine, theirs := auths("me", "r.example"), auths("they", "r.example")
	h := newHouse(t, secret("a", "pull", corev1.DockerConfigKey, mine), secret("b", "copy", corev1.DockerConfigKey, mine), secret("b", "pull", corev1.DockerConfigKey, theirs),
		secret("b", "broken", corev1.DockerConfigKey, "{"), secret("c", "broken", corev1.DockerConfigKey, "{"), account("a", "default", "pull"), account("a", "puller", "gone", "pull"), account("b", "default"))
	p := h.pods()
	of := func(namespace string, secrets []string, account string) (string, oci.CredentialSource) {
		t.Helper()
		return p.Of(t.Context(), namespace, secrets, account)
	}
	a, source := of("a", []string{"pull"}, "")
	if got := userOf(t, source, "r.example"); a == "" || got != "me" {
		t.Errorf("%q %q", a, got)
	}
	if got := userOf(t, source, "r.example.evil.example"); got != "" {
		t.Errorf("a lookalike is shown %q", got)
	}
	for _, same := range []struct {
		namespace string
		secrets   []string
		account   string
	}{
		{"a", nil, ""}, {"a", nil, "puller"}, {"a", []string{"pull", "pull", ""}, "nobody"}, {"a", []string{"gone", "pull"}, ""}, {"b", []string{"copy"}, ""},
	} {
		if id, s := of(same.namespace, same.secrets, same.account); id != a || userOf(t, s, "r.example") != "me" {
			t.Errorf("%+v is somebody else", same)
		}
	}
	seen := map[string]bool{a: true}
	for _, other := range [][]string{{"pull"}, {"copy", "pull"}, {"pull", "copy"}} {
		id, _ := of("b", other, "")
		if id == "" || seen[id] {
			t.Errorf("%v is %q", other, id)
		}
		seen[id] = true
	}
	for _, none := range []struct {
		namespace string
		secrets   []string
		account   string
	}{{"b", nil, "default"}, {"b", nil, "gone"}, {"b", []string{"gone"}, ""}, {"nowhere", nil, ""}} {
		if id, s := of(none.namespace, none.secrets, none.account); id != "" || s != nil {
			t.Errorf("%+v is %q", none, id)
		}
	}
	// What is broken is said, and is nobody else's.
	b, source := of("b", []string{"broken"}, "")
	c, _ := of("c", []string{"broken"}, "")
	if b == "" || b == c {
		t.Errorf("%q %q", b, c)
	}
	if _, err := source.Credential(t.Context(), "r.example", "app"); !errors.Is(err, boltseal.ErrMalformed) || !strings.Contains(err.Error(), "podPullSecrets: r.example: read Secret b/broken") {
		t.Error(err)
	}
}

// TestPodsThatCannotBeRead: it is an error of the source, and not nobody.
func TestPodsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	h := newHouse(t, secret("a", "pull", corev1.DockerConfigKey, auths("me", "r.example")))
	p := h.pods()
	var forbidden error = apierrors.NewForbidden(schema.GroupResource{Resource: "secrets"}, "pull", errors.New("no right"))
	h.fault.Store(&forbidden)
	id, s := p.Of(t.Context(), "a", []string{"pull"}, "")
	if id == "" {
		t.Fatal("nobody")
	}
	if _, err := s.Credential(t.Context(), "r.example", "app"); err == nil || errors.Is(err, credential.ErrNotForHost) || !strings.Contains(err.Error(), "HTTP 403") {
		t.Error(err)
	}
	h.fault.Store(nil)
	h.now.Add(60)
	if now, s := p.Of(t.Context(), "a", []string{"pull"}, ""); now == id || userOf(t, s, "r.example") != "me" {
		t.Error("it is not read again")
	}
	many := make([]string, 40)
	for i := range many {
		many[i] = strings.Repeat("x", i+1)
	}
	for _, names := range [][]string{many, {"No Name"}} {
		id, s := p.Of(t.Context(), "a", names, "")
		if _, err := s.Credential(t.Context(), "r.example", "app"); id == "" || !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("%.40q: %q %v", names, id, err)
		}
	}
	id, s = kube.NewPods(nil, nil).Of(t.Context(), "a", []string{"pull"}, "")
	if _, err := s.Credential(t.Context(), "r.example", "app"); id == "" || !errors.Is(err, boltseal.ErrConfiguration) {
		t.Error(err)
	}
}

// TestPodsReadAnew: what is given does not change; where a registry refused it, the
// next Pod's is read anew.
func TestPodsReadAnew(t *testing.T) {
	t.Parallel()
	old := secret("a", "pull", corev1.DockerConfigKey, auths("old", "r.example"))
	h := newHouse(t, old)
	p := h.pods()
	was, before := p.Of(t.Context(), "a", []string{"pull"}, "")
	edited := old.DeepCopy()
	edited.Data[corev1.DockerConfigKey] = []byte(auths("new", "r.example"))
	if err := h.Update(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	if id, _ := p.Of(t.Context(), "a", []string{"pull"}, ""); id != was {
		t.Error("it was read again within a moment")
	}
	refused, err := before.Credential(t.Context(), "r.example", "app")
	if err != nil {
		t.Fatal(err)
	}
	before.(oci.Invalidator).Invalidate("r.example", "app", refused)
	now, after := p.Of(t.Context(), "a", []string{"pull"}, "")
	if now == was || userOf(t, after, "r.example") != "new" || userOf(t, before, "r.example") != "old" {
		t.Errorf("%s after %s", userOf(t, after, "r.example"), userOf(t, before, "r.example"))
	}
}
