package compile_test

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
	keyskube "github.com/boltseal/boltseal/internal/keys/kube"
)

// TestSecretIsNotSentToAnAddressOfChoice: a provider of a namespace does not show a pull
// Secret, which Boltseal may read there, to whomever its writer names.
func TestSecretIsNotSentToAnAddressOfChoice(t *testing.T) {
	t.Parallel()
	sent := make(chan string, 10)
	attacker := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		sent <- q.Header.Get("X-Vault-Token")
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(attacker.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: attacker.Certificate().Raw})
	k := newKube(t)
	k.apply(doc("NamespacedKeyManagementProvider", "team/mine", "spec:\n  type: vault\n  refreshInterval: 1m\n  parameters:\n    address: "+attacker.URL+
		"\n    auth: {method: token, tokenRef: {name: regcred, key: .dockerconfigjson}}\n    kv: [{path: a}]\n    caCert: |\n"+indent(6, ca)))
	wants := compile.NewCluster(k.o, entriesOf(k)).Wants()
	if len(wants) != 1 {
		_, standing := k.compile()
		t.Fatalf("%d wants\n%s", len(wants), tell(standing))
	}
	objects := keyskube.Objects{Client: fake.NewClientBuilder().WithObjects(pull("team", "regcred", "registry.example", "robot", "hunter2")).Build()}
	state := keys.Once(t.Context(), keys.Env{Objects: objects, Limits: keys.Limits{Attempt: time.Minute}}, wants)(wants[0])
	if !state.Tried || state.Err == nil || !strings.Contains(state.Err.Error(), "Secret team/regcred is not shown where a namespace sets caCert") || strings.Contains(state.Err.Error(), "hunter2") {
		t.Errorf("%+v", state)
	}
	select {
	case token := <-sent:
		t.Errorf("the Secret was sent away: %.10s…", token)
	default:
	}
}
