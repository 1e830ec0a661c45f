// Package binaries builds a Kubernetes control plane and Gatekeeper from their Go modules and keeps the
// programs in a cache folder.
//
// Nothing but the Go toolchain and a Go module proxy is needed. The versions are pinned by the module in the
// folder controlplane, which is embedded here and never becomes part of the graph of any other module.
package binaries

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
)

// EnvCache names the environment variable that overrides the cache folder.
const EnvCache = "BOLTSEAL_E2E_CACHE"

// Names of the programs, which are also their file names in Set.Dir.
const (
	Etcd                  = "etcd"
	KubeAPIServer         = "kube-apiserver"
	KubeControllerManager = "kube-controller-manager"
	Kubectl               = "kubectl"
	Gatekeeper            = "gatekeeper"
)

// gatekeeperManifest is the file name, in Set.Dir, of the manifests that Gatekeeper's module carries.
const gatekeeperManifest = "gatekeeper.yaml"

// The module that pins every version. Its files cannot keep the names go.mod and go.sum: a folder with a go.mod
// is another module, which go:embed does not enter.
//
//go:embed controlplane/module.mod controlplane/module.sum
var module embed.FS

// program is one thing to build.
type program struct {
	name   string // file name of the result
	pkg    string // import path of its package main
	module string // module that gives it its version
}

// programs lists what is built, the quickest first, so that an interrupted build has something to show.
func programs() []program {
	const kube = "k8s.io/kubernetes"
	return []program{
		{name: Etcd, pkg: "go.etcd.io/etcd/server/v3", module: "go.etcd.io/etcd/server/v3"},
		{name: KubeAPIServer, pkg: kube + "/cmd/kube-apiserver", module: kube},
		{name: KubeControllerManager, pkg: kube + "/cmd/kube-controller-manager", module: kube},
		{name: Gatekeeper, pkg: "github.com/open-policy-agent/gatekeeper/v3", module: "github.com/open-policy-agent/gatekeeper/v3"},
		{name: Kubectl, pkg: kube + "/cmd/kubectl", module: kube},
	}
}

// Options says where and how to build. Its zero value builds into DefaultCacheDir with the `go` of PATH and
// reports nothing.
type Options struct {
	// CacheDir is the folder that keeps the programs. Empty: $BOLTSEAL_E2E_CACHE, else boltseal/e2e in the
	// user's cache folder.
	CacheDir string
	// Go is the go command. Empty: "go".
	Go string
	// Progress receives lines for a person. Nil: none.
	Progress io.Writer
	// Clock is used for the durations in Progress. Nil: time.Now.
	Clock func() time.Time
}

// Set is a complete set of programs of one version.
type Set struct {
	Dir string // folder that holds them
}

// Path returns the path of a program, named by one of the constants of this package.
func (s Set) Path(name string) string { return filepath.Join(s.Dir, name) }

// GatekeeperManifests returns the path of the YAML file with Gatekeeper's CRDs, RBAC and webhook configurations.
func (s Set) GatekeeperManifests() string { return filepath.Join(s.Dir, gatekeeperManifest) }

// missing returns the names of the files that are not there yet.
func (s Set) missing() ([]string, error) {
	names := []string{gatekeeperManifest}
	for _, p := range programs() {
		names = append(names, p.name)
	}
	var out []string
	for _, n := range names {
		if _, err := os.Stat(filepath.Join(s.Dir, n)); errors.Is(err, fs.ErrNotExist) {
			out = append(out, n)
		} else if err != nil {
			return nil, fmt.Errorf("look for the cached program %s: %w", n, err)
		}
	}
	return out, nil
}

// DefaultCacheDir returns $BOLTSEAL_E2E_CACHE, or boltseal/e2e in os.UserCacheDir.
func DefaultCacheDir() (string, error) {
	if dir := os.Getenv(EnvCache); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder (set %s to choose one): %w", EnvCache, err)
	}
	return filepath.Join(dir, "boltseal", "e2e"), nil
}

