package cli

import "github.com/spf13/cobra"

// groupGovern is the group of the commands that govern clusters.
const groupGovern = "govern"

// newGovernCommands returns the family's commands.
func newGovernCommands(env Env) []*cobra.Command {
	return []*cobra.Command{newPolicy(env), newCompliance(env), newCluster(env), newFeature(env), newProvider(env), newAgent(env)}
}

// besideServer returns the part of governance that runs beside a server.
func besideServer() *governFlags { return &governFlags{} }
