package govern

import (
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/governance/agent/hubtoken"
)

func registerHubSecret(fl *pflag.FlagSet, to *string) {
	fl.StringVar(to, "hub-kubeconfig-secret", "", "`NAME` of the Secret, in Boltseal's own namespace, that --hub-kubeconfig is mounted from: a renewed\ncredential is stored in it; without it, in the file")
}

// renewedHub is the way to the hub that a kubeconfig names, and what renews the
// credential in it: nil where that is not one that can be renewed. secret is where the
// file is mounted from, in the namespace of the member; "" means nowhere.
func renewedHub(path, secret, namespace string, member *rest.Config, log *slog.Logger) (*rest.Config, *hubtoken.Source, error) {
	config, err := hubConfig(path)
	if err != nil {
		return nil, nil, err
	}
	file := hubtoken.File{Path: path}
	o := hubtoken.Options{Hub: config, Read: file.Read, Save: file.Save, Log: log}
	if secret != "" {
		core, err := typedcorev1.NewForConfig(member)
		if err != nil {
			return nil, nil, fmt.Errorf("the way to the cluster: %w", err)
		}
		o.Save = hubtoken.Secret{File: file, Secrets: core.Secrets(namespace), Name: secret}.Save
	}
	source, config, err := hubtoken.New(o)
	return config, source, err
}

// hubConfig is the way to the hub that a kubeconfig names.
func hubConfig(path string) (*rest.Config, error) {
	return input.NamedCluster("--hub-kubeconfig", path)
}
