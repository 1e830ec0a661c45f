package server

import (
	"context"
	"net/http"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/externaldata"
	"github.com/boltseal/boltseal/internal/memo"
	"github.com/boltseal/boltseal/internal/snapshot"
)

type engine = *boltseal.Engine

const sourceGatekeeper = "gatekeeper"

const notReady = "Boltseal has no configuration yet; see its /readyz?verbose"

// asked is a key with the engine that is to answer it.
type asked struct {
	key    externaldata.Key
	engine *boltseal.Engine
}

// keys takes a request apart. items has an error where a key cannot be asked.
func keys(snap *snapshot.Snapshot, q externaldata.Request) (as []asked, items []externaldata.Item) {
	as, items = make([]asked, len(q.Keys)), make([]externaldata.Item, len(q.Keys))
	for i, text := range q.Keys {
		items[i].Key = text
		k, err := externaldata.ParseKey(text)
		if err != nil {
			items[i].Error = err.Error()
			continue
		}
		as[i].key = k
		if as[i].engine = snap.Engines.EngineFor(k.Namespace); as[i].engine == nil {
			items[i].Error = noEngine(k.Namespace)
		}
	}
	return as, items
}

func noEngine(namespace string) string {
	return "no Store or no Verifier is there for the namespace \"" + namespace + "\""
}

func (s *Server) gatekeeper(body []byte) (q externaldata.Request, snap *snapshot.Snapshot, problem reply) {
	q, err := externaldata.Decode(body)
	if err != nil {
		return q, nil, reply{body: externaldata.AppendSystemError(nil, q.APIVersion, err.Error())}
	}
	if snap = s.o.Live.Load(); snap == nil {
		return q, nil, reply{body: externaldata.AppendSystemError(nil, q.APIVersion, notReady)}
	}
	return q, snap, reply{}
}

// verify answers Gatekeeper's external data request by a report for each key.
func (s *Server) verify(ctx context.Context, _ *http.Request, body []byte) reply {
	start := s.o.Clock()
	q, snap, problem := s.gatekeeper(body)
	if snap == nil {
		return problem
	}
	as, items := keys(snap, q)
	answers := make([]*memo.Answer, len(as))
	ask(ctx, snap.Memo, len(as), func(i int) (engine, string) { return as[i].engine, as[i].key.Image },
		func(i int, a *memo.Answer) { answers[i] = a })
	for i, a := range answers {
		switch {
		case a == nil:
			s.o.Metrics.decided(sourceGatekeeper, boltseal.Deny, boltseal.CauseInvalidReference)
		case a.Result.Reason.Cause == boltseal.CauseInvalidReference || len(a.Report) == 0:
			items[i].Error = a.Result.Reason.Message + ": " + a.Result.Reason.Remedy
			s.o.Metrics.decided(sourceGatekeeper, a.Result.Decision, a.Result.Reason.Cause)
		default:
			items[i].Value = a.Report
			s.o.Metrics.decided(sourceGatekeeper, a.Result.Decision, a.Result.Reason.Cause)
		}
	}
	s.auditKeys(snap, as, items, answers, start)
	return reply{body: externaldata.AppendResponse(nil, q.APIVersion, false, items)}
}

// mutate answers with the digest that each key names now.
func (s *Server) mutate(ctx context.Context, _ *http.Request, body []byte) reply {
	q, snap, problem := s.gatekeeper(body)
	if snap == nil {
		return problem
	}
	as, items := keys(snap, q)
	parallel(len(as), func(i int) {
		if as[i].engine == nil {
			return
		}
		ref, err := snap.Memo.Digest(ctx, as[i].engine, as[i].key.Image)
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

func (s *Server) auditKeys(snap *snapshot.Snapshot, as []asked, items []externaldata.Item, answers []*memo.Answer, start time.Time) {
	if !s.o.Audit.Enabled() {
		return
	}
	d := audit.Decision{ID: audit.NewID(), Time: start.UTC(), Source: sourceGatekeeper, Decision: boltseal.Allow.String(),
		Took: s.o.Clock().Sub(start), Generation: snap.Generation, Images: make([]audit.Image, len(as))}
	for i, a := range answers {
		img := &d.Images[i]
		img.Image, img.Namespace = as[i].key.Image, as[i].key.Namespace
		if a == nil {
			img.Image, img.Decision, img.Message = items[i].Key, boltseal.Deny.String(), items[i].Error
			d.Decision = boltseal.Deny.String()
			continue
		}
		describe(img, a)
		if a.Result.Decision != boltseal.Allow && d.Decision != boltseal.Deny.String() {
			d.Decision = a.Result.Decision.String()
		}
	}
	s.o.Audit.Decision(&d)
}

// describe fills in what an answer says.
func describe(img *audit.Image, a *memo.Answer) {
	r := &a.Result
	img.Decision, img.Digest, img.Evidence = r.Decision.String(), r.Subject.Digest.String(), a.ID
	if r.Decision != boltseal.Allow {
		img.Cause, img.Message, img.Inline = string(r.Reason.Cause), r.Reason.Message, a.Record
	}
}
