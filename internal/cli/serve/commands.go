// Package serve has the commands that serve a cluster, and prepare it for that.
package serve

import (
	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

// NewCommands returns the family's commands. g is what they need of governance, which the family does not know.
func NewCommands(env frame.Env, g Governed) []*cobra.Command {
	return []*cobra.Command{newServe(env, g), newCRDs(env), newWebhook(env, g.Kinds)}
}
