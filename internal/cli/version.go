package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newVersion(env Env) *cobra.Command {
	var out outputFlag
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print version, commit and Go version",
		Example: "    boltseal version -o json",
		GroupID: "more",
		Args:    usage(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			v := env.version()
			if out.data() {
				return out.encode(env.Stdout, v)
			}
			_, err := fmt.Fprintf(env.Stdout, "boltseal %s\ncommit   %s\n%s %s/%s\n", v.Version, v.Commit, v.Go, v.OS, v.Arch)
			return err
		},
	}
	out.register(cmd)
	return cmd
}
