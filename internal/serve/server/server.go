// Package server is the HTTP side: Gatekeeper's provider, the admission webhook, health and metrics.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/answer/lastgood"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/base/fair"
	"github.com/boltseal/boltseal/internal/tracing/timing"
	"github.com/boltseal/boltseal/internal/tracing/tracecontext"
)

// Defaults of Options.
const (
	DefaultVerifyTimeout  = 2900 * time.Millisecond // below Gatekeeper's 3 s
	DefaultMutateTimeout  = 950 * time.Millisecond
	DefaultWebhookTimeout = 3 * time.Second // where the API server does not say its own
	DefaultBodyBytes      = 64 << 20
	DefaultBodyTimeout    = 8 * time.Second
	maxWebhookTimeout     = 30 * time.Second
	reservedPart          = 4  // this part of the room is for those who have proven who they are, where some can
	maxParallel           = 64 // images of one request that are verified at a time
	// An answer leaves so long before its caller gives up, a tenth of the time
	// within these bounds: the caller's clock began with the connection.
	minMargin, maxMargin = 100 * time.Millisecond, 500 * time.Millisecond
)

// Paths of the endpoints.
const (
	PathVerify   = "/ratify/gatekeeper/v1/verify"
	PathMutate   = "/ratify/gatekeeper/v1/mutate"
	PathValidate = "/admission/validate"
	PathPin      = "/admission/mutate"
)

