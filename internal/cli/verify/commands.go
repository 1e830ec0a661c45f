// Package verify has the commands that verify images, and check what they are verified by.
package verify

import (
	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

// NewCommands returns the family's commands. governed checks documents of governance, which the family does not know.
func NewCommands(env frame.Env, governed governedCheck) []*cobra.Command {
	return []*cobra.Command{newVerify(env), newValidate(env, governed), newAudit(env), newDemo(env), newDoctor(env), newMigrate(env), newExplain(env)}
}
