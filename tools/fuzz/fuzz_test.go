package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const module = "module example.com/m\n\ngo 1.26.0\n"

// targets are good, one that finds a fault, and one that sleeps while the machine is idle.
const targets = `package m

import ("testing"; "time"; "bytes")

func FuzzGood(f *testing.F) { f.Add([]byte("a")); f.Fuzz(func(t *testing.T, b []byte) {}) }

func FuzzFault(f *testing.F) { f.Add([]byte("aaaa")); f.Fuzz(func(t *testing.T, b []byte) { if !bytes.Equal(b, []byte("aaaa")) { t.Error("other") } }) }

func FuzzIdle(f *testing.F) { f.Add([]byte("a")); f.Fuzz(func(t *testing.T, b []byte) { time.Sleep(time.Second) }) }
`

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTargetsAreFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other := strings.ReplaceAll(targets, "package m", "package other")
	write(t, dir, map[string]string{"go.mod": module, "m_test.go": targets, "a/b/x_test.go": other,
		"inner/go.mod": module, "inner/x_test.go": other, "a/testdata/x_test.go": other, "a/x.go": other})
	got, err := findTargets(dir)
	want := []target{{".", "FuzzFault"}, {".", "FuzzGood"}, {".", "FuzzIdle"}, {"a/b", "FuzzFault"}, {"a/b", "FuzzGood"}, {"a/b", "FuzzIdle"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
}

// TestRunTellsFaultsAndIdleness runs real targets: the good one has many executions and no fault, the next a fault, and
// the one that sleeps has as few executions as the time has seconds, for each worker.
func TestRunTellsFaultsAndIdleness(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, map[string]string{"go.mod": module, "m_test.go": targets})
	r := runner{goCommand: "go", dir: dir, time: 2 * time.Second, minimize: "10x"}
	bin := filepath.Join(dir, "m.test")
	if err := r.build(t.Context(), ".", bin); err != nil {
		t.Fatal(err)
	}
	got := map[string]result{}
	for _, name := range []string{"FuzzGood", "FuzzFault", "FuzzIdle"} {
		res, err := r.run(t.Context(), target{".", name}, bin)
		if err != nil {
			t.Fatal(name, err)
		}
		got[name] = res
	}
	good, fault, idle := got["FuzzGood"], got["FuzzFault"], got["FuzzIdle"]
	if good.failed || good.execs <= idle.execs {
		t.Errorf("good: %v\n%s", good, good.output)
	}
	if !fault.failed || !strings.Contains(fault.output, "other") || !strings.HasPrefix(fault.String(), "FAIL") {
		t.Errorf("fault: %v\n%s", fault, fault.output)
	}
	if idle.failed {
		t.Errorf("idle: %v\n%s", idle, idle.output)
	}
}

func TestNeededFollowsTimeAndShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		r      result
		needed int
		few    bool
	}{
		{result{time: 20 * time.Second, share: 1, execs: 9_999}, 10_000, true},
		{result{time: 20 * time.Second, share: 1, execs: 10_000}, 10_000, false},
		{result{time: 20 * time.Second, share: 0.25, execs: 2_499}, 2_500, true},
		{result{time: time.Minute, share: 1, execs: 29_999}, 30_000, true},
		{result{time: 2 * time.Second, share: 0.5, execs: 500}, 500, false},
	} {
		if c.r.needed() != c.needed || c.r.tooFew() != c.few {
			t.Errorf("%v: needed %d, too few %t", c.r, c.r.needed(), c.r.tooFew())
		}
	}
}

func TestOutputIsCounted(t *testing.T) {
	t.Parallel()
	for out, want := range map[string]int{
		"": 0,
		"fuzz: elapsed: 0s, gathering baseline coverage: 0/9 completed\n":                                                                                               0,
		"fuzz: elapsed: 3s, execs: 12 (4/sec), new interesting: 0 (total: 1)\nfuzz: elapsed: 20s, execs: 34567 (1/sec), new interesting: 2 (total: 3)\nPASS\nok  \tm\n": 34567,
		"fuzz: elapsed: 3s, execs: 12 (4/sec), new interesting: 0 (total: 1)\nfuzz: minimizing 40-byte failing input file\n":                                            12,
	} {
		if got := countExecs([]byte(out)); got != want {
			t.Errorf("%q: %d", out, got)
		}
	}
}

// TestShareOfTheMachine: what others used is subtracted; what the target used or left unused is not.
func TestShareOfTheMachine(t *testing.T) {
	t.Parallel()
	before := parseUsage("cpu  100 0 100 1000 0 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
	after := parseUsage("cpu  2100 0 1100 2000 0 0 0 0 0 0\n") // 40 s more, 30 of them at work
	for own, want := range map[time.Duration]float64{30 * time.Second: 1, 10 * time.Second: 0.5, 0: 0.25, 35 * time.Second: 1} {
		if got := after.shareSince(before, own); got != want {
			t.Errorf("own %s: %v, want %v", own, got, want)
		}
	}
	for _, broken := range []string{"", "cpu", "cpu 1 2 3", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8 9"} {
		if u := parseUsage(broken); u != (usage{}) {
			t.Errorf("%q: %+v", broken, u)
		}
	}
	if got := (usage{}).shareSince(usage{}, time.Second); got != 1 {
		t.Errorf("without /proc/stat: %v", got)
	}
}
