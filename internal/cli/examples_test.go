package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

// exampleLines returns the command lines of an example that begin with "boltseal", each without what it is piped into.
func exampleLines(example string) [][]string {
	var lines [][]string
	for line := range strings.Lines(strings.ReplaceAll(example, "\\\n", " ")) {
		words := shellWords(line)
		if len(words) > 0 && words[0] == "boltseal" {
			lines = append(lines, words[1:])
		}
	}
	return lines
}

// shellWords splits a line as a shell does, up to a pipe, a redirection or a comment. An example uses no more of a shell.
func shellWords(line string) []string {
	var words []string
	var word strings.Builder
	quote, started := rune(0), false
	end := func() {
		if started {
			words = append(words, word.String())
		}
		word.Reset()
		started = false
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, started = r, true
		case r == ' ' || r == '\n' || r == '\t':
			end()
		case !started && strings.ContainsRune("|>#&;", r):
			return words
		default:
			word.WriteRune(r)
			started = true
		}
	}
	end()
	return words
}

// TestEveryCommandHasAnExampleThatParses: each command that does something shows how it is called, one example at least is of
// the command itself, and every line of it names a command, flags and a number of arguments that exist.
func TestEveryCommandHasAnExampleThatParses(t *testing.T) {
	t.Parallel()
	none := frame.Env{Getenv: func(string) string { return "" }}
	eachCommand(newRoot(none), func(cmd *cobra.Command) {
		if cmd.HasSubCommands() && cmd.Example == "" {
			return // its commands have their own
		}
		own := false
		for _, args := range exampleLines(cmd.Example) {
			root := newRoot(none) // flags keep their values
			found, rest, err := root.Find(args)
			if err != nil {
				t.Errorf("%s: the example %q: %v", cmd.CommandPath(), args, err)
				continue
			}
			own = own || strings.HasPrefix(found.CommandPath(), cmd.CommandPath())
			if err := found.ParseFlags(rest); err != nil {
				t.Errorf("%s: the example %q: %v", cmd.CommandPath(), args, err)
				continue
			}
			if err := found.ValidateArgs(found.Flags().Args()); err != nil {
				t.Errorf("%s: the example %q: %v", cmd.CommandPath(), args, err)
			}
		}
		if !own {
			t.Errorf("%s: the help has no example of it", cmd.CommandPath())
		}
	})
}
