// Package credential finds registry credentials where users keep them.
package credential

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/boltseal/boltseal/oci"
)

// Limits of Docker.
const (
	// DefaultHelperTimeout is how long a credential helper may take. It is below
	// oci's limit for a request, so that the message speaks of the helper.
	DefaultHelperTimeout = 8 * time.Second
	keepFor              = time.Minute     // an answer of a credential helper
	keepFailureFor       = 5 * time.Second // a failure of one
	maxKept              = 1000
	maxConfigSize        = 4 << 20
)

// DockerOptions make a Docker.
type DockerOptions struct {
	// Path of the configuration file, which must then be there. Empty means
	// $DOCKER_CONFIG/config.json where that is set, else $REGISTRY_AUTH_FILE
	// where that is set, else ~/.docker/config.json; where the file is not
	// there, every registry is anonymous.
	Path string
	// Getenv reads the environment. Nil means os.Getenv.
	Getenv func(string) string
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
	// HelperTimeout bounds one run of a credential helper. 0 means
	// DefaultHelperTimeout.
	HelperTimeout time.Duration
}

// Docker reads credentials from a docker configuration file and the credential
// helpers it names. A change of the file is noticed. It is safe for concurrent use.
type Docker struct {
	path    string // "" = anonymous always
	must    bool   // a file that was named must be there
	clock   func() time.Time
	timeout time.Duration

	mu      sync.Mutex
	current *loaded // nil before the first read, and where the file is not there
}

// loaded is a file as it was read, with what its helpers answered since.
type loaded struct {
	sum    [sha256.Size]byte // of the file
	config *config

	flight singleflight.Group
	mu     sync.Mutex
	kept   map[string]keptAnswer // by helper and server
}

type keptAnswer struct {
	answer
	err   error
	until time.Time
}

var (
	_ oci.CredentialSource = (*Docker)(nil)
	_ oci.Invalidator      = (*Docker)(nil)
)

// NewDocker chooses the file. It is read when it is first needed.
func NewDocker(o DockerOptions) *Docker {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	d := &Docker{path: o.Path, must: o.Path != "", clock: o.Clock, timeout: o.HelperTimeout}
	if d.clock == nil {
		d.clock = time.Now
	}
	if d.timeout <= 0 {
		d.timeout = DefaultHelperTimeout
	}
	if d.path == "" {
		d.path = defaultPath(o.Getenv)
	}
	return d
}

// defaultPath is where docker, or else podman, is told to look.
func defaultPath(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json")
	}
	if file := getenv("REGISTRY_AUTH_FILE"); file != "" {
		return file
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".docker", "config.json")
	}
	return ""
}

// Credential implements [oci.CredentialSource]. Errors name the file or the
// helper and what to do, and never what is in them; they wrap
// [boltseal.ErrUnavailable] where a helper did not answer in time.
func (d *Docker) Credential(ctx context.Context, host, repository string) (oci.Credential, error) {
	l, err := d.load()
	if err != nil || l == nil {
		return oci.Credential{}, err
	}
	helper, own := l.config.helper(host)
	if helper != "" {
		a, err := d.ask(ctx, l, helper, serverName(host))
		if err != nil {
			return oci.Credential{}, fmt.Errorf("the docker configuration %s: %w", d.path, err)
		}
		if a.found || own {
			return a.credential, nil
		}
	}
	cred, err := l.config.credential(host, repository)
	if err != nil {
		return oci.Credential{}, fmt.Errorf("the docker configuration %s: %w", d.path, err)
	}
	return cred, nil
}

// Invalidate forgets what a helper answered, where that is the credential that a
// registry refused. What stands in the file itself is read anew whenever it changes.
func (d *Docker) Invalidate(host, _ string, c oci.Credential) {
	d.mu.Lock()
	l := d.current
	d.mu.Unlock()
	if l == nil {
		return
	}
	if helper, _ := l.config.helper(host); helper != "" {
		l.drop(helperKey(helper, serverName(host)), c)
	}
}

func helperKey(helper, server string) string { return helper + " " + server }

// load returns the file's content, read anew where it has changed; nil where
// there is none.
func (d *Docker) load() (*loaded, error) {
	if d.path == "" {
		return nil, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	info, err := os.Stat(d.path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !d.must:
		d.current = nil
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("the docker configuration: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("the docker configuration %s is not a file", d.path)
	}
	b, err := readFile(d.path)
	if err != nil {
		return nil, fmt.Errorf("the docker configuration: %w", err)
	}
	// Its content tells whether it is another one: a time and a size may be kept.
	sum := sha256.Sum256(b)
	if d.current != nil && d.current.sum == sum {
		return d.current, nil
	}
	c, err := parseConfig(b)
	if err != nil {
		return nil, fmt.Errorf("the docker configuration %s: %w", d.path, err)
	}
	d.current = &loaded{sum: sum, config: c, kept: map[string]keptAnswer{}}
	return d.current, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxConfigSize+1))
	if err == nil && len(b) > maxConfigSize {
		err = fmt.Errorf("%s has more than %d bytes", path, maxConfigSize)
	}
	return b, err
}

// ask runs a helper once for everybody who waits for its answer, and keeps the
// answer for a while. A helper that hangs holds up its own registries only.
func (d *Docker) ask(ctx context.Context, l *loaded, helper, server string) (answer, error) {
	key := helperKey(helper, server)
	if k, ok := l.get(key, d.clock()); ok {
		return k.answer, k.err
	}
	ch := l.flight.DoChan(key, func() (any, error) {
		if k, ok := l.get(key, d.clock()); ok {
			return k, nil // it came in between
		}
		// The first caller's leaving must not fail the others.
		run, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.timeout)
		defer cancel()
		k := keptAnswer{}
		k.answer, k.err = runHelper(run, helper, server)
		k.until = d.clock().Add(keepFor)
		if k.err != nil {
			k.until = d.clock().Add(keepFailureFor)
		}
		l.put(key, k)
		return k, nil
	})
	select {
	case r := <-ch:
		k := r.Val.(keptAnswer)
		return k.answer, k.err
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
}

func (l *loaded) get(key string, now time.Time) (keptAnswer, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, ok := l.kept[key]
	return k, ok && now.Before(k.until)
}

func (l *loaded) put(key string, k keptAnswer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.kept) >= maxKept {
		clear(l.kept)
	}
	l.kept[key] = k
}

// drop forgets an answer, unless there is another one by now.
func (l *loaded) drop(key string, c oci.Credential) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if k, ok := l.kept[key]; ok && k.err == nil && k.credential.Same(c) {
		delete(l.kept, key)
	}
}
