// Package helm installs, upgrades, rolls back and removes a release as Helm's command line does.
package helm

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/kube"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/e2e/await"
)

// Release is a release of a chart in a cluster. All fields are required.
type Release struct {
	Kubeconfig, Namespace, Name string
}

// configuration is Helm's for one command.
func (r Release) configuration() (_ *action.Configuration, done func(), err error) {
	cache, err := os.MkdirTemp("", "helm-")
	if err != nil {
		return nil, nil, err
	}
	done = func() { _ = os.RemoveAll(cache) }
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig, flags.CacheDir, flags.Namespace = &r.Kubeconfig, &cache, &r.Namespace
	flags.WrapConfigFn = func(c *rest.Config) *rest.Config {
		c.QPS = -1
		return c
	}
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	if err := cfg.Init(flags, r.Namespace, "secret"); err != nil {
		done()
		return nil, nil, err
	}
	return cfg, done, nil
}

// merged are values in YAML; the later win.
func merged(values []string) (map[string]any, error) {
	all := common.Values{}
	for _, text := range values {
		v, err := common.ReadValues([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("read the values: %w", err)
		}
		all = util.MergeTables(v, all)
	}
	return all, nil
}

// Install is helm install --wait of the chart in a folder.
func (r Release) Install(ctx context.Context, folder string, values ...string) error {
	cfg, done, err := r.configuration()
	if err != nil {
		return err
	}
	defer done()
	chart, err := loader.LoadDir(folder)
	if err != nil {
		return err
	}
	v, err := merged(values)
	if err != nil {
		return err
	}
	i := action.NewInstall(cfg)
	i.ReleaseName, i.Namespace, i.Timeout, i.WaitStrategy = r.Name, r.Namespace, await.Limit, kube.StatusWatcherStrategy
	_, err = i.RunWithContext(ctx, chart, v)
	return err
}

// Upgrade is helm upgrade --wait to the chart in a folder.
func (r Release) Upgrade(ctx context.Context, folder string, values ...string) error {
	cfg, done, err := r.configuration()
	if err != nil {
		return err
	}
	defer done()
	chart, err := loader.LoadDir(folder)
	if err != nil {
		return err
	}
	v, err := merged(values)
	if err != nil {
		return err
	}
	u := action.NewUpgrade(cfg)
	u.Namespace, u.Timeout, u.WaitStrategy = r.Namespace, await.Limit, kube.StatusWatcherStrategy
	_, err = u.RunWithContext(ctx, r.Name, chart, v)
	return err
}

// Rollback is helm rollback --wait to a revision.
func (r Release) Rollback(revision int) error {
	cfg, done, err := r.configuration()
	if err != nil {
		return err
	}
	defer done()
	b := action.NewRollback(cfg)
	b.Version, b.Timeout, b.WaitStrategy = revision, await.Limit, kube.StatusWatcherStrategy
	return b.Run(r.Name)
}

// Uninstall is helm uninstall.
func (r Release) Uninstall() error {
	cfg, done, err := r.configuration()
	if err != nil {
		return err
	}
	defer done()
	u := action.NewUninstall(cfg)
	u.Timeout, u.WaitStrategy = await.Limit, kube.StatusWatcherStrategy
	_, err = u.Run(r.Name)
	return err
}
