// Package await waits for what a test expects, and looks for what it does not expect.
package await

import (
	"testing"
	"time"
)

const (
	// Limit is how long something is waited for: only what hangs takes so long, on however busy a machine.
	Limit = 5 * time.Minute
	// every is the time between two looks; within the first second it is much less, for what is measured.
	every = 20 * time.Millisecond
	often = 2 * time.Millisecond
)

// Until asks f until it returns nil, and returns how long that took. After Limit it fails the test, with what f said
// last and with the evidence, such as the end of a log.
func Until(t testing.TB, what string, f func() error, evidence ...func() string) time.Duration {
	t.Helper()
	begin := time.Now()
	for {
		err := f()
		took := time.Since(begin)
		switch {
		case err == nil:
			return took
		case took > Limit:
			text := ""
			for _, e := range evidence {
				text += "\n" + e()
			}
			t.Fatalf("did not happen: %s: %v%s", what, err, text)
		}
		if took < time.Second {
			time.Sleep(often)
		} else {
			time.Sleep(every)
		}
	}
}

// Throughout looks for d, and ten times at least, for what must not happen. A busy machine looks less often; it
// finds nothing that is not there.
func Throughout(d time.Duration, look func()) {
	end := time.Now().Add(d)
	for n := 0; n < 10 || time.Now().Before(end); n++ {
		look()
		time.Sleep(every)
	}
}
