package tracing

import (
	"context"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/tracing/tracecontext"
)

// Names of attributes: those of OpenTelemetry's semantic conventions where there are
// any.
const (
	attributeEndpoint = "boltseal.endpoint"
	attributeImage    = "container.image.name"
	attributeSubject  = "boltseal.subject"
	attributeOmitted  = "boltseal.spans_omitted"
	attributeJoined   = "boltseal.joined"
	attributeHost     = "server.address"
	attributeMethod   = "http.request.method"
	attributeStatus   = "http.response.status_code"
)

// traced is what all spans of one trace share.
type traced struct {
	begun   atomic.Int64
	omitted atomic.Int64
}

// Span is a recorded part of a trace. It is the [boltseal.Observer] of the work below it.
type Span struct {
	t     *Tracer
	span  trace.Span
	trace *traced
}

// Request begins the span of a request to an endpoint. It returns nil, at no cost,
// where the trace is not recorded. What a parent decided counts where it is trusted.
func (t *Tracer) Request(endpoint string, parent tracecontext.Parent, trusted bool) *Span {
	return t.start(endpoint, trace.SpanKindServer, parent, trusted, attributeEndpoint, endpoint)
}

// Work begins a trace of its own, of work that nobody asked for; what is what it is
// done on. end is to be called once.
func (t *Tracer) Work(ctx context.Context, name, what string) (_ context.Context, end func(error)) {
	s := t.start(name, trace.SpanKindInternal, tracecontext.Parent{}, false, attributeSubject, what)
	if s == nil {
		return ctx, func(error) {}
	}
	return s.Context(ctx), s.fail
}

// Context is ctx for work that this span is told of, and whose registries learn of it.
func (s *Span) Context(ctx context.Context) context.Context {
	return boltseal.WithTraceParent(boltseal.WithObserver(ctx, s), s.Parent().String())
}

// Parent is the span as what is asked on its behalf knows it.
func (s *Span) Parent() tracecontext.Parent {
	c := s.span.SpanContext()
	return tracecontext.NewParent(c.TraceID(), c.SpanID(), c.IsSampled())
}

// Image begins the span of one image; joined says in the end that another request had
// begun the work on it.
func (s *Span) Image(ctx context.Context, image string) (_ context.Context, end func(joined bool)) {
	span := s.child(ctx, "image", trace.SpanKindInternal, attribute.String(attributeImage, image))
	if span == nil {
		return ctx, func(bool) {}
	}
	return span.Context(ctx), func(joined bool) {
		span.span.SetAttributes(attribute.Bool(attributeJoined, joined))
		span.span.End()
	}
}

// Set notes something about the span.
func (s *Span) Set(name, value string) { s.span.SetAttributes(attribute.String(name, value)) }

// End ends the span of a request that was answered with an HTTP status.
func (s *Span) End(status int) {
	s.span.SetAttributes(attribute.Int(attributeStatus, status))
	if status >= 500 {
		s.span.SetStatus(codes.Error, "")
	}
	s.fail(nil)
}

func (s *Span) fail(err error) {
	if n := s.trace.omitted.Load(); n > 0 {
		s.span.SetAttributes(attribute.Int64(attributeOmitted, n))
	}
	setError(s.span, err)
	s.span.End()
}

func setError(span trace.Span, err error) {
	if err == nil {
		return
	}
	text := err.Error()
	if len(text) > maxValueLength {
		text = text[:maxValueLength]
	}
	span.SetStatus(codes.Error, text)
}

type spanKey struct{}

// child begins a span below the one of ctx's work, which is s where there is none yet;
// nil where the trace has as many as it may have.
func (s *Span) child(ctx context.Context, name string, kind trace.SpanKind, attributes ...attribute.KeyValue) *Span {
	parent := s
	if below, ok := ctx.Value(spanKey{}).(*Span); ok && below.trace == s.trace {
		parent = below
	}
	if s.trace.begun.Add(1) > maxSpans {
		s.trace.omitted.Add(1)
		return nil
	}
	_, span := s.t.tracer.Start(trace.ContextWithSpan(context.Background(), parent.span), name, trace.WithSpanKind(kind), trace.WithAttributes(attributes...))
	return &Span{t: s.t, span: span, trace: s.trace}
}

// Begin implements [boltseal.Observer]. A URL is not recorded: where a registry
// redirects, it may have a signature in it.
func (s *Span) Begin(ctx context.Context, step boltseal.Step) (context.Context, func(boltseal.Ending)) {
	kind, name := trace.SpanKindInternal, step.Stage.String()
	var attributes []attribute.KeyValue
	if step.Host != "" {
		attributes = append(attributes, attribute.String(attributeHost, step.Host))
	}
	isRequest := step.Stage == boltseal.StageRequest
	if isRequest {
		kind, name = trace.SpanKindClient, step.Method
		attributes = append(attributes, attribute.String(attributeMethod, step.Method))
	}
	child := s.child(ctx, name, kind, attributes...)
	if child == nil {
		return ctx, func(boltseal.Ending) {}
	}
	ctx = context.WithValue(ctx, spanKey{}, child)
	if isRequest {
		ctx = boltseal.WithTraceParent(ctx, child.Parent().String())
	}
	return ctx, func(e boltseal.Ending) {
		if e.Status != 0 {
			child.span.SetAttributes(attribute.Int(attributeStatus, e.Status))
		}
		setError(child.span, e.Err)
		child.span.End()
	}
}
