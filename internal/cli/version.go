package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

func newVersion(env frame.Env) *cobra.Command {
	var out frame.OutputFlag
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit and Go version",
		Example: "    boltseal version -o json",
		GroupID: "more",
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := env.Build()
			if out.IsData() {
				return out.Encode(env.Stdout, v)
			}
			_, err := fmt.Fprintf(env.Stdout, "boltseal %s\ncommit   %s\n%s %s/%s\n", v.Version, v.Commit, v.Go, v.OS, v.Arch)
			return err
		},
	}
	out.Register(cmd)
	return cmd
}
