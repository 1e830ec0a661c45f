package server

import (
	"errors"
	"io"
	"net/http"
	"runtime"
	"time"
)

const (
	// firstBuffer is what reading a request begins with; it holds nearly all.
	firstBuffer = 16 << 10
	// smallBuffer is the size of buffers that may use room to the last byte. Larger
	// ones leave a quarter free, so that the few large requests of slow callers do
	// not keep the many small ones out.
	smallBuffer = 128 << 10
	// maxPooled is the largest buffer that is kept for the next request.
	maxPooled = smallBuffer
	// heavyBody is the size of bodies that are decoded maxHeavy at a time: to take
	// one apart can cost some times its size.
	heavyBody = 512 << 10
	maxHeavy  = 2
)

// decodersAtATime is how many bodies over firstBuffer are decoded at a time, in turn
// for the addresses that they come from: one processor is left to smaller ones.
func decodersAtATime() int { return max(runtime.GOMAXPROCS(0)-1, 1) }

// decoding waits until a body may be decoded; done is to be called then. It
// reports false where the time was up before there was a processor, or memory, for it.
func (s *Server) decoding(in *question) (done func(), ok bool) {
	if len(in.body) <= firstBuffer {
		return func() {}, true
	}
	ctx, cancel := in.within()
	defer cancel()
	done = s.decoders.Give
	if len(in.body) > heavyBody {
		select {
		case s.heavy <- struct{}{}:
		case <-ctx.Done():
			return nil, false
		}
		done = func() { s.decoders.Give(); <-s.heavy }
	}
	if s.decoders.Take(ctx, in.from.String()) != nil {
		if len(in.body) > heavyBody {
			<-s.heavy
		}
		return nil, false
	}
	return done, true
}

// fewImages is how many images of one object are recorded and answered for without a
// turn.
const fewImages = 32

// concluding waits until an answer about so many images may be written, which takes a
// processor for as long as decoding does; done is to be called then. Where the time is
// up it does not wait: an answer is due.
func (s *Server) concluding(in *question, images int) (done func()) {
	if images <= fewImages {
		return func() {}
	}
	ctx, cancel := in.within()
	defer cancel()
	if s.decoders.Take(ctx, in.from.String()) != nil {
		return func() {}
	}
	return s.decoders.Give
}

var (
	errTooLarge = errors.New("too large")
	errNoRoom   = errors.New("no room")
	// errSlow: others needed the room while the request was still coming in.
	errSlow = errors.New("too slow")
)

// read reads a body of at most most bytes into buf, which it may replace. Its
// share grows with what has arrived, not with what the caller says will come. What
// is not there by the deadline is not waited for, and not even that long where
// others need the room.
func (s *share) read(r *http.Request, buf []byte, most int, deadline time.Time) ([]byte, error) {
	if !s.set(cap(buf)) {
		return buf, errNoRoom
	}
	s.move(false)
	buf, err := s.readAll(r, buf, most, deadline)
	if !s.rest() {
		return buf, errSlow
	}
	return buf, err
}

func (s *share) readAll(r *http.Request, buf []byte, most int, deadline time.Time) ([]byte, error) {
	var timer *http.ResponseController // nil = none is set
	for {
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case len(buf) > most:
			return buf, errTooLarge
		case err == io.EOF:
			// It stays where something went wrong, for net/http reads on then.
			if timer == nil {
				return buf, nil
			}
			return buf, ignoreUnsupported(timer.SetReadDeadline(time.Time{}))
		case err != nil:
			return buf, err
		}
		if timer == nil { // most bodies come at once, and need none
			timer = http.NewResponseController(s.w)
			if err := ignoreUnsupported(timer.SetReadDeadline(deadline)); err != nil {
				return buf, err
			}
		}
		if len(buf) == cap(buf) {
			n := min(2*cap(buf), most+1)
			if !s.set(n) {
				return buf, errNoRoom
			}
			buf = append(make([]byte, 0, n), buf...)
		}
	}
}

// ignoreUnsupported passes over what a kind of connection cannot do.
func ignoreUnsupported(err error) error {
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}
