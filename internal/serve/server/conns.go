package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Limits on connections that are open at a time. An API server speaks HTTP/1.1 to a
// Service's webhooks: each request that is under way needs one, and it keeps 25.
const (
	maxConns       = 2048
	maxConnsOfAddr = 512
)

// connTable counts the connections of one listener by remote address. Where one has
// too many, or all together have, the one is closed that has been without a whole
// request for longest, of the address that has most; idle ones come last. Where all
// are being answered, the new one is.
type connTable struct {
	net.Listener
	most, mostOfAddr int
	clock            func() time.Time

	mu     sync.Mutex
	open   int
	none   chan struct{} // room for one: the last one was closed
	byAddr map[netip.Addr]map[*countedConn]struct{}
}

// countedConn is a connection in a table.
type countedConn struct {
	net.Conn
	table *connTable
	from  netip.Addr
	since time.Time // when it was accepted, or became active or idle; under table.mu
	idle  bool      // under table.mu
	whole atomic.Int32
	once  sync.Once
}

func newConnTable(l net.Listener, most, mostOfAddr int) *connTable {
	return &connTable{Listener: l, most: most, mostOfAddr: mostOfAddr, clock: time.Now, none: make(chan struct{}, 1), byAddr: map[netip.Addr]map[*countedConn]struct{}{}}
}

// Accept implements net.Listener.
func (t *connTable) Accept() (net.Conn, error) {
	for {
		conn, err := t.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &countedConn{Conn: conn, table: t, from: remoteNetwork(conn.RemoteAddr().String()), since: t.clock()}
		victim, ok := t.add(c)
		if victim != nil {
			_ = victim.Close()
		}
		if ok {
			return c, nil
		}
		_ = conn.Close()
	}
}

// add counts a connection. It reports false where there is no room for it, and
// returns another that is to be closed so that there is.
func (t *connTable) add(c *countedConn) (victim *countedConn, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch mine := t.byAddr[c.from]; {
	case len(mine) >= t.mostOfAddr:
		victim = longestWaiting(mine)
	case t.open >= t.most:
		var largest map[*countedConn]struct{}
		for _, conns := range t.byAddr {
			if len(conns) > len(largest) {
				largest = conns
			}
		}
		victim = longestWaiting(largest)
	default:
		t.put(c)
		return nil, true
	}
	if victim == nil {
		return nil, false
	}
	t.remove(victim)
	t.put(c)
	return victim, true
}

// longestWaiting is the connection that waits for a whole request for longest, an idle one
// where none does, nil where all are being answered.
func longestWaiting(conns map[*countedConn]struct{}) (found *countedConn) {
	for c := range conns {
		switch {
		case c.whole.Load() > 0:
		case found == nil, found.idle && !c.idle, found.idle == c.idle && c.since.Before(found.since):
			found = c
		}
	}
	return found
}

func (t *connTable) put(c *countedConn) {
	if t.byAddr[c.from] == nil {
		t.byAddr[c.from] = map[*countedConn]struct{}{}
	}
	t.byAddr[c.from][c] = struct{}{}
	t.open++
}

func (t *connTable) remove(c *countedConn) {
	conns := t.byAddr[c.from]
	if _, ok := conns[c]; !ok {
		return
	}
	delete(conns, c)
	if t.open--; t.open == 0 {
		select {
		case t.none <- struct{}{}:
		default:
		}
	}
	if len(conns) == 0 {
		delete(t.byAddr, c.from)
	}
}

// quiet waits until no connection is open, or ctx ends, and returns how many still
// are.
func (t *connTable) quiet(ctx context.Context) int {
	for {
		t.mu.Lock()
		open := t.open
		t.mu.Unlock()
		if open == 0 || ctx.Err() != nil {
			return open
		}
		select {
		case <-t.none:
		case <-ctx.Done():
		}
	}
}

// Close implements net.Conn.
func (c *countedConn) Close() error {
	c.once.Do(func() {
		c.table.mu.Lock()
		defer c.table.mu.Unlock()
		c.table.remove(c)
	})
	return c.Conn.Close()
}

// connState is http.Server's ConnState.
func connState(conn net.Conn, state http.ConnState) {
	if c := countedOf(conn); c != nil && (state == http.StateActive || state == http.StateIdle) {
		c.table.mu.Lock()
		defer c.table.mu.Unlock()
		c.idle, c.since = state == http.StateIdle, c.table.clock()
	}
}

func countedOf(conn net.Conn) *countedConn {
	if above, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS, or one whose first byte was read
		conn = above.NetConn()
	}
	c, _ := conn.(*countedConn)
	return c
}

type connKey struct{}

// connContext is http.Server's ConnContext.
func connContext(ctx context.Context, conn net.Conn) context.Context {
	if c := countedOf(conn); c != nil {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// markAnswering says that the connection of a request has one that is whole, until done
// is called.
func markAnswering(ctx context.Context) (done func()) {
	c, _ := ctx.Value(connKey{}).(*countedConn)
	if c == nil {
		return func() {}
	}
	c.whole.Add(1)
	return func() { c.whole.Add(-1) }
}
