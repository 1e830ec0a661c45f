package server

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"sync"
	"testing"
)

func at(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }

func (rm *room) stranger(n int) *share { return rm.enter(httptest.NewRecorder(), at(n), false) }

// sending is a share whose request is coming in, of so many bytes until now.
func sending(t *testing.T, s *share, n int) *share {
	t.Helper()
	s.move(false)
	if !s.set(n) {
		t.Fatalf("no room for %d bytes", n)
	}
	return s
}

// TestRoomIsNeverOverfull: what many take at once never adds up to more than there
// is, small shares find room where large ones do not, and all of it comes back.
func TestRoomIsNeverOverfull(t *testing.T) {
	t.Parallel()
	const most = 4 << 20
	rm := &room{most: most}
	var large []*share
	for n := 0; ; n++ {
		s := rm.stranger(n)
		large = append(large, s)
		if !s.set(smallBuffer + 1) {
			break
		}
	}
	if used := rm.held(); used > most*3/4 || used < most/2 {
		t.Errorf("large ones take %d of %d", used, most)
	}
	small := rm.stranger(1000)
	if !small.set(smallBuffer) || small.set(2*smallBuffer) || small.held != smallBuffer {
		t.Errorf("a small one holds %d", small.held)
	}
	small.leave()
	for _, s := range large {
		if s.held > 10 && !s.set(10) {
			t.Error("it cannot be given back")
		}
		s.leave()
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 2000 {
				s := rm.enter(httptest.NewRecorder(), at(j%5), j%7 == 0)
				if i%2 == 0 {
					s.move(j%3 == 0)
				}
				s.set((i*7919 + j*104729) % (2 << 20))
				if used := rm.held(); used > most || used < 0 {
					t.Errorf("%d of %d bytes", used, most)
				}
				s.rest()
				s.leave()
			}
		})
	}
	wg.Wait()
	if used := rm.held(); used != 0 || len(rm.callers) != 0 || len(rm.spare) > maxSpare {
		t.Errorf("%d bytes and %d callers are left", used, len(rm.callers))
	}
	for _, c := range rm.spare {
		if c.held != 0 || c.moving != 0 || c.shares != 0 || c.slow.Len() != 0 {
			t.Errorf("a caller that has left holds %+v", *c)
		}
	}
}

// TestWhoIsSlowMakesRoom: the longest of whoever holds most in requests that still
// come in; those that are whole stay.
func TestWhoIsSlowMakesRoom(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	rm := &room{most: most}
	whole := rm.stranger(1)
	if !whole.set(most / 4) {
		t.Fatal("no room")
	}
	few := sending(t, rm.stranger(2), most/16)
	var many []*share
	for range 5 {
		many = append(many, sending(t, rm.stranger(3), most/16))
	}
	other := sending(t, rm.stranger(4), most/32)
	rm.stranger(5).set(most / 8)
	for n := range 3 {
		if s := rm.stranger(6 + n); !s.set(most / 8) {
			t.Errorf("no room for the caller %d", n)
		}
	}
	for i, s := range many {
		if ended := !s.rest(); ended != (i < 3) { // as many as are needed, the longest first
			t.Errorf("request %d of the caller who sends most: ended is %v", i, ended)
		}
	}
	if !few.rest() || !other.rest() || !whole.rest() {
		t.Error("a request of another is ended, or one that is whole")
	}
	if used := rm.held(); used > most {
		t.Errorf("%d of %d bytes", used, most)
	}
}

// TestNobodyHoldsAllOfTheRoom: one address has a half of it, and makes room for
// itself within that.
func TestNobodyHoldsAllOfTheRoom(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	rm := &room{most: most}
	var mine []*share
	for i := range 8 {
		s := rm.stranger(1)
		if ok := s.set(most / 8); ok != (i < 4) {
			t.Errorf("request %d that is whole: %v", i, ok)
		}
		mine = append(mine, s)
	}
	if s := rm.stranger(2); !s.set(most / 8) {
		t.Error("nothing is left for another")
	}
	mine[0].move(false)
	if s := rm.stranger(1); !s.set(most/8) || mine[0].rest() {
		t.Error("a request does not make room for another of the same caller")
	}
}

// TestRoomForTheAPIServer: who has proven who it is has a part of its own, and makes
// room for nobody else.
func TestRoomForTheAPIServer(t *testing.T) {
	t.Parallel()
	const most = 1 << 20
	rm := &room{most: most, reserved: most / 4}
	proven := sending(t, rm.enter(httptest.NewRecorder(), at(100), true), most/16)
	for n := range 30 {
		rm.stranger(n).set(most / 16) // whole
	}
	if used := rm.held(); used > most-rm.reserved {
		t.Errorf("strangers take %d of %d bytes", used, most)
	}
	if !proven.rest() {
		t.Error("the API server's request was ended for strangers")
	}
	if s := rm.enter(httptest.NewRecorder(), at(101), true); !s.set(most / 8) {
		t.Error("no room for the API server")
	}
}

func TestRemoteAddresses(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"10.1.2.3:4": "10.1.2.3", "[::ffff:10.1.2.3]:4": "10.1.2.3", "[fe80::1%eth0]:4": "fe80::",
		"[2001:db8:1:2:3:4:5:6]:7": "2001:db8:1:2::", "[2001:db8:1:2::1]:7": "2001:db8:1:2::", "pipe": "invalid IP", "": "invalid IP",
	} {
		if got := fmt.Sprint(remoteNetwork(in)); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}
