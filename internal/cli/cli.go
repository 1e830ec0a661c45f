// Package cli is the command line: flags in, the engine's answers out, exit codes.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Exit codes, the same for every command.
const (
	ExitTrusted    = 0 // done; what was asked about is trusted, compliant or correct
	ExitNotTrusted = 1 // something is not trusted, not compliant or not correct
	ExitUnknown    = 2 // something is unknown (an outage, missing rights), or the command failed
)

// Env is everything that a command takes from its process.
type Env struct {
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string // environment variables
	Version        string              // "" = unknown
	Commit         string              // "" = what the Go toolchain recorded
}

// Main runs one command and returns the process's exit code.
func Main(ctx context.Context, env Env) int {
	root := newRoot(env)
	root.SetArgs(env.Args)
	err := root.ExecuteContext(ctx)
	var code exitError
	switch {
	case err == nil:
		return ExitTrusted
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintln(env.Stderr, "boltseal:", err)
	var usage usageError
	if errors.As(err, &usage) {
		fmt.Fprintf(env.Stderr, "Run '%s --help' for what it takes.\n", usage.command)
	}
	return ExitUnknown
}

// exitError ends the process with a code after the command has said everything itself.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a command line that was not understood.
type usageError struct {
	command string
	err     error
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func newRoot(env Env) *cobra.Command {
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
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Annotations: exitCodes("done; what was asked about is trusted, compliant or correct",
			"something is not trusted, not compliant or not correct",
			"something is unknown, or the command failed"),
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(cmd.OutOrStdout(), cmd) })
	root.SetUsageFunc(func(cmd *cobra.Command) error { writeHelp(cmd.OutOrStderr(), cmd); return nil })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{command: cmd.CommandPath(), err: flagWords(cmd, err)}
	})
	root.AddGroup(
		&cobra.Group{ID: "verify", Title: "Verify:"},
		&cobra.Group{ID: "serve", Title: "Serve a cluster:"},
		&cobra.Group{ID: groupGovern, Title: "Govern clusters:"},
		&cobra.Group{ID: "more", Title: "More:"},
	)
	root.SetHelpCommand(newHelp())
	root.SetCompletionCommandGroupID("more")
	root.AddCommand(newVerify(env), newValidate(env), newAudit(env), newDemo(env), newDoctor(env), newServe(env), newAgent(env), newCRDs(env), newWebhook(env), newMigrate(env), newExplain(env), newVersion(env))
	root.AddCommand(newPolicy(env), newCompliance(env), newCluster(env), newFeature(env), newProvider(env))
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			describeCompletion(cmd)
		}
		plainHelpFlag(cmd)
	}
	plainHelpFlag(root)
	completeNames(env, root)
	return root
}

// usage wraps a cobra argument check so that its failure counts as usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageError{command: cmd.CommandPath(), err: err}
		}
		return nil
	}
}

// colour tells whether w is a terminal whose user has not asked for plain text.
func (env Env) colour(w io.Writer) bool {
	return env.interactive(w) && env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb"
}

// interactive tells whether somebody watches w.
func (env Env) interactive(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
