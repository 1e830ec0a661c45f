// Package pageserver answers requests for the compliance page.
package pageserver

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/boltseal/boltseal/internal/governance/page"
)

// Limits on what is read and how long it may take.
const (
	maxHeader    = 16 << 10 // bytes of a request's header
	maxAtOnce    = 4        // pages that are written at a time
	readTimeout  = 10 * time.Second
	writeTimeout = time.Minute
	loadTimeout  = time.Minute
	drain        = 5 * time.Second
)

// Defaults of how old a state may be that is shown.
const (
	DefaultFresh = 5 * time.Second
	DefaultStale = 30 * time.Second
)

// Source reads what the hub knows.
type Source func(context.Context) (page.Input, error)

// Options make a Handler.
type Options struct {
	// Source is asked for the state of the hub. Required.
	Source Source
	// Port, where not 0, is that of a loopback address that the page is served at: requests
	// for another host are refused, since a web site may lead a name of its own here.
	Port int
	// Readers, where set, tells whether whoever asks may read the page. Nil lets in everybody who
	// reaches it.
	Readers Readers
	// Fresh is how old a state may be that is shown without another being read; Stale is how
	// old one may be that is shown while another is being read. 0 means the defaults.
	Fresh, Stale time.Duration
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
	// Log receives what failed. Nil discards it.
	Log *slog.Logger
}

// Readers tells who may read the page.
type Readers interface {
	// Check returns nil where whoever asks may read it, ErrUnauthenticated, ErrForbidden, or
	// another error where that is not known.
	Check(*http.Request) error
}

// Why somebody may not read the page.
var (
	ErrUnauthenticated = errors.New("say who you are: with a token of the cluster as Bearer, or as the password with any user name")
	ErrForbidden       = errors.New("you may not read the page")
)

// Handler answers at the path /.
type Handler struct {
	o      Options
	states *states
	slots  chan struct{}
}

// New returns the handler of the page.
func New(o Options) *Handler {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.Fresh, o.Stale = cmp.Or(o.Fresh, DefaultFresh), cmp.Or(o.Stale, DefaultStale)
	return &Handler{o: o, states: &states{o: o, idle: make(chan struct{}, 1)}, slots: make(chan struct{}, maxAtOnce)}
}

// ServeHTTP writes a page, or says in a line of text why there is none.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", page.Policy()+"; frame-ancestors 'none'")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Frame-Options", "DENY")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cache-Control", "no-store")
	switch {
	case h.o.Port != 0 && !isLoopback(r.Host, h.o.Port):
		writeText(w, http.StatusMisdirectedRequest, "this page is served at 127.0.0.1 and localhost only")
		return
	case r.URL.Path != "/":
		writeText(w, http.StatusNotFound, "there is one path here: /")
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		head.Set("Allow", "GET, HEAD")
		writeText(w, http.StatusMethodNotAllowed, "the page can be read only")
		return
	}
	q, err := page.ParseQuery(r.URL.RawQuery)
	if err != nil {
		writeText(w, http.StatusBadRequest, err.Error())
		return
	}
	if h.o.Readers != nil && !h.admitted(w, r) {
		return
	}
	h.write(w, r, q)
}

func (h *Handler) admitted(w http.ResponseWriter, r *http.Request) bool {
	err := h.o.Readers.Check(r)
	switch {
	case err == nil:
		return true
	case errors.Is(err, ErrUnauthenticated):
		w.Header().Add("WWW-Authenticate", `Basic realm="Boltseal", charset="UTF-8"`)
		w.Header().Add("WWW-Authenticate", `Bearer realm="Boltseal"`)
		writeText(w, http.StatusUnauthorized, err.Error())
	case errors.Is(err, ErrForbidden):
		writeText(w, http.StatusForbidden, err.Error())
	default:
		h.o.Log.Warn("page: who reads it is not known", "error", err)
		writeText(w, http.StatusServiceUnavailable, "the API server does not say who you are and what you may read: try again")
	}
	return false
}

func (h *Handler) write(w http.ResponseWriter, r *http.Request, q page.Query) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-r.Context().Done():
		return
	}
	site, err := h.states.get(r.Context())
	if err != nil {
		h.o.Log.Warn("page: the state of the hub cannot be read", "error", err)
		text := "the state of the hub cannot be read now: try again"
		if h.o.Readers == nil { // it is the reader's own way to the hub
			text = err.Error()
		}
		writeText(w, http.StatusBadGateway, text)
		return
	}
	var b bytes.Buffer
	switch err := site.Write(&b, q); {
	case errors.Is(err, page.ErrNotFound):
		writeText(w, http.StatusNotFound, err.Error())
	case err != nil:
		h.o.Log.Warn("page: it cannot be written", "error", err)
		writeText(w, http.StatusInternalServerError, "the page cannot be written; the log says why")
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
		_, _ = b.WriteTo(w)
	}
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// isLoopback tells whether a Host header names this machine alone, and the port.
func isLoopback(host string, port int) bool {
	name, p, err := net.SplitHostPort(host)
	if err != nil || p != strconv.Itoa(port) {
		return false
	}
	return name == "127.0.0.1" || name == "::1" || name == "localhost"
}

// Serve answers on a listener until the context ends.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, MaxHeaderBytes: maxHeader, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: writeTimeout,
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if s.Shutdown(end) != nil {
		_ = s.Close()
	}
	<-done
	return nil
}
