package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/externaldata"
	"github.com/boltseal/boltseal/internal/memo"
	"github.com/boltseal/boltseal/internal/server"
	"github.com/boltseal/boltseal/internal/snapshot"
	"github.com/boltseal/boltseal/internal/testhouse"
	"github.com/boltseal/boltseal/internal/tracecontext"
	"github.com/boltseal/boltseal/internal/tracing"
)

// recorder is a Tracer as the service makes it.
type recorder struct{ *tracing.Tracer }

func (r recorder) Request(endpoint string, parent tracecontext.Parent, trusted bool) server.Trace {
	if s := r.Tracer.Request(endpoint, parent, trusted); s != nil {
		return s
	}
	return nil
}

// BenchmarkTraced is what traces cost an answer that is known. What is not recorded must
// cost no more than no tracing at all.
func BenchmarkTraced(b *testing.B) {
	collector := httptest.NewServer(http.NotFoundHandler())
	b.Cleanup(collector.Close)
	traced := func(b *testing.B, sampler string) server.Tracer {
		c := testhouse.Need(tracing.FromEnvironment(func(name string) string {
			return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL, "OTEL_TRACES_SAMPLER": sampler}[name]
		}))(b)
		return recorder{testhouse.Need(tracing.New(c, slog.New(slog.DiscardHandler), time.Now))(b)}
	}
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for _, way := range []struct {
		name, parent string
		tracer       func(*testing.B) server.Tracer
	}{
		{"off", "", func(*testing.B) server.Tracer { return nil }},
		{"not recorded", "", func(b *testing.B) server.Tracer { return traced(b, "always_off") }},
		{"off, of a trace", parent, func(*testing.B) server.Tracer { return nil }},
		{"not recorded, of a trace", parent, func(b *testing.B) server.Tracer { return traced(b, "always_off") }},
		{"recorded", parent, func(b *testing.B) server.Tracer { return traced(b, "always_on") }},
	} {
		b.Run(way.name, func(b *testing.B) {
			h := testhouse.New(b, testhouse.Options{})
			var live snapshot.Live
			live.Swap(snapshot.Snapshot{Engines: one{h.Engine}, Memo: memo.New(memo.Options{AllowTTL: time.Hour, Encode: func(_ *boltseal.Engine, r *boltseal.Result) memo.Encoded {
				own, alike := externaldata.EncodeReport(externaldata.Report020, "0123456789abcdef", r)
				return memo.Encoded{Report: own, Alike: string(alike), Audit: audit.EncodeVerdict("0123456789abcdef", r, nil)}
			}})})
			s := server.New(server.Options{Live: &live, Metrics: server.NewMetrics(server.Sources{}), Audit: audit.NewLog(io.Discard, 0), TrustProvider: true, Tracer: way.tracer(b)}).Handler()
			_, pinned := h.Signed("v", h.Signer)
			body := testhouse.Need(json.Marshal(map[string]any{"apiVersion": externaldata.V1Beta1, "kind": "ProviderRequest", "request": map[string]any{"keys": []string{pinned}}}))(b)
			r := bytes.NewReader(body)
			req := httptest.NewRequest(http.MethodPost, server.PathVerify, io.NopCloser(r))
			if way.parent != "" {
				req.Header.Set("traceparent", way.parent)
			}
			w := &sink{header: http.Header{}}
			s.ServeHTTP(w, req)
			if w.n < 500 {
				b.Fatalf("an answer of %d bytes", w.n)
			}
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(body)
				clear(w.header)
				s.ServeHTTP(w, req)
			}
		})
	}
}
