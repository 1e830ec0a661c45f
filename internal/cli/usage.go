package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/boltseal/boltseal/internal/nearest"
)

// usageError is a command line that was not understood.
type usageError struct {
	command string
	err     error
}

func (e usageError) Error() string { return e.err.Error() }

func (e usageError) Unwrap() error { return e.err }

// usageFailure says that err is about the command line.
func usageFailure(cmd *cobra.Command, err error) error {
	return usageError{command: cmd.CommandPath(), err: err}
}

// usage wraps a cobra argument check so that its failure counts as usage.
func usage(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usageFailure(cmd, err)
		}
		return nil
	}
}

// badUsage says that the command line was not understood.
func badUsage(cmd *cobra.Command, format string, a ...any) error {
	return usageFailure(cmd, fmt.Errorf(format, a...))
}

// parent makes a command that only has others.
func parent(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(subs...)
	return cmd
}

// knownCommand refuses what is no command, and names the nearest that is.
func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageFailure(cmd, unknown("command", args[0], commandNames(cmd)))
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// unknown says that a word is not known, and which one may be meant.
func unknown(what, word string, words []string) error {
	if near := nearest.Word(word, words); near != "" {
		return fmt.Errorf("unknown %s %q; did you mean %s?", what, word, near)
	}
	return fmt.Errorf("unknown %s %q", what, word)
}

// flagWords says in our words what is wrong with a flag.
func flagWords(cmd *cobra.Command, err error) error {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	if near := nearest.Word(name, names); near != "" {
		return fmt.Errorf("unknown flag --%s; did you mean --%s?", name, near)
	}
	return fmt.Errorf("unknown flag --%s", name)
}
