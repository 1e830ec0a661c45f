package cli

import "github.com/spf13/cobra"

// newServeCommands returns the family's commands. g is what they need of governance, which the family does not know.
func newServeCommands(env Env, g Governed) []*cobra.Command {
	return []*cobra.Command{newServe(env, g), newCRDs(env), newWebhook(env, g.Kinds)}
}
