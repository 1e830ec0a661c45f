package server

import (
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestOneHostKeepsNoOtherWaiting: images of a request whose registry hangs keep none of
// another registry from being begun, however many they are and wherever they stand.
func TestOneHostKeepsNoOtherWaiting(t *testing.T) {
	t.Parallel()
	for _, hanging := range []int{1, 4, 20, 255} {
		t.Run(fmt.Sprint(hanging), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const n, good = 1000, 100
				var asked, waiting atomic.Int64
				answer, done := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(done)
					runAlongside(n, func(i int) string {
						if i >= n-good {
							return "good"
						}
						return fmt.Sprint("hangs", i%hanging)
					}, func(i int) {
						if i >= n-good {
							asked.Add(1)
							return
						}
						waiting.Add(1)
						<-answer
					})
				}()
				synctest.Wait()
				if asked.Load() != good {
					t.Errorf("%d of %d images are asked for beside those that hang", asked.Load(), good)
				}
				if w := waiting.Load(); w == 0 || w > maxOfRequest || w > int64(maxOfHost*hanging) {
					t.Errorf("%d images of %d hosts at a time", w, hanging)
				}
				close(answer)
				<-done
				if waiting.Load() != n-good {
					t.Errorf("%d of %d", waiting.Load(), n-good)
				}
			})
		})
	}
}

// TestEachImageIsAskedForOnce: with any number of hosts, and with a panic among them,
// which is the caller's in the end.
func TestEachImageIsAskedForOnce(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 64, 65, 257, 3000} {
		for _, hosts := range []int{1, 3, 1000} {
			times := make([]atomic.Int64, n)
			runAlongside(n, func(i int) string { return fmt.Sprint(i % hosts) }, func(i int) { times[i].Add(1) })
			for i := range times {
				if got := times[i].Load(); got != 1 {
					t.Errorf("%d images of %d hosts: %d times for the image %d", n, hosts, got, i)
				}
			}
		}
	}
	var others atomic.Int64
	defer func() {
		if _, ok := recover().(*panicAt); !ok || others.Load() != 99 {
			t.Errorf("no panic, or %d others", others.Load())
		}
	}()
	runAlongside(100, func(int) string { return "" }, func(i int) {
		if i == 7 {
			panic("seven")
		}
		others.Add(1)
	})
}
