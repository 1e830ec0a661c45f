package chart

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal/e2e/render"
)

// TestPodPullSecretsNeedAProof: the chart gives no right to Pods' Secrets where
// nothing proves that the API server asks, and no proof that does not hold.
func TestPodPullSecretsNeedAProof(t *testing.T) {
	t.Parallel()
	for values, word := range map[string]string{
		"keySources: {podPullSecrets: [team]}":                                   "podPullSecrets needs a proof that the API server asks",
		"webhook: {apiServers: [api-server]}":                                    "apiServers",
		"{webhook: {apiServers: [10.0.0.0/8]}, hostNetwork: true}":               "without a NetworkPolicy anybody could reach",
		"{webhook: {apiServers: [10.0.0.0/8]}, networkPolicy: {enabled: false}}": "without a NetworkPolicy anybody could reach",
	} {
		if _, err := render.Render(render.Options{Chart: folder, Values: []string{values}}); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", values, err)
		}
	}
	for values, want := range map[string]string{
		"{keySources: {podPullSecrets: [team]}, webhook: {clientCAConfigMap: api}}":          "--admission-client-ca=/webhook-client-ca/ca.crt",
		"{keySources: {podPullSecrets: [team]}, webhook: {apiServers: [10.0.0.0/28]}}":       "--admission-trust-network",
		"{webhook: {apiServers: [10.0.0.0/28, \"fd00::/64\"]}, gatekeeper: {enabled: true}}": "from:\n        - ipBlock: {cidr: \"10.0.0.0/28\"}\n        - ipBlock: {cidr: \"fd00::/64\"}\n        - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: \"gatekeeper-system\"}}\n",
		// The audit of what runs reads the Pods that it names at the API server.
		"{keySources: {podPullSecrets: [team]}, webhook: {enabled: false}}": "boltseal-pull-secrets",
	} {
		r, err := render.Render(render.Options{Chart: folder, Values: []string{values}})
		if err != nil || !strings.Contains(r.Objects, want) {
			t.Errorf("%s: %v: no %q", values, err, want)
		}
	}
	if r := rendered(t, render.Options{}); strings.Contains(r.Objects, "admission-trust-network") {
		t.Error("the network is trusted by default")
	}
}
