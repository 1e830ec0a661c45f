// Package tracing records traces, and sends them to an OpenTelemetry collector.
package tracing

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/boltseal/boltseal/internal/tracing/tracecontext"
)

// Limits of what is recorded.
const (
	maxSpans       = 512 // of one trace, made here
	maxValueLength = 256 // of an attribute, in characters
	maxAttributes  = 16  // of a span
	firstRetry     = 500 * time.Millisecond
	maxRetry       = 5 * time.Second
)

// Tracer makes spans, and has them exported. It is safe for concurrent use.
type Tracer struct {
	tracer   trace.Tracer
	provider *sdktrace.TracerProvider
	queue    *queue
	sampler  string // without "parentbased_"
	parents  bool   // what a parent decided counts
	bound    uint64 // trace ids below it are recorded, where the sampler is by ratio
}

// New makes a Tracer. Nothing is asked of the collector before there are spans. log
// receives what an operator should know.
func New(c *Config, log *slog.Logger, clock func() time.Time) (*Tracer, error) {
	o := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(c.Endpoint.String()), otlptracehttp.WithHeaders(c.Headers), otlptracehttp.WithHTTPClient(newClient(c, log)),
		otlptracehttp.WithTimeout(c.Timeout), otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: firstRetry, MaxInterval: maxRetry, MaxElapsedTime: c.Timeout})}
	compression := otlptracehttp.NoCompression
	if c.Gzip {
		compression = otlptracehttp.GzipCompression
	}
	exporter, err := otlptracehttp.New(context.Background(), append(o, otlptracehttp.WithCompression(compression))...)
	if err != nil {
		return nil, fmt.Errorf("the exporter of traces: %w", err)
	}
	var attributes []attribute.KeyValue
	for k, v := range c.Resource {
		attributes = append(attributes, attribute.String(k, v))
	}
	sampler, parents := strings.CutPrefix(c.Sampler, parentBased)
	t := &Tracer{queue: newQueue(exporter, c, log, clock), sampler: sampler, parents: parents, bound: uint64(c.Ratio * (1 << 63))}
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(t.queue), sdktrace.WithSampler(sdktrace.AlwaysSample()), // Tracer.sampled decides before
		sdktrace.WithIDGenerator(generator{}), sdktrace.WithResource(resource.NewSchemaless(attributes...)),
		sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{AttributeValueLengthLimit: maxValueLength, AttributeCountLimit: maxAttributes, EventCountLimit: 1, LinkCountLimit: 1, AttributePerEventCountLimit: 1, AttributePerLinkCountLimit: 1}))
	t.tracer = t.provider.Tracer("github.com/boltseal/boltseal")
	return t, nil
}

// Metrics are what Prometheus reads.
func (t *Tracer) Metrics() []prometheus.Collector { return t.queue.metrics() }

// Close exports what is there, for as long as ctx allows, and ends.
func (t *Tracer) Close(ctx context.Context) { _ = t.provider.Shutdown(ctx) } // what was lost is counted

// sampled decides whether a trace is recorded, and by which id.
func (t *Tracer) sampled(parent tracecontext.Parent) (id [16]byte, record bool) {
	if parent.Valid() {
		if t.parents {
			return parent.TraceID, parent.Sampled()
		}
		id = parent.TraceID
	} else {
		binary.BigEndian.PutUint64(id[:8], rand.Uint64())
		binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1) // none is all zeros
	}
	switch t.sampler {
	case alwaysOn:
		return id, true
	case byRatio: // as OpenTelemetry's, so that all parts of a trace decide alike
		return id, binary.BigEndian.Uint64(id[8:])>>1 < t.bound
	}
	return id, false
}

type idKey struct{}

// generator makes the ids of spans, and takes those of traces from the context.
type generator struct{}

// NewIDs implements sdktrace.IDGenerator.
func (g generator) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	id, _ := ctx.Value(idKey{}).([16]byte)
	return id, g.NewSpanID(ctx, id)
}

// NewSpanID implements sdktrace.IDGenerator.
func (generator) NewSpanID(context.Context, trace.TraceID) (id trace.SpanID) {
	binary.BigEndian.PutUint64(id[:], rand.Uint64()|1)
	return id
}

// start begins the first span that is made here of a trace; nil where the trace is not
// recorded, which costs nothing. about is an attribute's name. Where parent is not trusted, the trace is a new one, with a link to it.
func (t *Tracer) start(name string, kind trace.SpanKind, parent tracecontext.Parent, trusted bool, about, value string) *Span {
	of := parent
	if !trusted {
		of = tracecontext.Parent{}
	}
	id, record := t.sampled(of)
	if !record {
		return nil
	}
	ctx := context.WithValue(context.Background(), idKey{}, id)
	o := []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attribute.String(about, value))}
	switch {
	case of.Valid():
		ctx = trace.ContextWithRemoteSpanContext(ctx, spanContext(of))
	case parent.Valid():
		o = append(o, trace.WithLinks(trace.Link{SpanContext: spanContext(parent)}))
	}
	_, span := t.tracer.Start(ctx, name, o...)
	return &Span{t: t, span: span, trace: &traced{}}
}

func spanContext(p tracecontext.Parent) trace.SpanContext {
	c := trace.SpanContextConfig{TraceID: p.TraceID, SpanID: p.SpanID, Remote: true}
	if p.Sampled() {
		c.TraceFlags = trace.FlagsSampled
	}
	return trace.NewSpanContext(c)
}
