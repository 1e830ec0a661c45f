package input

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/controller"
	"github.com/boltseal/boltseal/internal/serve/service"
)

const (
	DefaultNamespace = "boltseal-system"
	// namespaceFile is where Kubernetes tells a Pod its namespace.
	namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
)

// ClusterFlags say which cluster the configuration is read from.
type ClusterFlags struct {
	Kubeconfig, Namespace string
	InCluster             bool
}

// Register adds the flags --kubeconfig, --in-cluster and --namespace.
func (f *ClusterFlags) Register(fl *pflag.FlagSet) {
	fl.StringVar(&f.Kubeconfig, "kubeconfig", "", "read the configuration from the custom resources of the cluster that `FILE` names, in place of --config")
	fl.BoolVar(&f.InCluster, "in-cluster", false, "read it from the cluster that this Pod runs in; the default in a Pod without --config")
	fl.StringVar(&f.Namespace, "namespace", "", "Boltseal's own `NAMESPACE` in the cluster; default: the Pod's, or "+DefaultNamespace)
}

// Options returns what the flags say, nil where files are to be read.
func (f *ClusterFlags) Options(env frame.Env, files []string, log *slog.Logger) (*service.ClusterOptions, error) {
	inPod := env.Getenv("KUBERNETES_SERVICE_HOST") != ""
	from := 0
	for _, set := range []bool{len(files) > 0, f.Kubeconfig != "", f.InCluster} {
		if set {
			from++
		}
	}
	switch {
	case from > 1:
		return nil, errors.New("choose one of --config, --kubeconfig and --in-cluster")
	case len(files) > 0:
		return nil, nil
	case from == 0 && !inPod:
		return nil, errors.New("no configuration: name a file with --config, or a cluster with --kubeconfig")
	}
	o := &service.ClusterOptions{Namespace: f.Namespace}
	var err error
	if f.Kubeconfig != "" {
		o.Config, err = NamedCluster("--kubeconfig", f.Kubeconfig)
	} else if o.Config, err = rest.InClusterConfig(); err != nil {
		err = fmt.Errorf("the cluster's configuration: %w", err)
	}
	if err != nil {
		return nil, err
	}
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
		if b, err := os.ReadFile(namespaceFile); err == nil && f.Kubeconfig == "" {
			o.Namespace = strings.TrimSpace(string(b))
		}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "boltseal"
	}
	o.Identity = host + "_" + rand.Text()
	controller.LogTo(log)
	return o, nil
}
