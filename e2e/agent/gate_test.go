package agent

import (
	"context"
	"errors"
	"net"
	"sync"
)

// gate is a way to a cluster that can be shut: the connections that are there break, and there are no new ones.
type gate struct {
	mu    sync.Mutex
	shut  bool
	conns map[net.Conn]bool
}

func newGate() *gate { return &gate{conns: map[net.Conn]bool{}} }

var errShut = errors.New("the gate is shut")

func (g *gate) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut {
		return nil, errors.Join(errShut, conn.Close())
	}
	g.conns[conn] = true
	return conn, nil
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
	for c := range g.conns {
		_ = c.Close()
	}
	clear(g.conns)
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = false
}

// Close shuts the gate for good.
func (g *gate) Close() { g.close() }
