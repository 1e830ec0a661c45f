package cli

import "github.com/spf13/cobra"

// newVerifyCommands returns the family's commands. governed checks documents of governance, which the family does not know.
func newVerifyCommands(env Env, governed governedCheck) []*cobra.Command {
	return []*cobra.Command{newVerify(env), newValidate(env, governed), newAudit(env), newDemo(env), newDoctor(env), newMigrate(env), newExplain(env)}
}
