package cli

import (
	"bytes"
	"cmp"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

// TestThePageOfExitCodesAgreesWithEachHelp: docs/exit-codes.md has what the help of each command says, and nothing else; the
// help of every command that does something shows its codes and leads to the page.
func TestThePageOfExitCodesAgreesWithEachHelp(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `boltseal ") {
			rows[strings.TrimSpace(line)] = true
		}
	}
	eachCommand(newRoot(frame.Env{Getenv: func(string) string { return "" }}), func(cmd *cobra.Command) {
		if !cmd.Runnable() {
			return
		}
		var help bytes.Buffer
		cmd.SetOut(&help)
		if err := cmd.Help(); err != nil {
			t.Fatal(err)
		}
		zero, one, two := cmd.Annotations[frame.Exit0], cmd.Annotations[frame.Exit1], cmd.Annotations[frame.Exit2]
		want := "\nExit codes (" + frame.ExitPage + "):\n"
		for _, c := range []struct{ code, means string }{{"0", cmp.Or(zero, "done")}, {"1", one}, {"2", cmp.Or(two, "failed; the message says why")}} {
			if c.means != "" {
				want += "  " + c.code + "  " + c.means + "\n"
			}
		}
		if !strings.Contains(help.String(), want) {
			t.Errorf("%s: the help does not say\n%s", cmd.CommandPath(), want)
		}
		if strings.Contains(cmd.Long, "xit code") || strings.Contains(strings.ToLower(cmd.Long), "ends with 0") {
			t.Errorf("%s: the help has exit codes twice", cmd.CommandPath())
		}
		switch row := "| `" + cmd.CommandPath() + "` | " + zero + " | " + cmp.Or(one, "never") + " | " + two + " |"; {
		case !cmd.HasParent():
			for _, c := range []struct{ code, means string }{{"0", zero}, {"1", one}, {"2", two}} {
				if !strings.Contains(string(page), "\n| "+c.code+" | "+c.means+" |\n") {
					t.Errorf("docs/exit-codes.md does not say of all commands: %s %s", c.code, c.means)
				}
			}
		case zero == "" && one == "" && two == "":
		case !rows[row]:
			t.Errorf("docs/exit-codes.md has no row\n%s", row)
		default:
			delete(rows, row)
		}
	})
	for row := range rows {
		t.Errorf("docs/exit-codes.md has a row that no help has: %s", row)
	}
}
