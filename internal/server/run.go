package server

import (
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
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 40 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10
	maxStreams        = 1000
)

// Endpoint is a listener with what answers there.
type Endpoint struct {
	Name     string
	Listener net.Listener
	TLS      *tls.Config // nil = plain HTTP
	Handler  http.Handler
}

// Run serves until ctx ends. Then it lets the requests under way finish, for at
// most drain, and refuses new connections only after grace, for whoever has not
// heard yet that this server is leaving.
func Run(ctx context.Context, endpoints []Endpoint, leaving func(), grace, drain time.Duration, logger *slog.Logger) error {
	servers := make([]*http.Server, len(endpoints))
	failed := make(chan error, len(endpoints))
	for i, e := range endpoints {
		srv := &http.Server{
			Handler: e.Handler, TLSConfig: e.TLS, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
			WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
			HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
			ErrorLog:  log.New(quiet{logger}, "", 0),
			ConnState: changed, ConnContext: connected,
		}
		servers[i] = srv
		listener := newConnTable(e.Listener, maxConns, maxConnsOfAddr)
		go func() {
			var err error
			if e.TLS != nil {
				err = srv.ServeTLS(listener, "", "")
			} else {
				err = srv.Serve(listener)
			}
			if err != nil && !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("%s: %w", e.Name, err)
			}
		}()
	}
	var err error
	select {
	case <-ctx.Done():
		leaving()
		time.Sleep(grace)
	case err = <-failed:
		leaving()
	}
	// The work under way is the point of draining: it must outlive ctx.
	shut, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	for _, srv := range servers {
		if e := srv.Shutdown(shut); e != nil && err == nil {
			err = fmt.Errorf("requests were cut off after %s: %w", drain, e)
		}
		_ = srv.Close()
	}
	return err
}

// quiet hands net/http's complaints (TLS handshakes that failed, mostly) to the log.
type quiet struct{ log *slog.Logger }

func (q quiet) Write(b []byte) (int, error) {
	q.log.Debug("connection", "problem", string(b[:min(len(b), 500)]))
	return len(b), nil
}
