// Command structure counts what makes the code easy or hard to find one's way in: rooms, imports between them, lengths of
// files, names of one bare word. `make test` prints it as a report; nothing fails because of a figure.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

func main() {
	dir := flag.String("dir", ".", "the `folder` of the module")
	verbose := flag.Bool("v", false, "also list the rooms that import each other, the files over 150 lines and the functions of one bare word")
	flag.Parse()
	if err := writeReport(context.Background(), os.Stdout, *dir, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "structure:", err)
		os.Exit(1)
	}
}

// writeReport measures the module in dir and writes one line for each figure.
func writeReport(ctx context.Context, w io.Writer, dir string, verbose bool) error {
	cmd := exec.CommandContext(ctx, "go", "list", "-f", listFormat, "./...")
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	pkgs, err := parseList(string(out))
	if err != nil {
		return err
	}
	files, err := parseFiles(pkgs)
	if err != nil {
		return err
	}
	rooms, pairs := internalRooms(pkgs), mutualImports(pkgs)
	long, median := longFiles(files), medianLines(files)
	bare, funcs := bareWords(files)
	wiring, product := wiringLines(files), productFiles(files)
	fmt.Fprintf(w, "rooms in internal/             %d\n", len(rooms))
	fmt.Fprintf(w, "rooms that import each other   %d\n", len(pairs))
	fmt.Fprintf(w, "wiring (internal/**/service)   %d lines in %d files\n", wiring.lines, wiring.files)
	fmt.Fprintf(w, "product lines                  %d in %d files, generated ones left out\n", totalLines(product), len(product))
	fmt.Fprintf(w, "lines of test rooms and bench  %d\n", totalLines(files)-totalLines(product))
	fmt.Fprintf(w, "median file                    %d lines; %d files over 150, the longest %d\n", median, len(long), longest(files))
	fmt.Fprintf(w, "functions of one bare word     %d of %d unexported (%d %%)\n", len(bare), funcs, percent(len(bare), funcs))
	if verbose {
		fmt.Fprintf(w, "\nrooms:\n  %s\n", strings.Join(rooms, " "))
		for _, list := range []struct {
			title string
			items []string
		}{{"rooms that import each other", pairs}, {"files over 150 lines", long}, {"functions of one bare word", bare}} {
			fmt.Fprintf(w, "\n%s:\n", list.title)
			for _, item := range list.items {
				fmt.Fprintf(w, "  %s\n", item)
			}
		}
	}
	return nil
}
