package upgrade

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/helm"
)

// values are those of the test; all else is the chart's.
const values = `
audit: {interval: 5s}
log: {level: debug}
gatekeeper: {enabled: true}
`

// helmRelease is the release under test.
func helmRelease() helm.Release {
	return helm.Release{Kubeconfig: cluster.Kubeconfig(), Namespace: system, Name: release}
}

func install(t *testing.T, chart string, more ...string) error {
	return helmRelease().Install(t.Context(), chart, append([]string{values}, more...)...)
}

func upgrade(t *testing.T, chart string, more ...string) error {
	return helmRelease().Upgrade(t.Context(), chart, append([]string{values}, more...)...)
}

// runs waits until Pods of a version, and no other, are ready.
func runs(t *testing.T, version string) {
	t.Helper()
	eventually(t, "version "+version+" runs", func() error {
		var pods corev1.PodList
		if err := cluster.Client().List(t.Context(), &pods, client.InNamespace(system), client.MatchingLabels{"app.kubernetes.io/component": "server"}); err != nil {
			return err
		}
		have := map[string]int{}
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			}) {
				have[p.Labels["app.kubernetes.io/version"]]++
			}
		}
		return want(len(have) == 1 && have[version] == 2, "versions %v; %w", have, node.Problems())
	})
}
