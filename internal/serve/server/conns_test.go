package server

import (
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

// fakeConn is a connection from an address, of which nothing is asked but that.
type fakeConn struct {
	net.Conn
	from   string
	closed bool
}

func (c *fakeConn) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))
}

func (c *fakeConn) Close() error { c.closed = true; return nil }

// queue accepts the connections that are on it.
type queue struct {
	net.Listener
	conns chan net.Conn
}

func (q queue) Accept() (net.Conn, error) {
	c, ok := <-q.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// TestConnectionsAreCountedByAddress: who has too many loses the one that has
// waited for longest without a whole request, and nobody else's.
func TestConnectionsAreCountedByAddress(t *testing.T) {
	t.Parallel()
	q := queue{conns: make(chan net.Conn, 1)}
	table := newConnTable(q, 6, 3)
	now := time.Unix(0, 0)
	table.clock = func() time.Time { now = now.Add(time.Second); return now }
	dial := func(from string) (*fakeConn, *countedConn) {
		f := &fakeConn{from: from}
		q.conns <- f
		c, err := table.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return f, c.(*countedConn)
	}
	honest, hc := dial("10.0.0.1:1")
	idle, ic := dial("10.0.0.2:1")
	connState(ic, http.StateIdle)
	served, sc := dial("10.0.0.2:2")
	sc.whole.Add(1)
	slow, _ := dial("10.0.0.2:3")
	for _, step := range []struct {
		from string
		gone *fakeConn
	}{{"10.0.0.2:4", slow}} {
		if _, _ = dial(step.from); !step.gone.closed {
			t.Error("the connection that sends nothing is still open")
		}
	}
	if idle.closed || served.closed || honest.closed {
		t.Error("another connection was closed")
	}
	dial("10.0.0.2:5") // the one before, which has sent nothing either
	if idle.closed || served.closed {
		t.Error("an idle connection went before one that sends nothing")
	}
	dial("10.0.0.3:1")
	dial("10.0.0.3:2")
	if table.open != 6 {
		t.Fatalf("%d are open", table.open)
	}
	last, _ := dial("10.0.0.4:1") // all together are too many
	if last.closed || honest.closed || served.closed {
		t.Error("the address that has most did not make room")
	}
	_ = hc.Close()
	_ = hc.Close()
	if table.open != 5 || table.byAddr[hc.from] != nil {
		t.Errorf("%d are open", table.open)
	}
}

// TestConnectionsThatAreAnsweredStay: a new one is closed in their place.
func TestConnectionsThatAreAnsweredStay(t *testing.T) {
	t.Parallel()
	q := queue{conns: make(chan net.Conn, 3)}
	table := newConnTable(q, 2, 2)
	for range 2 {
		q.conns <- &fakeConn{from: "10.0.0.1:1"}
		c, err := table.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.(*countedConn).whole.Add(1)
	}
	refused := &fakeConn{from: "10.0.0.1:2"}
	q.conns <- refused
	close(q.conns)
	if c, err := table.Accept(); err == nil || !refused.closed || table.open != 2 {
		t.Errorf("%v, %v, %d open", c, err, table.open)
	}
}
