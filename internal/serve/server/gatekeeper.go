package server

import (
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/tracing/timing"
)

const sourceGatekeeper = "gatekeeper"

// maxNotReady bounds what is told of why there is no configuration, in bytes.
const maxNotReady = 1 << 10

// notReady says that nothing can be judged yet, and why.
func (s *Server) notReady() string {
	text := "Boltseal has no configuration yet"
	for _, c := range s.o.Checks {
		if ok, why := c.Run(); !ok {
			text += "; " + c.Name + ": " + why
		}
	}
	if len(text) > maxNotReady {
		text = strings.ToValidUTF8(text[:maxNotReady], "") + "…"
	}
	return text + "; see its /readyz?verbose"
}

// asked is a key with the engine that is to answer it.
type asked struct {
	key    externaldata.Key
	engine *boltseal.Engine
}

// batch is the room for one request's keys, used again by the next.
type batch struct {
	asked   []asked
	items   []externaldata.Item
	answers []*memo.Answer
	times   []*timing.Times
	images  []audit.Image
}

// maxBatch is how many keys a batch may have and be used again.
const maxBatch = 512

// batch makes room for n keys, all zero.
func (s *Server) batch(n int) *batch {
	b, _ := s.batches.Get().(*batch)
	b.asked, b.items, b.answers, b.times, b.images = resizeSlice(b.asked, n), resizeSlice(b.items, n), resizeSlice(b.answers, n), resizeSlice(b.times, n), resizeSlice(b.images, n)
	return b
}

func resizeSlice[T any](v []T, n int) []T {
	if cap(v) < n {
		return make([]T, n)
	}
	return v[:n]
}

func (s *Server) giveBack(b *batch) {
	if cap(b.asked) > maxBatch {
		return
	}
	clear(b.asked) // nothing of this request is to stay alive
	clear(b.items)
	clear(b.answers)
	clear(b.times)
	clear(b.images)
	s.batches.Put(b)
}

// take takes a request apart. Items have an error where a key cannot be asked.
func (s *Server) take(b *batch, snap *snapshot.Snapshot, q externaldata.Request) {
	proven := s.o.Provider != nil || s.o.TrustProvider
	for i, text := range q.Keys {
		b.items[i].Key = text
		k, err := externaldata.ParseKey(text)
		if err != nil {
			b.items[i].Error = err.Error()
			continue
		}
		b.asked[i].key = k
		choice := snap.Choose(k.Namespace, proven)
		if b.asked[i].engine = choice.Engine; choice.Engine == nil {
			b.items[i].Error = choice.Why.Message
		}
	}
}

func (s *Server) gatekeeper(in *question) (q externaldata.Request, snap *snapshot.Snapshot, problem reply) {
	done, ok := s.decoding(in)
	if !ok {
		return q, nil, fullReply()
	}
	defer done()
	defer func(start time.Time) { in.spent.Decode = s.o.Clock().Sub(start) - in.spent.Body }(in.start)
	q, err := externaldata.Decode(in.body)
	if err != nil {
		return q, nil, reply{body: externaldata.AppendSystemError(nil, q.APIVersion, err.Error())}
	}
	if snap = s.o.Live.Load(); snap == nil {
		return q, nil, reply{body: externaldata.AppendSystemError(nil, q.APIVersion, s.notReady())}
	}
	return q, snap, reply{}
}

// verify answers Gatekeeper's external data request by a report for each key.
func (s *Server) verify(in *question) reply {
	q, snap, problem := s.gatekeeper(in)
	if snap == nil {
		return problem
	}
	b := s.batch(len(q.Keys))
	defer s.giveBack(b)
	s.take(b, snap, q)
	as, items, answers := b.asked, b.items, b.answers
	s.ask(in, snap.Memo, len(as), func(i int) (*boltseal.Engine, string, string) {
		return as[i].engine, as[i].key.Image, as[i].key.Namespace
	},
		func(i int, a *memo.Answer, t *timing.Times) { answers[i], b.times[i] = a, t })
	allowed := 0
	for i, a := range answers {
		switch {
		case a == nil:
			s.o.Metrics.decided(sourceGatekeeper, boltseal.Deny, boltseal.CauseInvalidReference)
			continue
		case a.Decision == boltseal.Allow:
			allowed++
		default:
			s.o.Metrics.decided(sourceGatekeeper, a.Decision, a.Reason.Cause)
		}
		if a.Reason.Cause == boltseal.CauseInvalidReference || len(a.Report) == 0 {
			items[i].Error = a.Reason.Message + ": " + a.Reason.Remedy
		} else {
			items[i].Value, items[i].Alike = a.Report, a.Alike
		}
	}
	s.o.Metrics.allowedByGatekeeper.Add(float64(allowed))
	s.auditKeys(in, snap, b)
	buf, _ := s.bodies.Get().(*[]byte)
	return reply{body: externaldata.AppendResponse((*buf)[:0], q.APIVersion, false, items), pooled: buf}
}

// mutate answers with the digest that each key names now.
func (s *Server) mutate(in *question) reply {
	q, snap, problem := s.gatekeeper(in)
	if snap == nil {
		return problem
	}
	ctx, cancel := in.within()
	defer cancel()
	ctx = in.traced(ctx)
	b := s.batch(len(q.Keys))
	defer s.giveBack(b)
	s.take(b, snap, q)
	as, items := b.asked, b.items
	runAlongside(len(as), func(i int) string { return laneOf(as[i].key.Image) }, func(i int) {
		if as[i].engine == nil {
			return
		}
		ref, err := snap.Memo.Digest(boltseal.WithAsker(ctx, in.asker(as[i].key.Namespace)), as[i].engine, as[i].key.Image)
		if err != nil {
			r := boltseal.ReasonOf(err)
			items[i].Error = r.Message + ": " + r.Remedy
			return
		}
		text := ref.Name() + "@" + ref.Digest.String()
		if s.o.KeepTags {
			text = ref.String()
		}
		items[i].Value = externaldata.EncodeString(text)
	})
	return reply{body: externaldata.AppendResponse(nil, q.APIVersion, true, items)}
}

func (s *Server) auditKeys(in *question, snap *snapshot.Snapshot, b *batch) {
	if !s.o.Audit.Enabled() {
		return
	}
	id := audit.NewID()
	if in.span != nil {
		in.span.Set(spanDecisionID, id)
	}
	d := audit.Decision{ID: id, Time: in.start.UTC(), Source: sourceGatekeeper, Decision: boltseal.Allow.String(),
		Took: s.o.Clock().Sub(in.start), Spent: in.spent, TraceID: in.trace.ID(), Generation: snap.Generation, Images: b.images}
	for i, a := range b.answers {
		img := &d.Images[i]
		if a == nil {
			img.Image, img.Decision, img.Message = b.items[i].Key, boltseal.Deny.String(), b.items[i].Error
			d.Decision = boltseal.Deny.String()
			continue
		}
		img.Image, img.Namespace, img.Digest, img.Encoded = b.asked[i].key.Image, b.asked[i].key.Namespace, string(a.Digest), a.Audit
		img.Spent = audit.SpentOn(b.times[i])
		if len(a.Audit) == 0 {
			img.Decision, img.Message = a.Decision.String(), a.Reason.Message
		}
		if a.Decision != boltseal.Allow && d.Decision != boltseal.Deny.String() {
			d.Decision = a.Decision.String()
		}
	}
	s.o.Audit.Decision(&d)
}
