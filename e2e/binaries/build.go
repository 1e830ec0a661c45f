package binaries

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// progressEvery is how often a running build says how far it is.
	progressEvery = 15 * time.Second
	// stopGrace is how long an interrupted go command may take to end its compilers.
	stopGrace = 5 * time.Second
	// maxErrorLines bounds the output of a failed build that its error repeats.
	maxErrorLines = 40
)

// builder builds one set.
type builder struct {
	o        Options
	cache    string
	set      Set
	versions map[string]string
}

func newBuilder(ctx context.Context, o Options) (*builder, error) {
	if o.Go == "" {
		o.Go = "go"
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.CacheDir == "" {
		dir, err := DefaultCacheDir()
		if err != nil {
			return nil, err
		}
		o.CacheDir = dir
	}
	b := &builder{o: o, cache: o.CacheDir}
	var err error
	if b.versions, err = Versions(); err != nil {
		return nil, err
	}
	goVersion, err := b.goOutput(ctx, "", "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	var builds [][]string
	for _, p := range programs() {
		builds = append(builds, append(buildArgs(p, b.versions[p.name]), p.pkg))
	}
	k, err := key(strings.TrimSpace(string(goVersion)), builds)
	if err != nil {
		return nil, err
	}
	b.set = Set{Dir: filepath.Join(o.CacheDir, k)}
	return b, nil
}

// build makes the missing files. The caller holds the lock.
func (b *builder) build(ctx context.Context, missing []string) error {
	begin := b.o.Clock()
	src, err := os.MkdirTemp(b.cache, "build-")
	if err != nil {
		return fmt.Errorf("make a folder to build in: %w", err)
	}
	defer os.RemoveAll(src)
	for from, to := range map[string]string{"controlplane/module.mod": "go.mod", "controlplane/module.sum": "go.sum"} {
		data, err := module.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(src, to), data, 0o644); err != nil {
			return fmt.Errorf("write the module to build: %w", err)
		}
	}
	want := map[string]bool{}
	for _, m := range missing {
		want[m] = true
	}
	b.say("building %d of %d parts of the control plane into %s; a first build takes 8 to 14 minutes on two cores and about 6 GB of Go's caches, and goes on where it stopped if interrupted",
		len(missing), len(programs())+1, b.set.Dir)
	if want[gatekeeperManifest] {
		if err := b.copyManifests(ctx, src); err != nil {
			return err
		}
	}
	for _, p := range programs() {
		if want[p.name] {
			if err := b.buildOne(ctx, src, p); err != nil {
				return err
			}
		}
	}
	b.say("done after %s", b.o.Clock().Sub(begin).Round(time.Second))
	return nil
}

// copyManifests takes Gatekeeper's manifests from its module.
func (b *builder) copyManifests(ctx context.Context, src string) error {
	out, err := b.goOutput(ctx, src, "mod", "download", "-json", "github.com/open-policy-agent/gatekeeper/v3")
	if err != nil {
		return err
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil || m.Dir == "" {
		return fmt.Errorf("locate Gatekeeper's module: go mod download said %q (%v)", out, err)
	}
	data, err := os.ReadFile(filepath.Join(m.Dir, "deploy", "gatekeeper.yaml"))
	if err != nil {
		return fmt.Errorf("read Gatekeeper's manifests: %w", err)
	}
	tmp := filepath.Join(src, gatekeeperManifest)
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return fmt.Errorf("keep Gatekeeper's manifests: %w", err)
	}
	return os.Rename(tmp, b.set.GatekeeperManifests())
}

// buildOne compiles one program and moves it into the set only when it is whole.
func (b *builder) buildOne(ctx context.Context, src string, p program) error {
	begin := b.o.Clock()
	name := p.name + " " + b.versions[p.name]
	b.say("%s ...", name)
	out := filepath.Join(src, p.name)
	cmd := b.goCommand(ctx, src, append(buildArgs(p, b.versions[p.name]), "-v", "-o", out, p.pkg)...)
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("build %s: %w", name, err)
	}
	var compiled, fetched atomic.Int64
	stop := make(chan struct{})
	ticking := make(chan struct{})
	go func() {
		defer close(ticking)
		t := time.NewTicker(progressEvery)
		defer t.Stop()
		for {
			select {
			case <-stop:
				return
			case <-t.C:
				b.say("%s: %d packages compiled, %d modules fetched, %s", name, compiled.Load(), fetched.Load(), b.o.Clock().Sub(begin).Round(time.Second))
			}
		}
	}()
	rest := watchBuild(pipe, &compiled, &fetched)
	err = cmd.Wait()
	close(stop)
	<-ticking
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("build %s: %w", name, context.Cause(ctx))
		}
		return fmt.Errorf("build %s: %w\n%s", name, err, rest)
	}
	if err := os.Rename(out, b.set.Path(p.name)); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	b.say("%s built in %s", name, b.o.Clock().Sub(begin).Round(time.Second))
	return nil
}

// watchBuild reads what `go build -v` prints, counts it, and returns the last lines that are not progress.
func watchBuild(r io.Reader, compiled, fetched *atomic.Int64) string {
	var last []string
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		switch line := sc.Text(); {
		case strings.HasPrefix(line, "go: downloading "):
			fetched.Add(1)
		case !strings.ContainsAny(line, " \t:#"):
			compiled.Add(1)
		default:
			if last = append(last, line); len(last) > maxErrorLines {
				last = last[1:]
			}
		}
	}
	// A line too long to scan must not leave the compiler blocked on a full pipe.
	_, _ = io.Copy(io.Discard, r)
	return strings.Join(last, "\n")
}

// goCommand prepares a go command that sees nothing of the caller's module, workspace or flags, so that the
// result depends on the key alone. Proxy and checksum settings stay the caller's.
func (b *builder) goCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, b.o.Go, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GO111MODULE=on", "CGO_ENABLED=0", "GOOS=", "GOARCH=", "GODEBUG=", "GOEXPERIMENT=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error {
		err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
		if errors.Is(err, syscall.ESRCH) {
			return os.ErrProcessDone
		}
		return err
	}
	cmd.WaitDelay = stopGrace
	return cmd
}

// goOutput runs a go command to its end and returns its standard output.
func (b *builder) goOutput(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := b.goCommand(ctx, dir, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", b.o.Go, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// say writes one line of progress.
func (b *builder) say(format string, args ...any) {
	if b.o.Progress != nil {
		fmt.Fprintf(b.o.Progress, "e2e kit: "+format+"\n", args...)
	}
}
