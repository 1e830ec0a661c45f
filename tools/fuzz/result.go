package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// result is what a run of a target showed.
type result struct {
	target target
	time   time.Duration
	execs  int
	share  float64 // of the machine that others left to it, 0 to 1
	failed bool
	output string
}

// needed is how many executions the target owes for its time: what others took of the machine is not its fault.
func (r result) needed() int {
	return int(wanted * r.time.Seconds() / wantedIn.Seconds() * r.share)
}

func (r result) tooFew() bool { return r.execs < r.needed() }

func (r result) String() string {
	verdict := "ok  "
	switch {
	case r.failed:
		verdict = "FAIL"
	case r.tooFew():
		verdict = "FEW "
	}
	return fmt.Sprintf("%s %-50s %8d executions, %d needed", verdict, r.target, r.execs, r.needed())
}

// tick is the unit of /proc/stat, USER_HZ in proc(5).
const tick = 10 * time.Millisecond

// usage is the time that all processors of the machine spent so far, in all and at work. It is zero where there is no /proc/stat.
type usage struct{ all, busy time.Duration }

func readUsage() usage {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return usage{}
	}
	return parseUsage(string(text))
}

// parseUsage reads the first line: cpu user nice system idle iowait irq softirq steal, and two that are contained in
// the first ones.
func parseUsage(stat string) usage {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return usage{}
	}
	var u usage
	for i, f := range fields[1:9] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return usage{}
		}
		u.all += time.Duration(n) * tick
		if i != 3 && i != 4 {
			u.busy += time.Duration(n) * tick
		}
	}
	return u
}

// shareSince is the part of the machine since before that nobody else used, where own is what the process itself used.
// A target that waits while the machine is idle has the whole machine, so waiting is no excuse.
func (u usage) shareSince(before usage, own time.Duration) float64 {
	all := u.all - before.all
	if all <= 0 {
		return 1
	}
	others := u.busy - before.busy - own
	return min(1, max(0, 1-float64(others)/float64(all)))
}
