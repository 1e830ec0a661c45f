package frame

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/boltseal/boltseal/internal/base/nearest"
)

// UsageError is a command line that was not understood.
type UsageError struct {
	Command string
	Err     error
}

// Error implements error.
func (e UsageError) Error() string { return e.Err.Error() }

// Unwrap returns what was not understood.
func (e UsageError) Unwrap() error { return e.Err }

// UsageFailure says that err is about the command line.
func UsageFailure(cmd *cobra.Command, err error) error {
	return UsageError{Command: cmd.CommandPath(), Err: err}
}

// CheckArgs wraps a cobra argument check so that its failure counts as usage.
func CheckArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return UsageFailure(cmd, err)
		}
		return nil
	}
}

// BadUsage says that the command line was not understood.
func BadUsage(cmd *cobra.Command, format string, a ...any) error {
	return UsageFailure(cmd, fmt.Errorf(format, a...))
}

// ParentCommand makes a command that only has others.
func ParentCommand(use, short, long string, subs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: long, Args: KnownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(subs...)
	return cmd
}

// KnownCommand refuses what is no command, and names the nearest that is.
func KnownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return UsageFailure(cmd, UnknownWord("command", args[0], CommandNames(cmd)))
}

// CommandNames returns the names of the commands below one that a user may call.
func CommandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return names
}

// UnknownWord says that a word is not known, and which one may be meant.
func UnknownWord(what, word string, words []string) error {
	if near := nearest.Word(word, words); near != "" {
		return fmt.Errorf("unknown %s %q; did you mean %s?", what, word, near)
	}
	return fmt.Errorf("unknown %s %q", what, word)
}

// ExplainFlag says in our words what is wrong with a flag.
func ExplainFlag(cmd *cobra.Command, err error) error {
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
