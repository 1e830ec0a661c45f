// Package process runs programs as children that do not outlive their parent, with logs in files.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// tailBytes bounds how much of a log an error repeats.
const tailBytes = 4 << 10

// DefaultGrace is how long Stop waits after SIGTERM before it kills: longer than anything takes that is not stuck,
// on however busy a machine.
const DefaultGrace = 3 * time.Minute

// ErrExited is wrapped by errors about a process that ended by itself.
var ErrExited = errors.New("the process ended")

// Spec says what to run.
type Spec struct {
	Name    string   // what errors call it
	Path    string   // the program
	Args    []string // its arguments, without the program's name
	Env     []string // environment; nil: the parent's
	Dir     string   // working folder; empty: the parent's
	LogFile string   // file that gets its standard output and error, appended
}

// Process is a started program. It leads a process group of its own, so that an interrupt typed at a terminal
// reaches only the parent, which then ends it in good order. On Linux the kernel kills it when the parent dies,
// however that happens; elsewhere a killed parent leaves it running.
type Process struct {
	spec   Spec
	pid    int
	exited chan struct{}

	mu  sync.Mutex
	err error // how it ended, once exited is closed
}

// Start runs a program. The returned process must be ended by Stop or Kill, or end by itself.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.LogFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start %s: open its log: %w", spec.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(spec.Path, spec.Args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = spec.Env, spec.Dir, log, log
	cmd.SysProcAttr = sysProcAttr()

	p := &Process{spec: spec, exited: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// The kernel's death signal is tied to the thread that forked, not to the process: that thread must live
		// as long as the child, and waiting on it for the child is just that.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err != nil {
			return
		}
		err = cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.exited)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return p, nil
}

// Name returns the name it was given.
func (p *Process) Name() string { return p.spec.Name }

// PID returns its process id, which is also the id of its process group.
func (p *Process) PID() int { return p.pid }

// LogFile returns the path of its log.
func (p *Process) LogFile() string { return p.spec.LogFile }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err is nil while the process runs. Afterwards it wraps ErrExited and says how the process ended and what its
// log said last.
func (p *Process) Err() error {
	select {
	case <-p.exited:
	default:
		return nil
	}
	p.mu.Lock()
	how := p.err
	p.mu.Unlock()
	state := "exit status 0"
	if how != nil {
		state = how.Error()
	}
	return fmt.Errorf("%s: %w (%s); the end of %s:\n%s", p.spec.Name, ErrExited, state, p.spec.LogFile, p.LogTail())
}

// ExitStatus is that of a process that has ended, -1 where a signal ended it or it still runs.
func (p *Process) ExitStatus() int {
	select {
	case <-p.exited:
	default:
		return -1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var exit *exec.ExitError
	switch {
	case p.err == nil:
		return 0
	case errors.As(p.err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// LogTail returns the last lines of the log.
func (p *Process) LogTail() string {
	f, err := os.Open(p.spec.LogFile)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if end, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, end-tailBytes), io.SeekStart)
	}
	data, err := io.ReadAll(io.LimitReader(f, tailBytes))
	if err != nil {
		return err.Error()
	}
	if i := bytes.IndexByte(data, '\n'); i >= 0 && len(data) == tailBytes {
		data = data[i+1:]
	}
	return strings.TrimRight(string(data), "\n")
}

// Signal sends a signal to the process and its children. A process that has ended is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	select {
	case <-p.exited:
		return nil
	default:
	}
	if err := syscall.Kill(-p.pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %s to %s: %w", sig, p.spec.Name, err)
	}
	return nil
}

// Stop asks the process to end with SIGTERM and kills it when grace has passed; zero or less stands for
// DefaultGrace. It returns when the process is gone. The error says that it had to be killed.
func (p *Process) Stop(grace time.Duration) error {
	if grace <= 0 {
		grace = DefaultGrace
	}
	// A process that a test has paused must wake up to see the first signal.
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGCONT} {
		if err := p.Signal(sig); err != nil {
			return err
		}
	}
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.exited:
		return nil
	case <-t.C:
	}
	if err := p.Kill(); err != nil {
		return err
	}
	return fmt.Errorf("%s did not end within %s of SIGTERM and was killed; see %s", p.spec.Name, grace, p.spec.LogFile)
}

// Kill ends the process at once and returns when it is gone.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.exited
	return nil
}

// Wait returns when the process has ended, with Err, or when ctx is done, with its error.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.exited:
		return p.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
