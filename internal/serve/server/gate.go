package server

import (
	"crypto/tls"
	"net/http"
)

// Gate decides who may ask.
type Gate interface {
	// Check is given the connection, nil for one without TLS, and returns nil or
	// what is missing, in words for whoever asked.
	Check(*tls.ConnectionState) error
}

// gated lets only those ask whom the gate lets in; a nil gate lets in everybody.
// It is asked at each request, so that a connection that is open ends to be good
// when its certificate does.
func (s *Server) gated(gate Gate, endpoint string, next http.HandlerFunc) http.HandlerFunc {
	if gate == nil {
		return next
	}
	return func(w http.ResponseWriter, r *http.Request) {
		if err := gate.Check(r.TLS); err != nil {
			s.unproven(w, r, endpoint, err)
			return
		}
		next(w, r)
	}
}

// Check is one thing that must be well for the server to be ready; text says how
// it stands.
type Check struct {
	Name string
	Run  func() (ok bool, text string)
}

// checks runs what else must be well, and tells of it as /readyz does.
func (s *Server) checks() (ok bool, lines []string) {
	ok = true
	for _, c := range s.o.Checks {
		well, text := c.Run()
		mark := "[+] "
		if !well {
			mark = "[-] "
		}
		ok = ok && well
		lines = append(lines, mark+c.Name+": "+text)
	}
	return ok, lines
}

// leave tells a caller that this server is stopping, so that its next request goes
// to another: a connection that is closed while a request is on its way in would
// cost that request.
func (s *Server) leave(h http.Header) {
	if s.draining.Load() {
		h.Set("Connection", "close")
	}
}
