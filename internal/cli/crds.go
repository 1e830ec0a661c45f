package cli

import (
	"github.com/spf13/cobra"

	chart "github.com/boltseal/boltseal/charts/boltseal"
)

func newCRDs(env Env) *cobra.Command {
	return &cobra.Command{
		Use:   "crds",
		Short: "Print the CustomResourceDefinitions",
		Long: `Print the CustomResourceDefinitions of all resources that Boltseal reads from a
cluster: Ratify's (config.ratify.deislabs.io) and ImageIntegrityPolicy (boltseal.dev).`,
		Example: "  boltseal crds | kubectl apply --server-side -f -",
		GroupID: "serve",
		Args:    usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			b, err := chart.CRDs()
			if err != nil {
				return err
			}
			_, err = env.Stdout.Write(b)
			return err
		},
	}
}
