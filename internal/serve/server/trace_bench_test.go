package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/tracing"
	"github.com/boltseal/boltseal/internal/tracing/tracecontext"
)

// recorder is a Tracer as the service makes it.
type recorder struct{ *tracing.Tracer }

func (r recorder) Request(endpoint string, parent tracecontext.Parent, trusted bool) server.Trace {
	if s := r.Tracer.Request(endpoint, parent, trusted); s != nil {
		return s
	}
	return nil
}

// traceParent is what an API server shows of a trace that it records.
const traceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

// tracedBy is a Tracer with that sampler, whose collector answers and keeps nothing.
func tracedBy(b *testing.B, sampler string) server.Tracer {
	b.Helper()
	collector := httptest.NewServer(http.NotFoundHandler())
	b.Cleanup(collector.Close)
	c := testhouse.Need(tracing.FromEnvironment(func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_TRACES_SAMPLER": sampler}[name]
	}))(b)
	return recorder{testhouse.Need(tracing.New(c, slog.New(slog.DiscardHandler), time.Now))(b)}
}

// knownAnswer asks a server with that Tracer for an image that it knows, each time it is called.
func knownAnswer(b *testing.B, parent string, tracer server.Tracer) func() {
	b.Helper()
	h := testhouse.New(b, testhouse.Options{})
	var live snapshot.Live
	live.Swap(snapshot.Snapshot{Engines: one{h.Engine}, Memo: memo.New(memo.Options{AllowTTL: time.Hour, Encode: func(_ *boltseal.Engine, r *boltseal.Result) memo.Encoded {
		own, alike := externaldata.EncodeReport(externaldata.Report020, "0123456789abcdef", r)
		return memo.Encoded{Report: own, Alike: string(alike), Audit: audit.EncodeVerdict("0123456789abcdef", r, nil)}
	}})})
	s := server.New(server.Options{Live: &live, Metrics: server.NewMetrics(server.Sources{}), Audit: audit.NewLog(io.Discard, 0), TrustProvider: true, Tracer: tracer}).Handler()
	_, pinned := h.Signed("v", h.Signer)
	body := testhouse.Need(json.Marshal(map[string]any{"apiVersion": externaldata.V1Beta1, "kind": "ProviderRequest", "request": map[string]any{"keys": []string{pinned}}}))(b)
	r := bytes.NewReader(body)
	req := httptest.NewRequest(http.MethodPost, server.PathVerify, io.NopCloser(r))
	if parent != "" {
		req.Header.Set("traceparent", parent)
	}
	w := &sink{header: http.Header{}}
	s.ServeHTTP(w, req)
	if w.n < 500 {
		b.Fatalf("an answer of %d bytes", w.n)
	}
	return func() {
		r.Reset(body)
		clear(w.header)
		s.ServeHTTP(w, req)
	}
}

// BenchmarkTraced is what traces cost an answer that is known. What is not recorded must
// cost no more than no tracing at all.
func BenchmarkTraced(b *testing.B) {
	for _, way := range []struct {
		name, parent, sampler string
	}{
		{"off", "", ""},
		{"not recorded", "", "always_off"},
		{"off, of a trace", traceParent, ""},
		{"not recorded, of a trace", traceParent, "always_off"},
		{"recorded", traceParent, "always_on"},
	} {
		b.Run(way.name, func(b *testing.B) {
			var tracer server.Tracer
			if way.sampler != "" {
				tracer = tracedBy(b, way.sampler)
			}
			ask := knownAnswer(b, way.parent, tracer)
			b.ReportAllocs()
			for b.Loop() {
				ask()
			}
		})
	}
}

// BenchmarkTracedInTurns compares the three ways in turns of one run, so that what else the machine does falls on all of
// them: time of an answer that is known, of a trace, as a multiple of that with tracing off (medians of the turns).
func BenchmarkTracedInTurns(b *testing.B) {
	const each = 500
	asks := []func(){knownAnswer(b, traceParent, nil), knownAnswer(b, traceParent, tracedBy(b, "always_off")), knownAnswer(b, traceParent, tracedBy(b, "always_on"))}
	took := make([][]time.Duration, len(asks))
	for b.Loop() {
		for i, ask := range asks {
			begin := time.Now()
			for range each {
				ask()
			}
			took[i] = append(took[i], time.Since(begin)/each)
		}
	}
	var median [3]float64
	for i, t := range took {
		slices.Sort(t)
		median[i] = float64(t[len(t)/2])
	}
	b.ReportMetric(median[0], "off-ns")
	b.ReportMetric(median[1]/median[0], "not-recorded-x")
	b.ReportMetric(median[2]/median[0], "recorded-x")
}
