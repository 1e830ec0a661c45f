package server

import (
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/tracing/timing"
)

// record is what is recorded of an image.
type record struct {
	audit []byte        // as memo.Encoded has it
	times *timing.Times // nil = no verification was waited for
	// recalled are the same of what memory answered, one for each of integrity's Remembered.
	recalled [][]byte
}

// record counts a verdict and, where it is final, writes it to the audit log.
func (s *Server) record(in *question, snap *snapshot.Snapshot, id string, q *admission.Request, v *integrity.Verdict, found gathered, final bool) {
	for i := range v.Images {
		if v.Images[i].Recalled > 0 {
			s.o.Metrics.recalled.Inc()
		}
	}
	if !final {
		return
	}
	s.count(v)
	if s.o.Audit.Enabled() {
		s.auditReview(in, snap, id, q, v, found)
	}
}

func (s *Server) count(v *integrity.Verdict) {
	for _, o := range v.Images {
		switch {
		case o.Excluded:
		case o.Unpinned:
			s.o.Metrics.decided(sourceAdmission, boltseal.Deny, boltseal.CauseUnpinned)
		default:
			s.o.Metrics.decided(sourceAdmission, o.Found.Decision, o.Found.Reason.Cause)
		}
		for _, e := range o.Exempt {
			s.o.Metrics.exempted.WithLabelValues(string(e.Exemption.Category), o.Found.Decision.String()).Inc()
		}
	}
}

func (s *Server) auditReview(in *question, snap *snapshot.Snapshot, id string, q *admission.Request, v *integrity.Verdict, found gathered) {
	d := audit.Decision{ID: id, Time: in.start.UTC(), Source: sourceAdmission, Decision: verdictOutcome(v), Took: s.o.Clock().Sub(in.start), Spent: in.spent, TraceID: in.trace.ID(), Generation: snap.Generation,
		Request: &audit.Request{UID: q.UID, Kind: q.Kind, Namespace: q.Namespace, Name: q.Name, Operation: q.Operation, User: q.User, DryRun: q.DryRun},
		Images:  make([]audit.Image, len(v.Images))}
	for _, a := range v.Applied {
		d.Policies = append(d.Policies, a.Policy+"="+string(a.Action))
	}
	for i, o := range v.Images {
		img := &d.Images[i]
		rec := &found.records[o.Group][i]
		img.Image, img.Container, img.Digest, img.Unpinned, img.Encoded = q.Images[i].Image, q.Images[i].Container, string(o.Found.Digest), o.Unpinned, rec.audit
		if o.Recalled > 0 {
			img.Encoded = rec.recalled[o.Recalled-1]
		}
		img.Spent = audit.SpentOn(rec.times)
		for _, e := range o.Exempt {
			img.Exempt = append(img.Exempt, e.String())
		}
		switch {
		case o.Excluded:
			img.Decision, img.Digest, img.Encoded = audit.Excluded, "", nil
		case len(img.Encoded) == 0:
			img.Decision, img.Message = o.Found.Decision.String(), o.Found.Reason.Message
		case !o.Since.IsZero():
			img.LastGood = o.Since.UTC().Format(time.RFC3339)
		}
	}
	s.o.Audit.Decision(&d)
}

// verdictOutcome is the whole object's: what its images came to, and what was made of it.
func verdictOutcome(v *integrity.Verdict) string {
	fails, exempt := 0, false
	for _, a := range v.Applied {
		fails += a.Fails
	}
	for _, o := range v.Images {
		exempt = exempt || len(o.Exempt) > 0
	}
	switch {
	case !v.Allowed:
		return "denied"
	case fails > 0:
		return "allowed, not trusted"
	case exempt:
		return "allowed, exempt"
	}
	return "allowed"
}
