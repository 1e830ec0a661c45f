package upgrade

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/render"
)

// values are what this cluster needs: a Service's port is that of what stands in for it.
func values() string {
	return fmt.Sprintf(`
service: {port: %d}
shutdown: {delaySeconds: 1}
audit: {interval: 5s}
log: {level: debug}
gatekeeper: {enabled: true}
`, machine.port())
}

// loopback leads Boltseal's Service to this machine: there is no service network.
type loopback struct{}

func (loopback) Run(in *bytes.Buffer) (*bytes.Buffer, error) {
	all, err := kit.Parse(in.String())
	if err != nil {
		return nil, err
	}
	for _, u := range all {
		if u.GetKind() == "Service" {
			u.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
		}
	}
	text, err := render.Marshal(all...)
	return bytes.NewBufferString(text), err
}

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
	v, err := common.ReadValues([]byte(values() + strings.Join(more, "\n")))
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
	i.ReleaseName, i.Namespace, i.Timeout, i.WaitStrategy, i.PostRenderer = release, system, await.Limit, kube.StatusWatcherStrategy, loopback{}
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
	u.Namespace, u.Timeout, u.WaitStrategy, u.PostRenderer = system, await.Limit, kube.StatusWatcherStrategy, loopback{}
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
		have, err := machine.versions(context.Background())
		if err != nil {
			return err
		}
		return want(len(have) == 1 && have[version] == 2, "versions %v; %w", have, machine.problems())
	})
}
