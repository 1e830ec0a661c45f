package service

import (
	"context"
	"time"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/tracing"
	"github.com/boltseal/boltseal/internal/tracing/tracecontext"
)

// lastExport is how long the last spans may take to be sent when the server ends.
const lastExport = 3 * time.Second

// requestTracer is what the server records its requests with.
type requestTracer struct{ *tracing.Tracer }

// Request implements [server.Tracer].
func (t requestTracer) Request(endpoint string, parent tracecontext.Parent, trusted bool) server.Trace {
	if s := t.Tracer.Request(endpoint, parent, trusted); s != nil {
		return s
	}
	return nil
}

// startTracing makes what records traces, where somebody wants them.
func (s *Service) startTracing(so *server.Options) (err error) {
	if s.o.Tracing == nil {
		return nil
	}
	if s.tracer, err = tracing.New(s.o.Tracing, s.o.Log, s.o.Clock); err != nil {
		return err
	}
	so.Tracer = requestTracer{s.tracer}
	s.metrics.Register(s.tracer.Metrics()...)
	s.o.Log.Info("traces are sent", "collector", s.o.Tracing.Endpoint.String(), "sampler", s.o.Tracing.Sampler)
	return nil
}

func (s *Service) stopTracing() {
	if s.tracer == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastExport)
	defer cancel()
	s.tracer.Close(ctx)
}

// beginRefresh records attempts to fetch certificates and keys, each as a trace of its own.
func (s *Service) beginRefresh() func(context.Context, string) (context.Context, func(error)) {
	if s.tracer == nil {
		return nil
	}
	return func(ctx context.Context, resource string) (context.Context, func(error)) {
		return s.tracer.Work(ctx, "refresh of keys", resource)
	}
}

// beginPass records passes over what runs, each as a trace of its own.
func (s *Service) beginPass() func(context.Context) (context.Context, func(error)) {
	if s.tracer == nil {
		return nil
	}
	return func(ctx context.Context) (context.Context, func(error)) {
		return s.tracer.Work(ctx, "audit of what runs", "everything that runs")
	}
}
