package cli

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

// eachCommand visits a command and all below it, but for cobra's own.
func eachCommand(cmd *cobra.Command, visit func(*cobra.Command)) {
	if cmd.Name() == "completion" || cmd.Name() == "help" {
		return
	}
	visit(cmd)
	for _, sub := range cmd.Commands() {
		eachCommand(sub, visit)
	}
}

// TestEveryFlagIsCompletedAndSaysWhatItTakes: a flag that takes a value names it in its help, and a shell is offered words for
// it, or files where it takes one, or nothing; never files where it takes none.
func TestEveryFlagIsCompletedAndSaysWhatItTakes(t *testing.T) {
	t.Parallel()
	eachCommand(newRoot(frame.Env{Args: []string{cobra.ShellCompRequestCmd}, Getenv: func(string) string { return "" }}), func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() == "bool" {
				return
			}
			placeholder, _ := pflag.UnquoteUsage(f)
			if placeholder == "" || placeholder != strings.ToUpper(placeholder) && !strings.Contains(f.Usage, "`") {
				t.Errorf("%s --%s: the help does not name its value: %q", cmd.CommandPath(), f.Name, f.Usage)
			}
			if _, has := cmd.GetFlagCompletionFunc(f.Name); !has && !filePlaceholder.MatchString(placeholder) && !strings.Contains(f.Usage, "`FILE`") {
				t.Errorf("%s --%s takes no file, and is completed by files", cmd.CommandPath(), f.Name)
			}
		})
		if cmd.ValidArgsFunction == nil && !takesFiles(cmd) {
			t.Errorf("%s is completed by files", cmd.CommandPath())
		}
	})
}

// complete is what a shell is told, without a cluster.
func completions(t *testing.T, args ...string) (words []string, directive string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := Main(context.Background(), frame.Env{Args: append([]string{"__complete"}, args...), Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs,
		Getenv: func(string) string { return "" }})
	if code != 0 {
		t.Fatalf("%v: %d\n%s", args, code, errs.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	return lines[:len(lines)-1], lines[len(lines)-1]
}

// TestCompletionOfValues: words that commands accept are offered, with no file among them, and without a cluster names are
// no error.
func TestCompletionOfValues(t *testing.T) {
	t.Parallel()
	const noFiles = ":4"
	nowhere := "--kubeconfig=" + t.TempDir() + "/none"
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"compliance", "--by", ""}, []string{"assignment", "cluster", "component", "image", "namespace", "trend"}},
		{[]string{"compliance", "-o", ""}, []string{"csv", "html", "json", "table", "yaml"}},
		{[]string{"audit", "-o", ""}, []string{"table", "json", "yaml"}},
		{[]string{"policy", "what-if", "--effect", ""}, []string{"Audit", "Deny", "Disabled"}},
		{[]string{"policy", "assignment", "create", "-e", ""}, []string{"Default", "DoNotEnforce"}},
		{[]string{"policy", "assignment", "create", nowhere, "-d", ""}, []string{"image-integrity"}},
		{[]string{"policy", "definition", "show", nowhere, ""}, []string{"deploy-image-integrity", "deploy-policy-add-on", "image-integrity", "image-integrity-verification"}},
		{[]string{"policy", "exemption", "create", "-e", ""}, []string{"Mitigated", "Waiver"}},
		{[]string{"cluster", "register", "--engine", ""}, []string{"Boltseal", "Gatekeeper"}},
		{[]string{"serve", "--webhook-failure-policy", ""}, []string{"Fail", "Ignore"}},
		{[]string{"serve", "--log-level", ""}, []string{"debug", "error", "info", "warn"}},
		{[]string{"cluster", "show", nowhere, "--name", ""}, nil},
		{[]string{"policy", "assignment", "show", nowhere, "-n", ""}, nil},
		{[]string{"audit", nowhere, "-n", ""}, nil},
		{[]string{"doctor", nowhere, "--context", ""}, nil},
		{[]string{"verify", "--namespace", ""}, nil},
		{[]string{"verify", ""}, nil},
		{[]string{"explain", ""}, nil},
	} {
		words, directive := completions(t, c.args...)
		if !slices.Equal(words, c.want) && (len(words) > 0 || len(c.want) > 0) || directive != noFiles {
			t.Errorf("%v: %v %s, want %v", c.args, words, directive, c.want)
		}
	}
	for _, args := range [][]string{{"verify", "--config", ""}, {"validate", ""}, {"policy", "definition", "import", ""}, {"serve", "--tls-cert", ""}} {
		if _, directive := completions(t, args...); directive != ":0" {
			t.Errorf("%v takes a file, and a shell offers none: %s", args, directive)
		}
	}
}
