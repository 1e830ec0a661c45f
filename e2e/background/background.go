// Package background runs this program again as a daemon and returns when the daemon says that it is ready.
package background

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// envFD tells the daemon which file descriptor leads to its launcher.
const envFD = "BOLTSEAL_E2E_READY_FD"

// readyMark ends what the daemon says to its launcher.
const readyMark = "\x04"

// tailBytes bounds how much of the daemon's log an error repeats.
const tailBytes = 2 << 10

// Launch runs this program with other arguments in a session of its own, so that it outlives the terminal, and
// writes its output to logFile. It copies what the daemon writes to its Launcher to out, and returns after
// Ready. A daemon that ends before is an error, as is the end of ctx, which ends the daemon too.
func Launch(ctx context.Context, args []string, logFile string, out io.Writer) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("open the daemon's log: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe to the daemon: %w", err)
	}
	defer r.Close()
	cmd := exec.Command(self, args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w} // descriptor 3
	cmd.Env = append(os.Environ(), envFD+"=3")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("start the daemon: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		text, ready := strings.CutSuffix(line, readyMark+"\n")
		fmt.Fprint(out, text)
		if ready {
			return cmd.Process.Release()
		}
		if err != nil {
			break
		}
	}
	err = cmd.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return fmt.Errorf("the daemon ended before it was ready (%s); the end of %s:\n%s", status(err), logFile, tail(logFile))
}

// tail returns the last lines of a file.
func tail(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(data[max(0, len(data)-tailBytes):]))
}

func status(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// Launcher is the daemon's way to its launcher. Without one, as when the program was started by hand, its methods
// write to standard output.
type Launcher struct{ pipe *os.File }

// FromLauncher returns the way to the launcher, if this program is a daemon. It must be called once, before any
// child is started.
func FromLauncher() (*Launcher, error) {
	v := os.Getenv(envFD)
	if v == "" {
		return &Launcher{}, nil
	}
	if err := os.Unsetenv(envFD); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(v)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q is not a file descriptor", envFD, v)
	}
	syscall.CloseOnExec(fd)
	return &Launcher{pipe: os.NewFile(uintptr(fd), "launcher")}, nil
}

// Write shows text to whoever started the program. A launcher that is gone is no error.
func (l *Launcher) Write(p []byte) (int, error) {
	if l.pipe == nil {
		return os.Stdout.Write(p)
	}
	if _, err := l.pipe.Write(p); err != nil && !errors.Is(err, syscall.EPIPE) {
		return 0, err
	}
	return len(p), nil
}

// Ready lets the launcher return.
func (l *Launcher) Ready() error {
	if l.pipe == nil {
		return nil
	}
	_, err := l.pipe.WriteString(readyMark + "\n")
	return errors.Join(err, l.pipe.Close())
}
