package server

import (
	"context"
	"net/http"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/tracing/tracecontext"
)

// Attributes of a request's span.
const (
	spanDecisionID = "boltseal.decision.id"
	spanDecision   = "boltseal.decision"
	spanNamespace  = "k8s.namespace.name"
	spanKind       = "boltseal.object.kind"
)

// Tracer records traces.
type Tracer interface {
	// Request begins the span of a request. It returns nil where the request's trace is
	// not recorded. What parent says of recording counts only where it is trusted.
	Request(endpoint string, parent tracecontext.Parent, trusted bool) Trace
}

// Trace is the span of a request.
type Trace interface {
	// Context is ctx for the work on the request.
	Context(ctx context.Context) context.Context
	// Parent is the span as those know it who are asked because of the request.
	Parent() tracecontext.Parent
	// Image begins the span of an image's verification; end is called once, with whether
	// another request had begun that.
	Image(ctx context.Context, image string) (_ context.Context, end func(joined bool))
	// Set notes something about the request.
	Set(name, value string)
	// End is called once, with the HTTP status of the answer.
	End(status int)
}

// traceOf is the trace that a request is a part of, and its span here. Strangers do not
// decide what is recorded, here or by registries.
func (s *Server) traceOf(r *http.Request, mine *share, endpoint string) (parent tracecontext.Parent, span Trace) {
	parent = tracecontext.Parse(r.Header[tracecontext.Header])
	if !mine.proven {
		parent = parent.Unsampled()
	}
	if s.o.Tracer == nil {
		return parent, nil
	}
	if span = s.o.Tracer.Request(endpoint, parent, mine.proven); span != nil {
		parent = span.Parent()
	}
	return parent, span
}

// traced is ctx for work whose registries are told of the trace.
func (q *question) traced(ctx context.Context) context.Context {
	if !q.trace.Valid() || q.span != nil { // whose context has it already
		return ctx
	}
	return boltseal.WithTraceParent(ctx, q.trace.String())
}

// imageSpan begins the span of an image's verification, where the request is recorded.
func (q *question) imageSpan(ctx context.Context, image string) (_ context.Context, end func(joined bool)) {
	if q.span == nil {
		return ctx, func(bool) {}
	}
	return q.span.Image(ctx, image)
}
