// Package testca makes real signing chains, signature envelopes, timestamps and revocation answers, right ones and wrong ones, for tests and the demo.
package testca

import "time"

// TB is what this package needs of a test: the methods of [testing.TB] that it
// calls, so that the demo does not link the testing package.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Must returns v, or ends the program with a panic where err is set. It is for
// set-up code that has no test at hand.
func Must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func clockNow(clock func() time.Time) time.Time {
	if clock == nil {
		return time.Now()
	}
	return clock()
}
