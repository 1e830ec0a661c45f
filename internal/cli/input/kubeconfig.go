package input

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

// Limits on what a command costs the API server, in requests a second.
const (
	clientQPS   = 50
	clientBurst = 100
)

// Kubeconfig says which cluster a command is about, as kubectl's flags do. The zero value is the current context of what the
// environment names.
type Kubeconfig struct {
	File    string // "" = what $KUBECONFIG lists, then ~/.kube/config
	Context string // "" = the current one
}

// Register adds the flags --kubeconfig and --context; what is the cluster that they name, such as "cluster" or "hub cluster".
func (k *Kubeconfig) Register(fl *pflag.FlagSet, what string) {
	fl.StringVar(&k.File, "kubeconfig", "", "`FILE` that names the "+what+" (default $KUBECONFIG, then ~/.kube/config)")
	fl.StringVar(&k.Context, "context", "", "`NAME` of the context in it (default the current one)")
}

// loadingRules says which files are read, and in which order: kubectl's rules, by the environment that the command was given.
func (k Kubeconfig) loadingRules(env frame.Env) *clientcmd.ClientConfigLoadingRules {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = k.File
	if v := env.Getenv(clientcmd.RecommendedConfigPathEnvVar); v != "" {
		rules.Precedence = filepath.SplitList(v)
	}
	return rules
}

// Config returns how the cluster is reached, with the limits of a command.
func (k Kubeconfig) Config(env frame.Env) (*rest.Config, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(k.loadingRules(env), &clientcmd.ConfigOverrides{CurrentContext: k.Context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("the cluster's configuration: %w", err)
	}
	config.QPS, config.Burst, config.UserAgent = clientQPS, clientBurst, "boltseal/"+env.Build().Version
	return config, nil
}

// Contexts returns the names of all contexts, sorted; nothing where no file can be read.
func (k Kubeconfig) Contexts(env frame.Env) []string {
	config, err := k.loadingRules(env).Load()
	if err != nil {
		return nil
	}
	return slices.Sorted(maps.Keys(config.Contexts))
}

// NamedCluster is the way to the cluster that a kubeconfig names. Where the file names
// none it is an error: client-go's own would then lead to the cluster that this Pod
// runs in, which is another one.
func NamedCluster(flag, path string) (*rest.Config, error) {
	loaded, err := clientcmd.LoadFromFile(path)
	if err == nil {
		err = clientcmd.ResolveLocalPaths(loaded) // files beside it, as kubectl finds them
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", flag, path, err)
	}
	c, err := clientcmd.NewDefaultClientConfig(*loaded, nil).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, fmt.Errorf("%s: %s names no cluster: it must be a kubeconfig, with a current context", flag, path)
	case err != nil:
		return nil, fmt.Errorf("%s: %s: %w", flag, path, err)
	}
	return c, nil
}
