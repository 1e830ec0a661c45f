// Package cli is the command line: flags in, the engine's answers out, exit codes.
package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/govern"
	"github.com/boltseal/boltseal/internal/cli/serve"
	"github.com/boltseal/boltseal/internal/cli/verify"
)

// Main runs one command and returns the process's exit code.
func Main(ctx context.Context, env frame.Env) int {
	root := newRoot(env)
	root.SetArgs(env.Args)
	err := root.ExecuteContext(ctx)
	var code frame.ExitError
	switch {
	case err == nil:
		return frame.ExitTrusted
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(env.Stderr, "boltseal:", err)
	var usage frame.UsageError
	if errors.As(err, &usage) {
		fmt.Fprintf(env.Stderr, "Run '%s --help' for what it takes.\n", usage.Command)
	}
	return frame.ExitUnknown
}

func newRoot(env frame.Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "boltseal",
		Short: "Run only container images that somebody you trust has signed",
		Long: `Boltseal says whether container images are signed by somebody you trust, and why.

It reads the configuration that you apply to a cluster (Ratify's resources work
unmodified), looks the signatures up in the image's own registry, and verifies
them by the rules of the Notary Project.`,
		Example: `  See it work, without a registry, a cluster or a network:
    boltseal demo

  Is this image trusted?
    boltseal verify --config verify-config.yaml ghcr.io/acme/app:v1.2

  The same for a program, with every piece of evidence:
    boltseal verify --config verify-config.yaml -o json ghcr.io/acme/app:v1.2

  An image in a folder, with no registry at all:
    boltseal verify --config verify-config.yaml --oci-layout ./images v1.2`,
		SilenceErrors: true, SilenceUsage: true,
		Args: frame.KnownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations: frame.ExitCodes("done; what was asked about is trusted, compliant or correct",
			"something is not trusted, not compliant or not correct",
			"something is unknown, or the command failed"),
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(cmd.OutOrStdout(), cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { writeHelp(cmd.OutOrStderr(), cmd); return nil })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return frame.UsageFailure(cmd, frame.ExplainFlag(cmd, err))
	})
	root.AddGroup(
		&cobra.Group{ID: "verify", Title: "Verify:"},
		&cobra.Group{ID: "serve", Title: "Serve a cluster:"},
		&cobra.Group{ID: "govern", Title: "Govern clusters:"},
		&cobra.Group{ID: "more", Title: "More:"},
	)
	root.SetHelpCommand(newHelp())
	root.SetCompletionCommandGroupID("more")
	root.AddCommand(newVersion(env))
	root.AddCommand(verify.NewCommands(env, govern.CheckDocuments)...)
	root.AddCommand(serve.NewCommands(env, servedGovernance())...)
	root.AddCommand(govern.NewCommands(env)...)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			describeCompletion(cmd)
		}
	}
	plainHelpFlag(root)
	if asksForWords(env.Args) {
		completeNames(env, root, verify.KnownValues().Join(serve.KnownValues(), govern.KnownValues()))
	}
	return root
}

// asksForWords tells whether a shell asks for what completes a command line.
func asksForWords(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}
