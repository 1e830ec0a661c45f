package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits on connections.
const (
	// arrivalTimeout is for a handshake, and for a request to arrive: what API servers
	// wait by default. Less would cost requests where a replica is short of processors.
	arrivalTimeout = 10 * time.Second
	writeTimeout   = 40 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
	maxStreams     = 1000
	// lastRequests is how long requests may take that are under way when the server
	// has waited for its clients long enough.
	lastRequests = 5 * time.Second
)

// Endpoint is a listener with what answers there.
type Endpoint struct {
	Name     string
	Listener net.Listener
	TLS      *tls.Config // nil = plain HTTP
	Handler  http.Handler
	// Lasting is for an endpoint whose every request counts: its connections are
	// left to their clients to close, as long as there is time.
	Lasting bool
	// Arrival is how long a TLS handshake, and a request, may take to arrive. 0 means
	// ten seconds.
	Arrival time.Duration
}

// Run serves until ctx ends. Then it calls leaving, from which on each answer tells
// its client to ask elsewhere the next time, and goes on as before for grace, for
// whoever has not heard yet that this server is leaving.
//
// After that it ends, but not before the connections of lasting endpoints are
// closed, for at most drain. One that was idle all the time cannot be told: were it
// closed, a request that is just being written to it would be lost (RFC 9112,
// section 9.5). So it is served until its client has closed it, or has asked once
// more and was told. Go's clients, the API server's among them, close a connection
// that was idle for 90 s.
//
// The last of drain is for requests that are still being answered then; Run returns
// an error where it is too short for them.
func Run(ctx context.Context, endpoints []Endpoint, leaving func(), grace, drain time.Duration, logger *slog.Logger) error {
	servers := make([]*http.Server, len(endpoints))
	failed := make(chan error, len(endpoints))
	var lasting []*connTable
	for i, e := range endpoints {
		arrival := cmp.Or(e.Arrival, arrivalTimeout)
		e.TLS = e.TLS.Clone() // net/http writes to it: it may be another server's, too
		srv := &http.Server{
			Handler: e.Handler, TLSConfig: e.TLS, ReadHeaderTimeout: arrival, ReadTimeout: arrival,
			WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
			HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
			ErrorLog:  log.New(complaints{logger}, "", 0),
			ConnState: connState, ConnContext: connContext,
		}
		servers[i] = srv
		listener := newConnTable(e.Listener, maxConns, maxConnsOfAddr)
		serve := func() error { return srv.Serve(listener) }
		switch {
		case e.Lasting:
			lasting = append(lasting, listener)
			serve = func() error { return srv.Serve(newFront(listener, e.TLS, arrival, logger)) }
		case e.TLS != nil:
			serve = func() error { return srv.ServeTLS(listener, "", "") }
		}
		go func() {
			if err := serve(); err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("%s: %w", e.Name, err)
			}
		}()
	}
	// The work under way is the point of draining: it must outlive ctx.
	after := context.WithoutCancel(ctx)
	last := min(drain/3, lastRequests)
	var err error
	select {
	case err = <-failed:
		leaving()
	case <-ctx.Done():
		leaving()
		select {
		case err = <-failed:
		case <-time.After(grace):
			letGo(after, lasting, drain-last, logger)
		}
	}
	shut, cancel := context.WithTimeout(after, last)
	defer cancel()
	for _, srv := range servers {
		if e := srv.Shutdown(shut); e != nil && err == nil {
			err = fmt.Errorf("requests were cut off after %s: %w", drain, e)
		}
		_ = srv.Close()
	}
	return err
}

// letGo waits until clients have closed their connections, or were told to, for at
// most limit.
func letGo(ctx context.Context, tables []*connTable, limit time.Duration, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	open := 0
	for _, t := range tables {
		open += t.quiet(ctx)
	}
	if open > 0 {
		logger.Warn("connections are closed that clients still hold: a request that is on its way on one of them is lost; a longer --shutdown-timeout avoids that",
			"connections", open, "after", limit)
	}
}

// complaints hands net/http's complaints (TLS handshakes that failed, mostly) to the log.
type complaints struct{ log *slog.Logger }

func (q complaints) Write(b []byte) (int, error) {
	q.log.Debug("connection", "problem", string(b[:min(len(b), 500)]))
	return len(b), nil
}
