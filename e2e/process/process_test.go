package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// envRole makes the test program play a part of a test.
const envRole = "BOLTSEAL_E2E_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "parent": // starts a child, tells its process id and waits to be killed
		p, err := Start(Spec{Name: "child", Path: "/bin/sleep", Args: []string{"600"}, LogFile: os.DevNull})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(p.PID())
		select {}
	case "stubborn": // does not end when asked
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour) // waits: to be killed; not select {}: the runtime would end a process in which nothing can happen
	}
	os.Exit(m.Run())
}

func TestChildDiesWithItsParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux kills the children of a killed parent")
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), envRole+"=parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatalf("the parent said %q", line)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Fatalf("the child does not run: %v", err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	for alive(child) {
		if t.Context().Err() != nil {
			t.Fatal("the child outlived its parent")
		}
		time.Sleep(10 * time.Millisecond) // waits: the time between two looks
	}
}

// alive says whether a process runs; one that waits to be reaped does not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func TestStop(t *testing.T) {
	t.Parallel()
	p := start(t, Spec{Name: "sleep", Path: "/bin/sleep", Args: []string{"600"}})
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("a running process has an error: %v", err)
	}
	if err := p.Stop(time.Minute); err != nil {
		t.Errorf("a paused process that obeys: %v", err)
	}
	if err := p.Err(); !errors.Is(err, ErrExited) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(p.Stop(0), p.Kill()); err != nil {
		t.Errorf("stopping what has stopped: %v", err)
	}
}

func TestStopKillsTheStubborn(t *testing.T) {
	t.Parallel()
	p := start(t, Spec{Name: "stubborn", Path: os.Args[0], Env: append(os.Environ(), envRole+"=stubborn")})
	for !strings.Contains(p.LogTail(), "ready") {
		time.Sleep(10 * time.Millisecond) // waits: the time between two looks
	}
	if err := p.Stop(time.Millisecond); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("got %v", err)
	}
	select {
	case <-p.Exited():
	default:
		t.Error("it still runs")
	}
}

func TestErrShowsTheEndOfTheLog(t *testing.T) {
	t.Parallel()
	p := start(t, Spec{Name: "sh", Path: "/bin/sh", Args: []string{"-c", `i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; echo last words >&2; exit 3`}})
	err := p.Wait(t.Context())
	if !errors.Is(err, ErrExited) {
		t.Fatalf("got %v", err)
	}
	if s := err.Error(); !strings.Contains(s, "exit status 3") || !strings.HasSuffix(s, "last words") || len(s) > 2*tailBytes {
		t.Errorf("got %d bytes: %s", len(s), s)
	}
}

func TestStartOfNothing(t *testing.T) {
	t.Parallel()
	if _, err := Start(Spec{Name: "none", Path: "/no/such/program", LogFile: filepath.Join(t.TempDir(), "log")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func start(t *testing.T, s Spec) *Process {
	t.Helper()
	s.LogFile = filepath.Join(t.TempDir(), "log")
	p, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Kill() })
	return p
}
