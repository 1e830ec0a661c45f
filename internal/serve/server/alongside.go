package server

import (
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
)

const (
	// maxOfHost is how many images of one request and one registry host are verified at a
	// time, and maxOfRequest how many of one request: what is made ready to run at once
	// keeps what is known waiting.
	maxOfHost    = 64
	maxOfRequest = 256
)

// lane is images of a request that may keep each other waiting.
type lane struct {
	images []int
	next   atomic.Int64
}

// runAlongside runs f for the images 0 to n-1 of a request side by side, with bounds, and
// waits. Each registry host has places of its own among them, so that one that hangs
// keeps no other's images from being begun; beyond maxOfRequest hosts some have them in
// common. A panic in one of them is the caller's.
func runAlongside(n int, host func(i int) string, f func(i int)) {
	if n == 1 {
		f(0)
		return
	}
	lanes := lanesOf(n, host)
	if len(lanes) == 0 {
		return
	}
	places := min(max(maxOfRequest/len(lanes), 1), maxOfHost)
	var wg sync.WaitGroup
	var panicked atomic.Pointer[panicAt]
	one := func(i int) {
		defer func() {
			if p := recover(); p != nil {
				panicked.Store(&panicAt{p, debug.Stack()})
			}
		}()
		f(i)
	}
	for _, l := range lanes {
		for range min(places, len(l.images)) {
			wg.Go(func() {
				for at := l.next.Add(1) - 1; at < int64(len(l.images)); at = l.next.Add(1) - 1 {
					one(l.images[at])
				}
			})
		}
	}
	wg.Wait()
	if p := panicked.Load(); p != nil {
		panic(p)
	}
}

// lanesOf groups images by their host, at most maxOfRequest lanes of them.
func lanesOf(n int, host func(i int) string) (lanes []*lane) {
	byHost := map[string]*lane{}
	for i := range n {
		h := host(i)
		l := byHost[h]
		switch {
		case l != nil:
		case len(lanes) < maxOfRequest:
			l = &lane{}
			lanes = append(lanes, l)
		default:
			l = lanes[len(byHost)%maxOfRequest]
		}
		byHost[h] = l
		l.images = append(l.images, i)
	}
	return lanes
}

// laneOf is what stands for an image's registry: its host where it names one. What is
// no reference is told without asking a registry.
func laneOf(image string) string {
	host, _, ok := strings.Cut(image, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return ""
	}
	return host
}
