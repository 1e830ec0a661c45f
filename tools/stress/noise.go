package main

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// startNoise starts n loops that do nothing but keep a processor busy, and returns what ends them. They are threads of this
// process: however it ends, they end with it.
func startNoise(n int) func() {
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(before + n) // so that this process is still there for the tests' output
	var over atomic.Bool
	var running sync.WaitGroup
	for range n {
		running.Go(func() {
			for !over.Load() {
			}
		})
	}
	return func() {
		over.Store(true)
		running.Wait()
		runtime.GOMAXPROCS(before)
	}
}
