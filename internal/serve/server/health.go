package server

import (
	"fmt"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Loaded notes how the configuration stands; err is why what is there now could
// not be put in force.
func (s *Server) Loaded(err error) {
	now := s.o.Clock()
	s.o.Metrics.Loaded("config", now, err)
	st := Status{Err: err, LoadedAt: now}
	if old := s.status.Load(); old != nil && err != nil {
		st.LoadedAt = old.LoadedAt
	}
	s.status.Store(&st)
}

// Drain makes the server not ready, while it goes on answering.
func (s *Server) Drain() { s.draining.Store(true) }

// Health answers /healthz and /readyz, and with ?verbose says why.
func (s *Server) Health() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		ready, lines := s.ready()
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if _, verbose := r.URL.Query()["verbose"]; verbose || !ready {
			_, _ = fmt.Fprintln(w, strings.Join(lines, "\n"))
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	})
	return mux
}

func (s *Server) ready() (ready bool, lines []string) {
	snap, st := s.o.Live.Load(), s.status.Load()
	switch {
	case snap == nil:
		lines = append(lines, "[-] configuration: none is active")
	case st != nil:
		lines = append(lines, fmt.Sprintf("[+] configuration: generation %d, active since %s", snap.Generation, st.LoadedAt.UTC().Format(time.RFC3339)))
	}
	if st != nil && st.Err != nil {
		lines = append(lines, "[-] the present configuration does not apply: "+st.Err.Error())
	}
	well, more := s.checks()
	lines = append(lines, more...)
	if s.draining.Load() {
		lines = append(lines, "[-] shutting down")
	}
	return snap != nil && well && !s.draining.Load(), lines
}

// Serve answers /metrics, and /debug/pprof where profile is set.
func (m *Metrics) Serve(profile bool) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4}))
	if profile {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	return mux
}
