package server

import (
	"fmt"
	"runtime/debug"
)

// Limits on what is logged of a panic.
const (
	maxPanicText  = 500
	maxPanicStack = 4 << 10
)

// panicAt is a panic of another goroutine, with its stack.
type panicAt struct {
	value any
	stack []byte
}

// Panicked counts and logs a panic that was caught, and has denied what was asked.
func (s *Server) Panicked(what string, value any, stack []byte) {
	s.o.Metrics.panics.Inc()
	text := fmt.Sprint(value)
	s.o.Log.Error("a panic was caught, and what was asked is denied: this is a fault in Boltseal, please report it",
		"in", what, "panic", text[:min(len(text), maxPanicText)], "stack", string(stack[:min(len(stack), maxPanicStack)]))
}

func (s *Server) recovered(what string, p any) {
	if at, ok := p.(*panicAt); ok {
		s.Panicked(what, at.value, at.stack)
		return
	}
	s.Panicked(what, p, debug.Stack())
}
