package server

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

// front is a listener that hands a connection to net/http when its first request
// begins. net/http gives a new connection
// ReadHeaderTimeout for the first request, but idleTimeout for the next ones.
// Clients that keep connections (Go's among them) open spare ones, and use them
// for their first request a minute later: closed before, it would cost that request.
type front struct {
	net.Listener
	config *tls.Config   // nil = plain HTTP
	within time.Duration // for a handshake
	log    *slog.Logger
	asked  chan net.Conn // connections whose first request begins
	failed chan error    // what accepting failed with
	ended  chan struct{} // closed by Close
	end    sync.Once

	mu      sync.Mutex
	waiting map[net.Conn]bool // those that nothing was asked on; nil = closed
}

// newFront accepts connections on l at once, and gives each handshake so long. Close
// ends it.
func newFront(l net.Listener, config *tls.Config, handshake time.Duration, log *slog.Logger) *front {
	f := &front{Listener: l, config: config, within: handshake, log: log, asked: make(chan net.Conn), failed: make(chan error), ended: make(chan struct{}),
		waiting: map[net.Conn]bool{}}
	go f.accept()
	return f
}

func (f *front) accept() {
	for {
		c, err := f.Listener.Accept()
		if err == nil {
			go f.meet(c)
			continue
		}
		select {
		case f.failed <- err: // net/http waits a moment before it asks again
		case <-f.ended:
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// Accept returns a connection on which a request begins.
func (f *front) Accept() (net.Conn, error) {
	select {
	case c := <-f.asked:
		return c, nil
	case err := <-f.failed:
		return nil, err
	case <-f.ended:
		return nil, net.ErrClosed
	}
}

// Close ends the listener, and the connections on which nothing was asked.
func (f *front) Close() error {
	err := net.ErrClosed
	f.end.Do(func() {
		err = f.Listener.Close()
		close(f.ended)
		f.mu.Lock()
		idle := f.waiting
		f.waiting = nil
		f.mu.Unlock()
		for c := range idle {
			_ = c.Close()
		}
	})
	return err
}

// meet hands a connection over when its first request begins.
func (f *front) meet(raw net.Conn) {
	f.mu.Lock()
	if f.waiting != nil {
		f.waiting[raw] = true
	}
	f.mu.Unlock()
	c, err := f.first(raw)
	f.mu.Lock()
	delete(f.waiting, raw)
	f.mu.Unlock()
	if err != nil {
		f.log.Debug("connection", "from", raw.RemoteAddr().String(), "problem", err.Error())
		_ = raw.Close()
		return
	}
	select {
	case f.asked <- c:
	case <-f.ended:
		_ = c.Close()
	}
}

// first agrees on TLS and waits for the first byte of a request.
func (f *front) first(raw net.Conn) (net.Conn, error) {
	select {
	case <-f.ended:
		return nil, net.ErrClosed
	default:
	}
	if f.config == nil {
		first, err := firstByte(raw)
		return &askedPlain{raw, first}, err
	}
	c := tls.Server(raw, f.config)
	if err := raw.SetDeadline(time.Now().Add(f.within)); err != nil {
		return nil, err
	}
	if err := c.Handshake(); err != nil {
		if no := (tls.RecordHeaderError{}); errors.As(err, &no) && no.Conn != nil && no.RecordHeader[0] >= 'A' { // a method of HTTP
			_, _ = io.WriteString(no.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThis is an HTTPS server: ask with https://\n")
		}
		return nil, err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if c.ConnectionState().NegotiatedProtocol == "h2" {
		return c, nil // its client speaks at once, and net/http wants the connection as it is
	}
	first, err := firstByte(c)
	return &askedTLS{c, first}, err
}

// firstByte waits for the first byte as long as for that of a later request.
func firstByte(c net.Conn) ([]byte, error) {
	if err := c.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
		return nil, err
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, err
	}
	return b, c.SetReadDeadline(time.Time{})
}

// askedPlain and askedTLS are connections whose first byte was read.
type (
	askedPlain struct {
		net.Conn
		first []byte
	}
	askedTLS struct {
		*tls.Conn
		first []byte
	}
)

// NetConn is the connection below, as tls.Conn has it.
func (c *askedPlain) NetConn() net.Conn { return c.Conn }

func (c *askedPlain) Read(b []byte) (int, error) { return readAfter(&c.first, c.Conn, b) }
func (c *askedTLS) Read(b []byte) (int, error)   { return readAfter(&c.first, c.Conn, b) }

func readAfter(first *[]byte, rest io.Reader, b []byte) (int, error) {
	if len(*first) == 0 || len(b) == 0 {
		return rest.Read(b)
	}
	n := copy(b, *first)
	*first = (*first)[n:]
	return n, nil
}
