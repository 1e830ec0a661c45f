package cli

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:     "help [COMMAND]",
		Short:   "Show what a command does and which flags it has",
		GroupID: "more",
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return frame.UsageError{Command: cmd.Root().Name(), Err: frame.UnknownWord("command", strings.Join(args, " "), frame.CommandNames(cmd.Root()))}
			}
			return found.Help()
		},
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return frame.CommandNames(cmd.Root()), cobra.ShellCompDirectiveNoFileComp
		},
	}
}

func describeCompletion(cmd *cobra.Command) {
	cmd.Short = "Print a completion script for your shell"
	cmd.Long = "Print a script that lets your shell complete boltseal's commands and flags, the values\nthat flags take, and the names of what exists in the cluster."
	for _, c := range cmd.Commands() {
		c.Short = "Print the script for " + c.Name()
		c.Long = "Print a script that lets " + c.Name() + " complete boltseal's commands and flags.\n\n" + completionUse[c.Name()]
	}
}

// plainHelpFlag describes -h the same way everywhere.
func plainHelpFlag(cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	cmd.Flags().Lookup("help").Usage = "show this text"
	for _, c := range cmd.Commands() {
		plainHelpFlag(c)
	}
}

// completionUse says how each shell takes the script.
var completionUse = map[string]string{
	"bash":       "For this session:\n  source <(boltseal completion bash)\nFor all (needs the package bash-completion):\n  boltseal completion bash > /etc/bash_completion.d/boltseal",
	"zsh":        "For this session:\n  source <(boltseal completion zsh)\nFor all:\n  boltseal completion zsh > \"${fpath[1]}/_boltseal\"",
	"fish":       "For this session:\n  boltseal completion fish | source\nFor all:\n  boltseal completion fish > ~/.config/fish/completions/boltseal.fish",
	"powershell": "For this session:\n  boltseal completion powershell | Out-String | Invoke-Expression\nFor all, add that line to your profile.",
}

// helpWidth is how wide the list of a command's flags is, in columns.
const helpWidth = 80

// writeHelp writes what a command is for and how it is called. It is Go, not a template: a template finds methods by their
// names while it runs, and the linker then keeps every exported method of the program.
func writeHelp(w io.Writer, cmd *cobra.Command) {
	var b strings.Builder
	if about := strings.TrimRightFunc(cmp.Or(cmd.Long, cmd.Short), unicode.IsSpace); about != "" {
		b.WriteString(about + "\n\n")
	}
	line := cmd.UseLine()
	if cmd.HasAvailableSubCommands() {
		line = cmd.CommandPath() + " COMMAND [flags]"
	}
	b.WriteString("Usage:\n  " + line + "\n")
	if cmd.HasExample() {
		b.WriteString("\nExamples:\n" + cmd.Example + "\n")
	}
	if cmd.HasAvailableSubCommands() {
		writeCommands(&b, cmd)
	}
	if cmd.HasAvailableLocalFlags() {
		b.WriteString("\nFlags:\n" + strings.TrimRightFunc(cmd.LocalFlags().FlagUsagesWrapped(helpWidth), unicode.IsSpace) + "\n")
	}
	if cmd.Runnable() {
		b.WriteString("\nExit codes (" + frame.ExitPage + "):\n  0  " + cmp.Or(cmd.Annotations[frame.Exit0], "done") + "\n")
		if one := cmd.Annotations[frame.Exit1]; one != "" {
			b.WriteString("  1  " + one + "\n")
		}
		b.WriteString("  2  " + cmp.Or(cmd.Annotations[frame.Exit2], "failed; the message says why") + "\n")
	}
	if !cmd.HasParent() {
		b.WriteString("\nRun 'boltseal COMMAND --help' for more about a command.\n")
	}
	_, _ = io.WriteString(w, b.String()) // a reader who is gone needs no help
}

// writeCommands lists the commands below one, by their groups where it has groups.
func writeCommands(b *strings.Builder, cmd *cobra.Command) {
	list := func(title string, shown func(*cobra.Command) bool) {
		b.WriteString("\n" + title)
		for _, c := range cmd.Commands() {
			if shown(c) {
				fmt.Fprintf(b, "\n  %-*s %s", c.NamePadding(), c.Name(), c.Short)
			}
		}
		b.WriteString("\n")
	}
	for _, g := range cmd.Groups() {
		list(g.Title, func(c *cobra.Command) bool {
			return c.GroupID == g.ID && (c.IsAvailableCommand() || c.Name() == "help")
		})
	}
	if len(cmd.Groups()) == 0 {
		list("Commands:", (*cobra.Command).IsAvailableCommand)
	}
}
