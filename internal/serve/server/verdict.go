package server

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"time"

	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
)

// The endpoints that the API server asks.
const (
	endpointValidate = "admission-validate"
	endpointPin      = "admission-mutate"
	endpointAdvise   = "admission-advise"
)

const (
	// maxFronts is how many requests without room may be read up to their uid, and past
	// their end, at a time: of one remote address, and of all together. An address that
	// has fewer than minFronts may always have one more.
	maxFronts, maxFrontsOfAddr, minFronts = 2048, 256, 64
	// maxDrained bounds what is read of a review that is not kept: two objects of the
	// 3 MiB that the API server takes, each byte of which it may write as six (\u003c).
	maxDrained = 2*6*(3<<20) + 1<<20
)

// isReview reports whether an endpoint is asked with reviews.
func isReview(endpoint string) bool {
	return endpoint == endpointValidate || endpoint == endpointPin || endpoint == endpointAdvise
}

// verdict turns a refusal into an answer to the review, where its uid stands in what
// was read: with failurePolicy Ignore the API server takes what is no answer for a
// yes, and whoever sends a large object, or many, would bring that about.
func (s *Server) verdict(endpoint string, front []byte, rep reply) reply {
	switch {
	case rep.status == 0:
		return rep
	case !isReview(endpoint):
		return systemError(rep)
	}
	return s.verdictOn(endpoint, admission.FrontUID(front[:min(len(front), admission.FrontBytes)]), rep)
}

// systemError says in Gatekeeper's protocol why a request of Gatekeeper's is refused:
// it reads the body whatever the status is, and shows what is no ProviderResponse as
// "invalid character".
func systemError(rep reply) reply {
	if rep.json {
		return rep
	}
	rep.body, rep.json = externaldata.AppendSystemError(nil, externaldata.V1Beta1, string(bytes.TrimSpace(rep.body))), true
	return rep
}

// verdictOn is verdict for a uid. The object is not admitted; where images are to be
// pinned it goes on as it is, to be judged by validation, and what is only advised on
// goes on, too. What is counted stays the status of the refusal.
func (s *Server) verdictOn(endpoint, uid string, refused reply) reply {
	switch {
	case refused.status == 0:
		return refused
	case !isReview(endpoint):
		return systemError(refused)
	case uid == "":
		return refused
	}
	text := string(bytes.TrimSpace(refused.body))
	var a admission.Answer
	switch endpoint {
	case endpointValidate:
		a.Message = "Boltseal could not check this object, and admits nothing that it has not checked: " + text
	case endpointPin:
		a.Allowed, a.Warnings = true, []string{"Boltseal could not look for tags, and pinned none: " + text}
	case endpointAdvise:
		a.Allowed = true
	default:
		return refused
	}
	rep := encodeAnswer(uid, a)
	if rep.status == 0 {
		rep.counted = refused.status
	}
	return rep
}

// front reads on in a review that there is no room for: as far as its uid stands in
// it, and then to its end, of which nothing is kept, since a caller that is still
// sending may not hear the answer. read is what was read before. It reads nothing
// where too many are read so.
func (s *share) front(r *http.Request, endpoint string, read []byte, deadline time.Time) []byte {
	if !isReview(endpoint) || !s.room.front(s.from, 1) {
		return read
	}
	defer s.room.front(s.from, -1)
	if err := ignoreUnsupported(http.NewResponseController(s.w).SetReadDeadline(deadline)); err != nil {
		return read
	}
	buf := append(make([]byte, 0, admission.FrontBytes), read...)
	for len(buf) < cap(buf) && admission.FrontUID(buf) == "" {
		n, err := r.Body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err != nil {
			return buf
		}
	}
	_, _ = io.CopyN(io.Discard, r.Body, maxDrained)
	return buf
}

// front counts a request of an address that is read so. It reports false where there
// are too many.
func (rm *room) front(from netip.Addr, n int) bool {
	rm.mu.Lock()
	defer rm.mu.Unlock()
	c := rm.callers[from]
	if n > 0 && (c.fronts >= maxFrontsOfAddr || rm.fronts >= maxFronts && c.fronts >= minFronts) {
		return false
	}
	c.fronts += n
	rm.fronts += n
	return true
}

// unproven refuses a request of somebody who may not ask. A review is denied by its
// uid: an API server whose certificate is missing or over is no reason to admit what
// nobody judged.
func (s *Server) unproven(w http.ResponseWriter, r *http.Request, endpoint string, why error) {
	s.o.Metrics.requests.WithLabelValues(endpoint, "401").Inc()
	rep := refusedReply(http.StatusUnauthorized, "%v", why)
	if isReview(endpoint) && r.Method == http.MethodPost {
		mine := s.roomOf(endpoint).enter(w, remoteNetwork(r.RemoteAddr), false)
		defer mine.leave()
		rep = s.verdict(endpoint, mine.front(r, endpoint, nil, s.o.Clock().Add(s.bodyTime(endpoint, r))), rep)
	}
	if !isReview(endpoint) {
		rep = systemError(rep)
	}
	switch {
	case rep.status == 0:
		w.Header()["Content-Type"] = jsonType
	case rep.json:
		w.Header()["Content-Type"] = jsonType
		w.WriteHeader(rep.status)
	default:
		http.Error(w, why.Error(), rep.status)
		return
	}
	_, _ = w.Write(rep.body)
}
