// Command recording runs commands in a shell and draws what they print as a terminal, in an SVG that plays once.
//
// The same commands with the same answers make the same file: what differs from run to run (ports, ids of
// decisions, folders) is replaced before it is drawn.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

func main() {
	if err := record(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

// record reads a script, runs it and writes the picture.
func record(args []string) error {
	fl := flag.NewFlagSet("recording", flag.ContinueOnError)
	script := fl.String("script", "", "file of commands, one a line; # begins a line that is shown and not run; required")
	prelude := fl.String("prelude", "", "file of shell commands that are run before, and not shown")
	out := fl.String("out", "", "the SVG; required")
	shown := map[string]string{}
	fl.Func("show", "NAME=TEXT: show TEXT where a command has $NAME; may be repeated", func(v string) error {
		name, text, ok := strings.Cut(v, "=")
		if !ok {
			return errors.New("want NAME=TEXT")
		}
		shown["$"+name] = text
		return nil
	})
	if err := fl.Parse(args); err != nil {
		return err
	}
	if *script == "" || *out == "" || fl.NArg() > 0 {
		return errors.New("-script and -out are needed, and there are no arguments")
	}
	commands, err := os.ReadFile(*script)
	if err != nil {
		return err
	}
	before := []byte{}
	if *prelude != "" {
		if before, err = os.ReadFile(*prelude); err != nil {
			return err
		}
	}
	lines, err := runScript(string(before), string(commands), shown)
	if err != nil {
		return err
	}
	return os.WriteFile(*out, []byte(drawTerminal(lines)), 0o644)
}

// line is a line of the terminal.
type line struct {
	text    string
	command bool // typed by the user
}

// notRunnable is the exit code of a shell that does not find a command.
const notRunnable = 127

// runScript runs each command and returns what is seen. A command may fail: that is what is shown; one that is not
// there is an error.
func runScript(prelude, script string, shown map[string]string) ([]line, error) {
	var out []line
	for text := range strings.Lines(script) {
		text = strings.TrimSpace(text)
		switch {
		case text == "":
			continue
		case strings.HasPrefix(text, "#"):
			out = append(out, line{text: text, command: true})
			continue
		}
		typed := text
		for name, is := range shown {
			typed = strings.ReplaceAll(typed, name, is)
		}
		out = append(out, line{text: "$ " + typed, command: true})
		cmd := exec.Command("bash", "-c", prelude+"\n"+text)
		printed, err := cmd.CombinedOutput()
		var status *exec.ExitError
		if err != nil && (!errors.As(err, &status) || status.ExitCode() == notRunnable) {
			return nil, fmt.Errorf("%s: %w\n%s", text, err, printed)
		}
		for l := range strings.Lines(replaceVolatile(string(printed))) {
			out = append(out, line{text: strings.TrimRight(l, "\r\n \t")})
		}
		out = append(out, line{})
	}
	return out, nil
}

// volatile is what differs from run to run, and what is shown in its place: as long as it is, so that columns stay.
var volatile = []struct {
	is    *regexp.Regexp
	shown string
}{
	{regexp.MustCompile(`(127\.0\.0\.1|localhost):\d+`), registry},
	{regexp.MustCompile(`\(decision [0-9a-f]{16}\)`), "(decision d457d866ae393604)"},
	{regexp.MustCompile(`/[^ ]*/(\w+\.yaml)`), "$1"},
}

// registry stands for a registry on this machine.
const registry = "reg.example.com"

func replaceVolatile(text string) string {
	for _, v := range volatile {
		text = v.is.ReplaceAllString(text, v.shown)
	}
	return text
}