// Versions returns the version of each program's module, by program name.
func Versions() (map[string]string, error) {
	mod, err := readModule()
	if err != nil {
		return nil, err
	}
	byModule := map[string]string{}
	for _, r := range mod.Require {
		byModule[r.Mod.Path] = r.Mod.Version
	}
	out := map[string]string{}
	for _, p := range programs() {
		v, ok := byModule[p.module]
		if !ok {
			return nil, fmt.Errorf("controlplane/module.mod does not require %s", p.module)
		}
		out[p.name] = v
	}
	return out, nil
}

func readModule() (*modfile.File, error) {
	data, err := module.ReadFile("controlplane/module.mod")
	if err != nil {
		return nil, err
	}
	mod, err := modfile.Parse("controlplane/module.mod", data, nil)
	if err != nil {
		return nil, fmt.Errorf("read the pinned versions: %w", err)
	}
	return mod, nil
}

// key names a set by all that decides its content: the module files, the toolchain, the platform and the flags.
func key(goVersion string, builds [][]string) (string, error) {
	h := sha256.New()
	for _, name := range []string{"controlplane/module.mod", "controlplane/module.sum"} {
		data, err := module.ReadFile(name)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(h, "%s %d\n", name, len(data))
		h.Write(data)
	}
	fmt.Fprintf(h, "%s %s/%s\n", goVersion, runtime.GOOS, runtime.GOARCH)
	for _, args := range builds {
		fmt.Fprintf(h, "%q\n", args)
	}
	return hex.EncodeToString(h.Sum(nil))[:16], nil
}

// buildArgs returns the arguments of `go build` for one program, without -o and the package.
func buildArgs(p program, version string) []string {
	flags := []string{"-s", "-w"}
	switch p.module {
	case "k8s.io/kubernetes":
		// Without these the servers call themselves v0.0.0-master, which clients that negotiate by version reject.
		const pkg = "k8s.io/component-base/version."
		part := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
		flags = append(flags, "-X", pkg+"gitVersion="+version, "-X", pkg+"gitMajor="+part[0], "-X", pkg+"gitMinor="+part[1])
	case "github.com/open-policy-agent/gatekeeper/v3":
		flags = append(flags, "-X", p.module+"/pkg/version.Version="+version)
	}
	return []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", strings.Join(flags, " ")}
}

// Build returns the set of programs, building what the cache does not hold yet. It costs minutes and gigabytes
// of build cache the first time and a fraction of a second afterwards. A build that was interrupted goes on where
// it stopped: each finished program stays, and so do the compiled packages in Go's build cache. Two processes
// never build at once; the second waits for the first. ctx ends the build or the wait.
func Build(ctx context.Context, o Options) (Set, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return Set{}, err
	}
	if missing, err := b.set.missing(); err != nil || len(missing) == 0 {
		return b.set, err
	}
	if err := os.MkdirAll(b.set.Dir, 0o755); err != nil {
		return Set{}, fmt.Errorf("make the cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(b.cache, "lock"), func() {
		b.say("another process is building; waiting for it")
	})
	if err != nil {
		return Set{}, err
	}
	defer unlock()
	missing, err := b.set.missing()
	if err != nil || len(missing) == 0 {
		return b.set, err
	}
	if err := b.build(ctx, missing); err != nil {
		return Set{}, err
	}
	return b.set, nil
}

// Cached returns the set and true when nothing is left to build, without building anything.
func Cached(ctx context.Context, o Options) (Set, bool, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return Set{}, false, err
	}
	missing, err := b.set.missing()
	return b.set, err == nil && len(missing) == 0, err
}

// Prune removes the sets of other versions than the present one and returns the paths it removed.
func Prune(ctx context.Context, o Options) ([]string, error) {
	b, err := newBuilder(ctx, o)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(b.cache)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the cache folder: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(b.cache, "lock"), func() { b.say("another process is building; waiting for it") })
	if err != nil {
		return nil, err
	}
	defer unlock()
	var removed []string
	for _, e := range entries {
		path := filepath.Join(b.cache, e.Name())
		if !e.IsDir() || path == b.set.Dir || !isKey(e.Name()) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return removed, fmt.Errorf("remove an old set: %w", err)
		}
		removed = append(removed, path)
	}
	return removed, nil
}

// isKey guards Prune against folders that are not ours.
func isKey(name string) bool {
	_, err := hex.DecodeString(name)
	return err == nil && len(name) == 16
}
