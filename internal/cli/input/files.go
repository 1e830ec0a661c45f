// Package input is what several families of commands read: files, configurations, kubeconfigs, and the cluster of a server.
package input

import (
	"fmt"
	"io"
	"os"

	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/compile"
)

// ReadSources reads the files that --config names.
func ReadSources(env frame.Env, files []string) ([]compile.Source, error) {
	return ReadNamed(env, "--config", files)
}

// ReadNamed reads the files that a flag names.
func ReadNamed(env frame.Env, flag string, files []string) ([]compile.Source, error) {
	var sources []compile.Source
	for _, name := range files {
		in := env.Stdin
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", flag, err)
			}
			defer f.Close()
			in = f
		} else {
			name = "(standard input)"
		}
		b, err := io.ReadAll(io.LimitReader(in, strict.MaxBytes+1))
		if err != nil {
			return nil, err
		}
		sources = append(sources, compile.Source{Name: name, Data: b})
	}
	return sources, nil
}

// ReadLimited reads a file that has most bytes at most.
func ReadLimited(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file", path)
	case info.Size() > most:
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return os.ReadFile(path)
}
