package testwait

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin, asked := time.Now(), 0
		Until(t, "the third time", func() bool { asked++; return asked == 3 })
		if asked != 3 || time.Since(begin) != 2*poll {
			t.Errorf("asked %d times in %s", asked, time.Since(begin))
		}
	})
}

func TestContextEndsAfterPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		ctx := Context(t)
		<-ctx.Done()
		if waited := time.Since(begin); waited != Patience || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("%v after %s", ctx.Err(), waited)
		}
	})
}

// TestDeadline: what derives from it ends with a deadline that has passed, or is cancelled with its parent.
func TestDeadline(t *testing.T) {
	t.Parallel()
	for _, want := range []error{context.DeadlineExceeded, context.Canceled} {
		parent, cancel := context.WithCancel(t.Context())
		ctx, expire := Deadline(parent)
		derived, end := context.WithTimeout(ctx, Patience)
		if ctx.Err() != nil || derived.Err() != nil {
			t.Fatal("ended at the start")
		}
		if want == context.DeadlineExceeded {
			expire()
		} else {
			cancel()
		}
		<-derived.Done()
		if !errors.Is(derived.Err(), want) || !errors.Is(ctx.Err(), want) {
			t.Errorf("%v and %v, want %v", derived.Err(), ctx.Err(), want)
		}
		end()
		cancel()
	}
}

func TestGrow(t *testing.T) {
	t.Parallel()
	var limits []time.Duration
	Grow(t, time.Second, func(limit time.Duration) error {
		if limits = append(limits, limit); limit < 4*time.Second { // waits: nobody does
			return errors.New("late")
		}
		return nil
	})
	if len(limits) != 3 {
		t.Errorf("%v", limits)
	}
	var failed failing
	tries := 0
	Grow(&failed, time.Second, func(time.Duration) error { tries++; return errors.New("never") })
	if tries != 5 || failed.errors != 1 {
		t.Errorf("%d tries, %d errors", tries, failed.errors)
	}
}

// failing is a test that counts its errors.
type failing struct {
	testing.TB
	errors int
}

func (f *failing) Helper()               {}
func (f *failing) Errorf(string, ...any) { f.errors++ }
