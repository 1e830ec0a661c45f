// Package govern has the commands that govern clusters, and the part of governance that runs beside a server.
package govern

import (
	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

// groupGovern is the group of the commands that govern clusters.
const groupGovern = "govern"

// NewCommands returns the family's commands.
func NewCommands(env frame.Env) []*cobra.Command {
	return []*cobra.Command{newPolicy(env), newCompliance(env), newCluster(env), newFeature(env), newProvider(env), newAgent(env)}
}

// BesideServer returns the part of governance that runs beside a server.
func BesideServer() *governFlags { return &governFlags{} }
