// Package file reads certificates from files, as soon as they change.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/filewatch"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

// Name is the provider's type.
const Name = "file"

// Parameters are those of a provider of type file.
type Parameters struct {
	// Paths are files with certificates in PEM, or one in DER.
	Paths []string `json:"paths"`
}

// Check finds what is wrong.
func (p Parameters) Check(namespace string) (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	switch {
	case namespace != "":
		fail("", "a provider of a namespace reads no files of Boltseal's: use type secret or configmap")
	case len(p.Paths) == 0:
		fail("paths", "it is missing: name the files with the certificates")
	case len(p.Paths) > keys.MaxEntries:
		fail("paths", "%d files, at most %d", len(p.Paths), keys.MaxEntries)
	}
	seen := map[string]bool{}
	for i, path := range p.Paths {
		field := fmt.Sprintf("paths[%d]", i)
		switch {
		case !filepath.IsAbs(path):
			fail(field, "%s must begin at the root, such as /etc/boltseal/ca.pem", strict.Label(path))
		case seen[filepath.Clean(path)]:
			fail(field, "%s is listed twice", strict.Label(path))
		}
		seen[filepath.Clean(path)] = true
	}
	return problems
}

// Open makes the provider.
func (p Parameters) Open(keys.Env, string) (keys.Provider, error) {
	// The first look is before the first reading, so that no change is missed.
	return &provider{p.Paths, filewatch.New(filewatch.Options{Paths: p.Paths})}, nil
}

type provider struct {
	paths []string
	watch *filewatch.Watcher
}

// Watch tells when a file has changed.
func (p *provider) Watch(ctx context.Context, changed func()) { p.watch.Run(ctx, changed) }

// Fetch reads the files. One that is not there, or cannot be read, is no answer: it
// may be being written.
func (p *provider) Fetch(context.Context) ([]keys.Group, error) {
	groups := make([]keys.Group, len(p.paths))
	for i, path := range p.paths {
		groups[i].Name = "file " + path
		b, err := read(path)
		if err != nil {
			groups[i].Err = err
			continue
		}
		certs, err := trust.ParseCertificates(b)
		if err != nil {
			groups[i].Err = &keys.Error{Op: "read", Target: path, Err: boltseal.ErrMalformed, Detail: keys.Clean(strings.TrimPrefix(err.Error(), "configuration: "))}
			continue
		}
		groups[i].Items, groups[i].Problem = keys.Each(filepath.Base(path), "", certs)
	}
	return groups, nil
}

func read(path string) ([]byte, error) {
	fail := func(sentinel error, detail string) error {
		return &keys.Error{Op: "read", Target: path, Err: sentinel, Detail: detail}
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fail(boltseal.ErrNotFound, "there is no such file")
	case errors.Is(err, fs.ErrPermission):
		return nil, fail(boltseal.ErrUnauthorized, "the file may not be read")
	case err != nil:
		return nil, fail(boltseal.ErrUnavailable, keys.Clean(err.Error()))
	case !info.Mode().IsRegular():
		return nil, fail(boltseal.ErrConfiguration, "it is not a file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fail(boltseal.ErrUnauthorized, "the file may not be read")
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, trust.MaxPEMBytes+1))
	if err != nil {
		return nil, fail(boltseal.ErrUnavailable, keys.Clean(err.Error()))
	}
	return b, nil
}
