// Package testregistry runs real OCI registries on loopback, in this process or another, that count their requests and fail on demand.
package testregistry

import "time"

// TB is what this package needs of a test: the methods of [testing.TB] that it
// calls, so that the demo does not link the testing package.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

func clockNow(clock func() time.Time) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock()
}
