package keys

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// announced counts how often it was told that certificates of a provider expire.
func announced(t *testing.T, name string) (times int64, messages []string) {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "EventList"})
	if err := cluster.Client().List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Items {
		about, _, _ := unstructured.NestedString(e.Object, "involvedObject", "name")
		if about != name || e.Object["reason"] != "CertificateExpires" {
			continue
		}
		n, _, _ := unstructured.NestedInt64(e.Object, "count")
		times += max(n, 1)
		message, _, _ := unstructured.NestedString(e.Object, "message")
		messages = append(messages, message)
	}
	return times, messages
}

// TestExpiry: what expires within 30 days is announced once, however often it is
// fetched anew; what has expired is named; after the renewal nothing is left of it.
func TestExpiry(t *testing.T) {
	const name = "ending"
	day := 24 * time.Hour
	self := func(common string, life time.Duration) testcloud.Version {
		return testcloud.Version{Chain: testca.Must(testca.NewSelfSigned(testca.Options{Leaf: testca.Spec{CommonName: common, NotBefore: time.Now().Add(-90 * day), NotAfter: time.Now().Add(life)}})).X509()}
	}
	vault.Add(name, self("late", 31*day))
	use(t, strings.Replace(provider("", "type: azurekeyvault, refreshInterval: 1s, parameters: {vaultURI: 'https://"+vaultHost+"/', certificates: [{name: "+name+"}]}"), "name: roots", "name: "+name, 1))
	condition := func(st status) *metav1.Condition {
		return meta.FindStatusCondition(st.Conditions, "CertificatesExpiring")
	}
	st := stands(t, "KeyManagementProvider", "", name, "it is fetched", func(st status) bool { return st.IsSuccess })
	if c := condition(st); c != nil && c.Status == metav1.ConditionTrue {
		t.Errorf("31 days ahead: %+v", c)
	}
	expires := func(part string) {
		t.Helper()
		stands(t, "KeyManagementProvider", "", name, part, func(st status) bool {
			c := condition(st)
			return c != nil && c.Status == metav1.ConditionTrue && strings.Contains(c.Message, part)
		})
	}
	vault.Add(name, self("soon", 29*day))
	expires(`"CN=soon`)
	event(t, name, "CertificateExpires", "soon")
	// It is fetched many times more.
	from := len(cloud.Requests(vaultHost))
	eventually(t, "it is fetched five times more", func() error {
		if n := len(cloud.Requests(vaultHost)) - from; n < 5 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	if n, messages := announced(t, name); n != 1 {
		t.Errorf("announced %d times: %q", n, messages)
	}
	vault.Add(name, self("over", -day))
	expires("expired on")
	event(t, name, "CertificateExpires", "expired on")
	vault.Add(name, self("renewed", 365*day))
	st = stands(t, "KeyManagementProvider", "", name, "it is renewed", func(st status) bool {
		c := condition(st)
		return c != nil && c.Status == metav1.ConditionFalse
	})
	if at := st.Properties.EarliestExpiry; at == nil || time.Until(at.Time) < 364*day {
		t.Errorf("the column says %v", at)
	}
	if n, messages := announced(t, name); n != 2 {
		t.Errorf("announced %d times: %q", n, messages)
	}
}
