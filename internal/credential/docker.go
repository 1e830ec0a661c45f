// Package credential finds registry credentials where users keep them.
package credential

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/oci"
)

// dockerHubKey is the name of Docker Hub in a docker configuration.
const dockerHubKey = "https://index.docker.io/v1/"

// Limits of DockerConfig.
const (
	helperTimeout = 10 * time.Second
	keepFor       = time.Minute // an answer of a credential helper
	maxKept       = 1000
	maxConfigSize = 4 << 20
)

// DockerOptions make a Docker.
type DockerOptions struct {
	// Path of the configuration file. Empty means the first that exists of
	// $DOCKER_CONFIG/config.json, ~/.docker/config.json and
	// $REGISTRY_AUTH_FILE; where none does, every registry is anonymous.
	Path string
	// Getenv reads the environment. Nil means os.Getenv.
	Getenv func(string) string
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Docker reads credentials from a docker configuration file and the credential
// helpers it names. A change of the file is noticed. It is safe for concurrent use.
type Docker struct {
	path  string
	must  bool // a file that was named must be there
	clock func() time.Time

	mu      sync.Mutex
	store   credentials.Store
	modTime time.Time
	size    int64
	kept    map[string]keptCredential
}

type keptCredential struct {
	cred  oci.Credential
	until time.Time
}

var _ oci.CredentialSource = (*Docker)(nil)

// NewDocker finds the file. It is read when it is first needed.
func NewDocker(o DockerOptions) *Docker {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	d := &Docker{path: o.Path, must: o.Path != "", clock: o.Clock, kept: make(map[string]keptCredential)}
	if d.clock == nil {
		d.clock = time.Now
	}
	if d.path == "" {
		d.path = find(o.Getenv)
	}
	return d
}

func find(getenv func(string) string) string {
	var paths []string
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		paths = append(paths, filepath.Join(dir, "config.json"))
	}
	if home := getenv("HOME"); home != "" {
		paths = append(paths, filepath.Join(home, ".docker", "config.json"))
	}
	paths = append(paths, getenv("REGISTRY_AUTH_FILE"))
	for _, p := range paths {
		if p == "" {
			continue
		}
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return ""
}

// Credential implements oci.CredentialSource. Errors name the file or the
// helper, and never what is in them.
func (d *Docker) Credential(ctx context.Context, host, _ string) (oci.Credential, error) {
	if d.path == "" {
		return oci.Credential{}, nil
	}
	key := host
	if host == boltseal.DockerHub {
		key = dockerHubKey
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.reload(); err != nil {
		return oci.Credential{}, err
	}
	if d.store == nil {
		return oci.Credential{}, nil
	}
	if k, ok := d.kept[key]; ok && d.clock().Before(k.until) {
		return k.cred, nil
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	c, err := d.store.Get(ctx, key)
	if err != nil {
		return oci.Credential{}, fmt.Errorf("the docker configuration %s: the credential helper for %s failed: %w", d.path, host, err)
	}
	cred := convert(c)
	if len(d.kept) >= maxKept {
		clear(d.kept)
	}
	d.kept[key] = keptCredential{cred, d.clock().Add(keepFor)}
	return cred, nil
}

func convert(c auth.Credential) oci.Credential {
	return oci.Credential{Username: c.Username, Password: c.Password, RefreshToken: c.RefreshToken, AccessToken: c.AccessToken}
}

// reload reads the file where it is new.
func (d *Docker) reload() error {
	info, err := os.Stat(d.path)
	switch {
	case os.IsNotExist(err) && !d.must:
		d.store = nil
		return nil
	case err != nil:
		return fmt.Errorf("the docker configuration: %w", err)
	case info.Size() > maxConfigSize:
		return fmt.Errorf("the docker configuration %s has %d bytes, at most %d", d.path, info.Size(), maxConfigSize)
	case d.store != nil && info.ModTime().Equal(d.modTime) && info.Size() == d.size:
		return nil
	}
	store, err := credentials.NewStore(d.path, credentials.StoreOptions{})
	if err != nil {
		return fmt.Errorf("the docker configuration %s cannot be read: it is not what it should be", d.path)
	}
	d.store, d.modTime, d.size = store, info.ModTime(), info.Size()
	clear(d.kept)
	return nil
}
