package serve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	chart "github.com/boltseal/boltseal/charts/boltseal"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/kube/definitions"
	"github.com/boltseal/boltseal/internal/serve/service"
)

func newCRDs(env frame.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "crds",
		Short: "Print or apply the CustomResourceDefinitions",
		Long: `Print the CustomResourceDefinitions of all resources that Boltseal reads from a
cluster: Ratify's (config.ratify.deislabs.io) and ImageIntegrityPolicy (boltseal.dev).

'boltseal crds apply' brings those of a cluster up to date.`,
		Example: `  boltseal crds | kubectl apply --server-side -f -
  boltseal crds apply`,
		GroupID: "serve",
		Args:    frame.KnownCommand,
		RunE: func(*cobra.Command, []string) error {
			b, err := chart.CRDs()
			if err != nil {
				return err
			}
			_, err = env.Stdout.Write(b)
			return err
		},
	}
	cmd.AddCommand(newCRDsApply(env))
	return cmd
}

// crdsFlags say which cluster.
type crdsFlags struct {
	kubeconfig string
	inCluster  bool
	timeout    time.Duration
}

func newCRDsApply(env frame.Env) *cobra.Command {
	var f crdsFlags
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Bring those of a cluster up to date",
		Long: `Bring the CustomResourceDefinitions of a cluster up to date, and wait until they
are served. Nothing is taken away: a version that is there and is not Boltseal's
stays, such as Ratify's v1alpha1, and a definition that was made for a newer
Boltseal is left as it is, so that going back loses no field of a resource.`,
		Example: `  boltseal crds apply
  boltseal crds apply --kubeconfig FILE`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case f.inCluster && f.kubeconfig != "":
				return frame.UsageFailure(cmd, errors.New("choose one of --kubeconfig and --in-cluster"))
			case f.timeout <= 0:
				return frame.UsageFailure(cmd, errors.New("--timeout must be positive"))
			}
			return applyCRDs(cmd.Context(), env, f)
		},
	}
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "the cluster that `FILE` names; default: as kubectl's")
	cmd.Flags().BoolVar(&f.inCluster, "in-cluster", false, "the cluster that this Pod runs in")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 2*time.Minute, "`DURATION`: how long to wait until they are served")
	return cmd
}

func (f crdsFlags) config(env frame.Env) (*rest.Config, error) {
	if f.inCluster {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, fmt.Errorf("the cluster's configuration: %w", err)
		}
		return config, nil
	}
	return input.Kubeconfig{File: f.kubeconfig}.Config(env)
}

func applyCRDs(ctx context.Context, env frame.Env, f crdsFlags) error {
	config, err := f.config(env)
	if err != nil {
		return err
	}
	documents, err := chart.CRDs()
	if err != nil {
		return err
	}
	wanted, err := definitions.Parse(documents)
	if err != nil {
		return err
	}
	c, err := service.NewClient(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	outcomes, err := definitions.Apply(ctx, c, wanted)
	for _, o := range outcomes {
		if _, err := fmt.Fprintf(env.Stdout, "CustomResourceDefinition %s: %s\n", o.Name, o.Did); err != nil {
			return err
		}
	}
	return err
}
