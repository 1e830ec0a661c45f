package oci

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/boltseal/boltseal"
)

// TestSlowAnswersMakeRoom: what arrives for a second ends when others need the room,
// of the host that holds most; one host never has all of it.
func TestSlowAnswersMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRoom(1 << 20)
		var slow []*roomShare
		ended := 0
		for range 4 {
			s := r.enter("slow.example", func() { ended++ })
			if err := s.grow(t.Context(), 96<<10); err != nil {
				t.Fatal(err)
			}
			slow = append(slow, s)
		}
		other := r.enter("other.example", func() { t.Error("the host that holds less made room") })
		if err := other.grow(t.Context(), 96<<10); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		honest := r.enter("honest.example", func() { t.Error("who asks ended itself") })
		if err := honest.grow(t.Context(), 384<<10); err != nil || ended != 1 || time.Since(began) != slowAnswer {
			t.Errorf("%v after %v, %d ended", err, time.Since(began), ended)
		}
		if slow[0].arrived() || !slow[1].arrived() {
			t.Error("not the longest ended")
		}
		if err := slow[0].grow(t.Context(), 1); !errors.Is(err, boltseal.ErrUnavailable) {
			t.Error(err)
		}
		honest.arrived()
		// The host's own next answer takes from its own.
		again := r.enter("slow.example", func() {})
		if err := again.grow(t.Context(), 192<<10); err != nil || ended != 3 {
			t.Errorf("%v, %d ended", err, ended)
		}
		if err := honest.grow(t.Context(), 1<<20); !errors.Is(err, boltseal.ErrLimit) {
			t.Errorf("more than one host may hold: %v", err)
		}
		for _, s := range append(slow, other, honest, again) {
			s.leave()
			s.leave()
		}
		if r.used != 0 || len(r.hosts) != 0 {
			t.Errorf("%d bytes, %d hosts are left", r.used, len(r.hosts))
		}
	})
}

// TestAnswersWaitForRoom: what has arrived is waited for, and no longer than the
// caller waits.
func TestAnswersWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := NewRoom(1 << 20)
		full := func(host string, n int64) *roomShare {
			s := r.enter(host, func() { t.Error("what has arrived was ended") })
			if err := s.grow(t.Context(), n); err != nil || !s.arrived() {
				t.Fatal(err)
			}
			return s
		}
		first := full("a.example", 512<<10)
		full("b.example", 256<<10) // a quarter is for small ones
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		waits := r.enter("c.example", func() {})
		if err := waits.grow(ctx, 65<<10); !errors.Is(err, boltseal.ErrUnavailable) {
			t.Error(err)
		}
		if err := r.enter("d.example", func() {}).grow(t.Context(), 64<<10); err != nil {
			t.Errorf("a small one: %v", err)
		}
		got := make(chan error)
		go func() { got <- waits.grow(t.Context(), 65<<10) }()
		synctest.Wait()
		first.leave()
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

// TestArriving: a body is read whole, to one byte over its limit, in a buffer that
// grows with what has come and not with what was promised.
func TestArriving(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, firstChunk - 1, firstChunk, firstChunk + 1, 3*firstChunk + 7, 1 << 20} {
		content := bytes.Repeat([]byte("x"), n)
		for _, size := range []int64{-1, int64(n), int64(n) / 2, 1 << 40} {
			for _, limit := range []int64{int64(n), int64(n) + 5, int64(n) / 2, 1 << 40} {
				r := NewRoom(64 << 20)
				share := r.enter("h", func() {})
				body := &heldBody{ReadCloser: io.NopCloser(iotest.HalfReader(bytes.NewReader(content))), ctx: t.Context(), share: share}
				b, err := readArriving(body, size, limit)
				if err != nil || int64(len(b)) != min(int64(n), limit+1) || int64(cap(b)) > 4*int64(n)+firstChunk+8 || share.held+1 < int64(len(b)) {
					t.Errorf("%d bytes, said to be %d, at most %d: %d bytes (cap %d), held %d, %v", n, size, limit, len(b), cap(b), share.held, err)
				}
			}
		}
	}
	ctx := boltseal.WithBudget(t.Context(), boltseal.Cost{Bytes: 1 << 20})
	share := NewRoom(64<<20).enter("h", func() {})
	for i := range 3 {
		body := &heldBody{ReadCloser: io.NopCloser(bytes.NewReader(make([]byte, 400<<10))), ctx: ctx, share: share}
		if _, err := readArriving(body, 400<<10, 1<<20); errors.Is(err, boltseal.ErrLimit) != (i == 2) {
			t.Errorf("body %d: %v", i, err)
		}
	}
}
