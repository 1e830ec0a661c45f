package tracing

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Limits of a queue.
const (
	maxQueued  = 2048 // spans that wait; what comes then is dropped
	maxBatch   = 256  // spans of one export
	gatherTime = time.Second
	logPause   = time.Minute // between two lines that say the collector is out
)

// queue exports spans in the background: nobody waits for the collector. It is the
// SDK's batch processor with a count of what was lost, which that one keeps to itself.
type queue struct {
	exporter sdktrace.SpanExporter
	timeout  time.Duration
	log      *slog.Logger
	spans    chan sdktrace.ReadOnlySpan
	stop     context.CancelFunc
	stopping context.Context //nolint:containedctx // it is the queue's own
	done     chan struct{}
	close    sync.Once

	exported, failed, dropped atomic.Uint64
	told                      time.Time // when the log was told last
	clock                     func() time.Time
	secrets                   *strings.Replacer // of what no log may have in it
}

func newQueue(exporter sdktrace.SpanExporter, c *Config, log *slog.Logger, clock func() time.Time) *queue {
	q := &queue{exporter: exporter, timeout: c.Timeout, log: log, clock: clock, spans: make(chan sdktrace.ReadOnlySpan, maxQueued), done: make(chan struct{})}
	var hidden []string
	for _, v := range c.Headers {
		if v != "" {
			hidden = append(hidden, v, "(secret)")
		}
	}
	q.secrets = strings.NewReplacer(hidden...)
	q.stopping, q.stop = context.WithCancel(context.Background())
	go q.run()
	return q
}

// OnStart implements sdktrace.SpanProcessor.
func (*queue) OnStart(context.Context, sdktrace.ReadWriteSpan) {}

// OnEnd implements sdktrace.SpanProcessor.
func (q *queue) OnEnd(s sdktrace.ReadOnlySpan) {
	if q.stopping.Err() == nil {
		select {
		case q.spans <- s:
			return
		default:
		}
	}
	q.dropped.Add(1)
}

// ForceFlush implements sdktrace.SpanProcessor. Nobody asks for it.
func (*queue) ForceFlush(context.Context) error { return nil }

// Shutdown implements sdktrace.SpanProcessor.
func (q *queue) Shutdown(ctx context.Context) error {
	q.close.Do(q.stop)
	select {
	case <-q.done:
		return q.exporter.Shutdown(ctx)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (q *queue) run() {
	defer close(q.done)
	for {
		var batch []sdktrace.ReadOnlySpan
		select {
		case s := <-q.spans:
			batch = q.gather(s)
		case <-q.stopping.Done():
			select {
			case s := <-q.spans:
				batch = q.gather(s)
			default:
				return
			}
		}
		q.export(batch)
	}
}

// gather waits a moment for further spans, so that they go together.
func (q *queue) gather(first sdktrace.ReadOnlySpan) []sdktrace.ReadOnlySpan {
	batch := append(make([]sdktrace.ReadOnlySpan, 0, maxBatch), first)
	t := time.NewTimer(gatherTime)
	defer t.Stop()
	for len(batch) < maxBatch {
		select {
		case s := <-q.spans:
			batch = append(batch, s)
			continue
		default:
		}
		select {
		case s := <-q.spans:
			batch = append(batch, s)
		case <-t.C:
			return batch
		case <-q.stopping.Done():
			return batch
		}
	}
	return batch
}

func (q *queue) export(batch []sdktrace.ReadOnlySpan) {
	ctx, cancel := context.WithTimeout(context.Background(), q.timeout)
	defer cancel()
	err := q.exporter.ExportSpans(ctx, batch)
	if err == nil {
		q.exported.Add(uint64(len(batch)))
		return
	}
	q.failed.Add(uint64(len(batch)))
	if now := q.clock(); q.told.IsZero() || now.Sub(q.told) >= logPause {
		q.told = now
		q.log.Warn("traces could not be sent to the collector, and are lost; see boltseal_trace_spans_total", "error", truncatedText(q.secrets.Replace(err.Error())))
	}
}

func truncatedText(text string) string {
	if len(text) > maxValueLength {
		return text[:maxValueLength] + "…"
	}
	return text
}

func (q *queue) metrics() []prometheus.Collector {
	counter := func(outcome string, n *atomic.Uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "boltseal_trace_spans_total",
			Help:        "Spans of traces that were exported, that the collector did not take (failed), and that there was no room for (dropped).",
			ConstLabels: prometheus.Labels{"outcome": outcome}}, func() float64 { return float64(n.Load()) })
	}
	return []prometheus.Collector{counter("exported", &q.exported), counter("failed", &q.failed), counter("dropped", &q.dropped)}
}
