package upgrade

import (
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/await"
)

// values are those of the test; all else is the chart's.
const values = `
audit: {interval: 5s}
log: {level: debug}
gatekeeper: {enabled: true}
`

// helm is Helm, as its command line would be for the release.
func helm(t *testing.T) *action.Configuration {
	t.Helper()
	flags := genericclioptions.NewConfigFlags(true)
	kubeconfig, cache, ns := cluster.Kubeconfig(), filepath.Join(t.TempDir(), "discovery"), system
	flags.KubeConfig, flags.CacheDir, flags.Namespace = &kubeconfig, &cache, &ns
	flags.WrapConfigFn = func(c *rest.Config) *rest.Config {
		c.QPS = -1
		return c
	}
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := cfg.Init(flags, system, "secret"); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// valuesOf are this cluster's values and more of them.
func valuesOf(t *testing.T, more []string) map[string]any {
	t.Helper()
	v, err := common.ReadValues([]byte(values + strings.Join(more, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func install(t *testing.T, chart string, more ...string) error {
	t.Helper()
	c, err := loader.LoadDir(chart)
	if err != nil {
		t.Fatal(err)
	}
	i := action.NewInstall(helm(t))
	i.ReleaseName, i.Namespace, i.Timeout, i.WaitStrategy = release, system, await.Limit, kube.StatusWatcherStrategy
	_, err = i.RunWithContext(t.Context(), c, valuesOf(t, more))
	return err
}

func upgrade(t *testing.T, chart string, more ...string) error {
	t.Helper()
	c, err := loader.LoadDir(chart)
	if err != nil {
		t.Fatal(err)
	}
	u := action.NewUpgrade(helm(t))
	u.Namespace, u.Timeout, u.WaitStrategy = system, await.Limit, kube.StatusWatcherStrategy
	_, err = u.RunWithContext(t.Context(), release, c, valuesOf(t, more))
	return err
}

func rollback(t *testing.T, revision int) error {
	t.Helper()
	r := action.NewRollback(helm(t))
	r.Version, r.Timeout, r.WaitStrategy = revision, await.Limit, kube.StatusWatcherStrategy
	return r.Run(release)
}

func uninstall(t *testing.T) error {
	t.Helper()
	u := action.NewUninstall(helm(t))
	u.Timeout, u.WaitStrategy = await.Limit, kube.StatusWatcherStrategy
	_, err := u.Run(release)
	return err
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