// Options make a Server.
type Options struct {
	// Live is the configuration in force. Required.
	Live *snapshot.Live
	// Metrics count. Required.
	Metrics *Metrics
	// Audit receives decisions. Nil means that they are not recorded.
	Audit *audit.Log
	// Memory is what registries said before. Nil means that it is not known.
	Memory *lastgood.Memory
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Exempt are namespaces that the webhook lets through before there is a
	// configuration, beside kube-system: Boltseal's own.
	Exempt []string
	// NamespaceLabels returns a namespace's labels, nil where they are not known.
	// Nil means that none are.
	NamespaceLabels func(namespace string) map[string]string
	// VerifyTimeout and MutateTimeout are the time for Gatekeeper's requests,
	// WebhookTimeout for admission requests that say nothing of their own. 0
	// means the defaults.
	VerifyTimeout, MutateTimeout, WebhookTimeout time.Duration
	// BodyBytes bounds the requests and answers that are held at a time, all
	// together: what is over it is answered with 503. 0 means DefaultBodyBytes.
	BodyBytes int64
	// BodyTimeout is how long a request may take to arrive, whatever time its caller
	// has; one that is slow where room is short goes before. 0 means DefaultBodyTimeout.
	BodyTimeout time.Duration
	// KeepTags answers Gatekeeper's mutation with repo:tag@digest in place of
	// Ratify's repo@digest.
	KeepTags bool
	// Encode records what was found from memory, as the Memo does for the rest.
	// Nil means that it is not recorded.
	Encode func(*boltseal.Engine, *boltseal.Result) memo.Encoded
	// Drivers are the CSI drivers that mount images.
	Drivers integrity.Drivers
	// Provider and Webhook decide who may ask as Gatekeeper does, and as the API
	// server does. Nil lets in whoever the listener does.
	Provider, Webhook Gate
	// TrustWebhook says that what reaches the webhook comes from the API server, which
	// the network sees to, and TrustProvider that a client certificate was a condition of
	// the connection. Where neither a Gate nor this says who asks, no credentials are
	// used in the name of a namespace or a Pod: whoever asks may name any.
	TrustProvider, TrustWebhook bool
	// Advise says, within the context's time, what whoever changes one of Boltseal's own
	// kinds should know; proven, that the API server asks and nobody else. Nil means
	// nothing.
	Advise func(ctx context.Context, c admission.Change, proven bool) []string
	// Checks must all be well for the server to be ready.
	Checks []Check
	// Tracer records traces. Nil means that none are.
	Tracer Tracer
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Server answers requests. It is safe for concurrent use.
type Server struct {
	o        Options
	status   atomic.Pointer[Status]
	draining atomic.Bool
	pinAsked atomic.Bool // somebody asked to pin images
	room     room
	advice   room          // for advise alone
	advising chan struct{} // a place for each change that is looked at
	heavy    chan struct{} // a place for each heavy body that is decoded
	decoders *fair.Slots   // for bodies that are not small
	bodies   sync.Pool
	batches  sync.Pool
}

// Status is how the configuration stands.
type Status struct {
	LoadedAt time.Time
	// Err is why the configuration as it is now is not in force.
	Err error
}

// New makes a Server.
func New(o Options) *Server {
	def := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&o.VerifyTimeout, DefaultVerifyTimeout)
	def(&o.MutateTimeout, DefaultMutateTimeout)
	def(&o.WebhookTimeout, DefaultWebhookTimeout)
	def(&o.BodyTimeout, DefaultBodyTimeout)
	if o.BodyBytes <= 0 {
		o.BodyBytes = DefaultBodyBytes
	}
	if o.Audit == nil {
		o.Audit = audit.NewLog(nil, 0)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Encode == nil {
		o.Encode = func(*boltseal.Engine, *boltseal.Result) memo.Encoded { return memo.Encoded{} }
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	s := &Server{o: o, room: room{most: o.BodyBytes}, advice: room{most: adviceBytes}, advising: make(chan struct{}, maxAdvising), heavy: make(chan struct{}, maxHeavy), decoders: fair.NewSlots(decodersAtATime()),
		bodies:  sync.Pool{New: func() any { b := make([]byte, 0, firstBuffer); return &b }},
		batches: sync.Pool{New: func() any { return &batch{} }}}
	o.Metrics.gauge("boltseal_request_bytes_held", "Bytes of requests and answers that are in memory now.", func() float64 { return float64(s.room.held()) })
	if o.Webhook != nil || o.TrustWebhook {
		s.room.reserved = o.BodyBytes / reservedPart
	}
	return s
}

// Handler is what the cluster talks to.
func (s *Server) Handler() http.Handler {
	endpoints := map[string]http.HandlerFunc{
		PathVerify:   s.gated(s.o.Provider, "verify", s.handle("verify", externaldata.MaxBytes, s.verify)),
		PathMutate:   s.gated(s.o.Provider, "mutate", s.handle("mutate", externaldata.MaxBytes, s.mutate)),
		PathValidate: s.gated(s.o.Webhook, endpointValidate, s.handle(endpointValidate, admission.MaxBytes, s.validate)),
		PathPin:      s.gated(s.o.Webhook, endpointPin, s.handle(endpointPin, admission.MaxBytes, s.pin)),
		PathAdvise:   s.gated(s.o.Webhook, endpointAdvise, s.handle(endpointAdvise, maxAdvised, s.advise)),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.leave(w.Header())
		if h, ok := endpoints[r.URL.Path]; ok {
			h(w, r)
			return
		}
		http.Error(w, fmt.Sprintf("nothing is here; Boltseal answers POST at %s, %s, %s, %s and %s", PathVerify, PathMutate, PathValidate, PathPin, PathAdvise), http.StatusNotFound)
	})
}

// question is one request.
type question struct {
	ctx             context.Context //nolint:containedctx // it is the request's, and goes where the question goes
	body            []byte
	start, deadline time.Time
	from            netip.Addr // who asks
	proven          bool       // and has proven who that is
	spent           *audit.Spent
	trace           tracecontext.Parent // the trace that this is a part of; zero = none
	span            Trace               // its span; nil = it is not recorded
}

// asker is in whose name images of a namespace are verified: what others claim takes
// nothing of what is a namespace's own.
func (q *question) asker(namespace string) string {
	if q.proven {
		return namespace
	}
	return namespace + " from " + q.from.String()
}

// within returns a context that ends at the deadline. Most questions are
// answered without one: a timer for each would cost more than the answer.
func (q *question) within() (context.Context, context.CancelFunc) {
	return context.WithDeadline(q.ctx, q.deadline)
}

// reply is an answer to one request: JSON with status 200, or text with another.
type reply struct {
	status  int    // 0 = 200
	counted int    // what is counted in place of 200; 0 = 200
	uid     string // of the review that is answered
	json    bool   // body is JSON whatever the status is
	body    []byte
	pooled  *[]byte // where body came from, to be given back
}

func refusedReply(status int, format string, a ...any) reply {
	return reply{status: status, body: fmt.Appendf(nil, format+"\n", a...)}
}

// handle puts limits, recovery and metrics around an endpoint.
func (s *Server) handle(endpoint string, maxBytes int, answer func(q *question) reply) http.HandlerFunc {
	duration := s.o.Metrics.duration.WithLabelValues(endpoint)
	succeeded := s.o.Metrics.requests.WithLabelValues(endpoint, "200")
	// Behind the webhook's gate is the API server, for whom there is room before
	// others, Gatekeeper included, which asks because the API server waits for it.
	proven := s.o.Provider != nil || s.o.TrustProvider
	if isReview(endpoint) {
		proven = s.o.Webhook != nil || s.o.TrustWebhook
	}
	return func(w http.ResponseWriter, r *http.Request) {
		start := s.o.Clock()
		mine := s.roomOf(endpoint).enter(w, remoteNetwork(r.RemoteAddr), proven)
		defer mine.leave()
		rep := s.answer(r, mine, endpoint, maxBytes, start, answer)
		if !mine.set(cap(rep.body)) {
			rep = s.verdictOn(endpoint, rep.uid, fullReply())
		}
		if len(rep.body) > firstBuffer { // smaller ones are soon in the kernel's buffers
			mine.move(true)
		}
		h := w.Header()
		s.leave(h) // it may have begun to since the request came
		switch {
		case rep.counted != 0:
			h["Content-Type"] = jsonType
			s.o.Metrics.requests.WithLabelValues(endpoint, strconv.Itoa(rep.counted)).Inc()
		case rep.status == 0:
			h["Content-Type"] = jsonType
			succeeded.Inc()
		default:
			if h.Set("Content-Type", "text/plain; charset=utf-8"); rep.json {
				h["Content-Type"] = jsonType
			}
			if rep.status == http.StatusServiceUnavailable {
				h.Set("Retry-After", "1")
			}
			s.o.Metrics.requests.WithLabelValues(endpoint, strconv.Itoa(rep.status)).Inc()
		}
		h["Content-Length"] = []string{strconv.Itoa(len(rep.body))}
		if rep.status != 0 {
			w.WriteHeader(rep.status)
		}
		_, _ = w.Write(rep.body) // a caller that has left cannot be told
		if rep.pooled != nil && cap(rep.body) <= maxPooled {
			*rep.pooled = rep.body
			s.bodies.Put(rep.pooled)
		}
		duration.Observe(s.o.Clock().Sub(start).Seconds())
	}
}

var jsonType = []string{"application/json"}

func (s *Server) answer(r *http.Request, mine *share, endpoint string, maxBytes int, start time.Time, answer func(*question) reply) (rep reply) {
	if r.Method != http.MethodPost {
		return s.verdict(endpoint, nil, refusedReply(http.StatusMethodNotAllowed, "ask with POST"))
	}
	parent, span := s.traceOf(r, mine, endpoint)
	if span != nil {
		defer func() { span.End(cmp.Or(rep.status, http.StatusOK)) }()
	}
	buf, _ := s.bodies.Get().(*[]byte)
	defer func() {
		if cap(*buf) <= maxPooled {
			s.bodies.Put(buf)
		}
	}()
	var front []byte // what has been read of the request, or its beginning
	defer func() {
		if p := recover(); p != nil {
			s.recovered("a request to "+endpoint, p)
			rep = refusedReply(http.StatusInternalServerError, "a fault in Boltseal; its log says more")
		}
		rep = s.verdict(endpoint, front, rep)
	}()
	deadline := start.Add(s.budget(endpoint, r))
	arrives := start.Add(s.bodyTime(endpoint, r))
	body, err := mine.read(r, (*buf)[:0], maxBytes, arrives)
	*buf, front = body, body
	if errors.Is(err, errTooLarge) || errors.Is(err, errNoRoom) {
		// The room is for others while the rest comes in.
		front = slices.Clone(body[:min(len(body), admission.FrontBytes)])
		*buf = make([]byte, 0, firstBuffer)
		mine.set(0)
		front = mine.front(r, endpoint, front, arrives)
	}
	switch {
	case errors.Is(err, errTooLarge):
		return refusedReply(http.StatusRequestEntityTooLarge, "the request has more than %d bytes", maxBytes)
	case errors.Is(err, errNoRoom), errors.Is(err, errSlow):
		return fullReply()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refusedReply(http.StatusRequestTimeout, "the request did not arrive in time")
	case err != nil:
		return refusedReply(http.StatusBadRequest, "the request did not arrive whole")
	}
	defer markAnswering(r.Context())()
	q := &question{ctx: r.Context(), from: mine.from, proven: mine.proven, body: body, start: start, deadline: deadline, spent: &mine.spent, trace: parent, span: span}
	if span != nil {
		q.ctx = span.Context(q.ctx)
	}
	q.spent.Body = s.o.Clock().Sub(start)
	return answer(q)
}

func fullReply() reply {
	return refusedReply(http.StatusServiceUnavailable, "Boltseal has no room for more requests; ask again")
}

// budget is the time for an answer, below what its caller waits.
func (s *Server) budget(endpoint string, r *http.Request) time.Duration {
	switch endpoint {
	case "verify":
		return s.o.VerifyTimeout
	case "mutate":
		return s.o.MutateTimeout
	}
	t := s.o.WebhookTimeout
	// The API server tells how long it waits (admission webhooks, timeoutSeconds).
	if q := r.URL.RawQuery; q != "" {
		if d, err := time.ParseDuration(r.URL.Query().Get("timeout")); err == nil && d > 0 && d <= maxWebhookTimeout {
			t = d
		}
	}
	return t - min(max(t/10, minMargin), maxMargin, t/2)
}

// bodyTime is the time in which a request must have arrived.
func (s *Server) bodyTime(endpoint string, r *http.Request) time.Duration {
	return min(s.budget(endpoint, r), s.o.BodyTimeout)
}

// ask finds the answers for images, those that are known at once and the others
// side by side. i numbers the images, each with the namespace that it is asked for;
// one without an engine is left out.
func (s *Server) ask(in *question, m *memo.Memo, n int, image func(i int) (e *boltseal.Engine, image, namespace string), answered func(i int, a *memo.Answer, t *timing.Times)) {
	var open []int
	now := s.o.Clock()
	for i := range n {
		e, text, _ := image(i)
		if e == nil {
			continue
		}
		if a := m.Peek(e, text, now); a != nil {
			answered(i, a, nil)
			continue
		}
		open = append(open, i)
	}
	if len(open) > 0 {
		s.verifyOpen(in, m, open, image, answered)
		in.spent.Images += s.o.Clock().Sub(now)
	}
}

// verifyOpen is the part of ask that waits. It is apart, for what its closures share is
// memory that an answer that is known does not need.
func (s *Server) verifyOpen(in *question, m *memo.Memo, open []int, image func(i int) (e *boltseal.Engine, image, namespace string), answered func(i int, a *memo.Answer, t *timing.Times)) {
	ctx, cancel := in.within()
	defer cancel()
	ctx = in.traced(ctx)
	refused := newPause(in.deadline.Sub(s.o.Clock()), s.o.Metrics.paused)
	runAlongside(len(open), func(j int) string {
		_, text, _ := image(open[j])
		return laneOf(text)
	}, func(j int) {
		e, text, namespace := image(open[j])
		ctx, end := in.imageSpan(ctx, text)
		ctx = boltseal.WithAsker(ctx, in.asker(namespace))
		final := refused.isOver()
		a, t := m.Timed(ctx, e, text)
		if a.Refused && !final {
			refused.wait(ctx)
			a, t = m.Timed(ctx, e, text)
		}
		end(t != nil && t.Joined)
		answered(open[j], a, t)
	})
}
