// Package weight measures for tests what a parser allocates, so that fuzzing fails on cost, too.
package weight

import (
	"runtime"
	"testing"
)

// Allocated is the bytes that f allocates, garbage included, as the smallest of
// some runs: what other goroutines allocate meanwhile is counted too.
func Allocated(f func()) int {
	least := measureBytes(f)
	for range 2 {
		least = min(least, measureBytes(f))
	}
	return least
}

func measureBytes(f func()) int {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return int(after.TotalAlloc - before.TotalAlloc) //nolint:gosec // a test's memory
}

// Bound is what parsing n bytes may allocate.
type Bound struct {
	Floor int // bytes, whatever comes in
	Times int // beside it, for each byte that comes in
}

// Check fails where f, which parses size bytes, allocates more than that. It
// measures again before it says so, as measuring costs more than most parsing.
func (b Bound) Check(tb testing.TB, size int, f func()) {
	tb.Helper()
	most := b.Floor + b.Times*size
	if n := measureBytes(f); n <= most {
		return
	}
	if n := Allocated(f); n > most {
		tb.Fatalf("%d bytes allocated for %d bytes of input; at most %d and %d times the input are allowed", n, size, b.Floor, b.Times)
	}
}
