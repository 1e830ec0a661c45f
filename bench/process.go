package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// process is a part of a measurement that runs by itself.
type process struct {
	cmd  *exec.Cmd
	pid  int    // 0 = not known, so that nothing is measured
	addr string // where it answers
}

// startProcess runs a program until stop; where it says "ready ADDRESS" on its
// standard output, start waits for that.
func startProcess(ctx context.Context, announces bool, name string, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	if !announces {
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return &process{cmd: cmd, pid: cmd.Process.Pid}, nil
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, pid: cmd.Process.Pid}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if a, ok := strings.CutPrefix(lines.Text(), "ready "); ok {
			p.addr = a
			return p, nil
		}
	}
	p.stop()
	return nil, fmt.Errorf("%s %s ended before it was ready", name, args[0])
}

func (p *process) stop() {
	_ = p.cmd.Process.Signal(os.Interrupt)
	_ = p.cmd.Wait()
}

// realTime gives all threads of the process a real-time priority (SCHED_RR), which
// those that come later inherit. 0 changes nothing.
func (p *process) realTime(priority int) error {
	if priority == 0 {
		return nil
	}
	if out, err := exec.Command("chrt", "-a", "-r", "-p", strconv.Itoa(priority), strconv.Itoa(p.pid)).CombinedOutput(); err != nil {
		return fmt.Errorf("chrt: %w: %s", err, out)
	}
	return nil
}

// cpu is what the process's threads have used of the processors, in nanoseconds
// of the scheduler's own count.
func (p *process) cpu() (time.Duration, error) {
	used, _, err := p.schedule()
	return used, err
}

// processor is what its threads have used, how long they have waited for it while
// others had it, and when that was; zero where it cannot be known.
func (p *process) processor() (used, waited time.Duration, at time.Time) {
	used, waited, _ = p.schedule()
	return used, waited, time.Now()
}

// schedule adds up the threads' schedstat (Linux, scheduler/sched-stats).
func (p *process) schedule() (used, waited time.Duration, err error) {
	if p.pid == 0 {
		return 0, 0, nil
	}
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.pid))
	if err != nil {
		return 0, 0, err
	}
	for _, t := range tasks {
		b, err := os.ReadFile(t)
		if err != nil {
			continue // a thread that has ended
		}
		var u, w int64
		if _, err := fmt.Sscan(string(b), &u, &w); err != nil {
			return 0, 0, err
		}
		used, waited = used+time.Duration(u), waited+time.Duration(w)
	}
	return used, waited, nil
}

// rss is the process's resident memory in MiB.
func (p *process) rss() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		return 0
	}
	var total, resident int
	if _, err := fmt.Sscan(string(b), &total, &resident); err != nil {
		return 0
	}
	return resident * os.Getpagesize() >> 20
}

// startServer starts `boltseal serve` and waits until it is ready.
func startServer(ctx context.Context, binary, dir, listen string, args ...string) (p *process, ready time.Duration, err error) {
	const health = "127.0.0.1:6199"
	began := time.Now()
	args = append([]string{"serve", "--config", filepath.Join(dir, "config.yaml"), "--listen", listen, "--health-listen", health,
		"--metrics-listen", "", "--log-level", "error", "--audit-log", filepath.Join(dir, "audit.jsonl")}, args...)
	if p, err = startProcess(ctx, false, binary, args...); err != nil {
		return nil, 0, err
	}
	p.addr = listen
	for time.Since(began) < 30*time.Second {
		resp, err := http.Get("http://" + health + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return p, time.Since(began), nil
			}
		}
		time.Sleep(time.Millisecond)
	}
	p.stop()
	return nil, 0, fmt.Errorf("the server was not ready in time")
}
