// Package frame is what all commands share: their process, usage errors, exit codes, tables and output for programs.
package frame

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

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

// ExitError ends the process with a code after the command has said everything itself.
type ExitError int

// Error implements error; nobody reads it.
func (e ExitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Colour tells whether w is a terminal whose user has not asked for plain text.
func (env Env) Colour(w io.Writer) bool {
	return env.Interactive(w) && env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb"
}

// Interactive tells whether somebody watches w.
func (env Env) Interactive(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// BuildInfo says which build of Boltseal runs.
type BuildInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// Build returns which build runs: what the release was given, or what the Go toolchain recorded.
func (env Env) Build() BuildInfo {
	v := BuildInfo{Version: env.Version, Commit: env.Commit, Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if bi, ok := debug.ReadBuildInfo(); ok {
		if v.Version == "" {
			v.Version = bi.Main.Version
		}
		for _, s := range bi.Settings {
			if s.Key == "vcs.revision" && v.Commit == "" {
				v.Commit = s.Value
			}
		}
	}
	if v.Version == "" {
		v.Version = "devel"
	}
	if v.Commit == "" {
		v.Commit = "unknown"
	}
	return v
}
