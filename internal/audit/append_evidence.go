package audit

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/boltseal/boltseal"
)

// AppendEvidence appends a line of evidence, without its end, to dst: what
// encoding/json writes for ev, to the byte. There is one for every verification,
// and reflection took a twentieth of it.
func AppendEvidence(dst []byte, ev *Evidence) []byte {
	w := writer{dst}
	w.str(`{"kind":`, ev.Kind)
	w.str(`,"id":`, ev.ID)
	w.time(`,"time":`, ev.Time)
	w.raw(`,"result":`)
	w.result(&ev.Result)
	if ev.Policy != nil {
		w.any(`,"policy":`, ev.Policy)
	}
	return append(w.b, '}')
}

type writer struct{ b []byte }

func (w *writer) raw(s string) { w.b = append(w.b, s...) }

func (w *writer) str(name, s string) {
	w.raw(name)
	if needsNoEscape(s) {
		w.b = append(append(append(w.b, '"'), s...), '"')
		return
	}
	w.any("", s)
}

// optional writes what is not empty.
func (w *writer) optional(name, s string) {
	if s != "" {
		w.str(name, s)
	}
}

func (w *writer) time(name string, t time.Time) {
	w.raw(name)
	w.b = append(w.b, '"')
	w.b = t.AppendFormat(w.b, time.RFC3339Nano)
	w.b = append(w.b, '"')
}

func (w *writer) optionalTime(name string, t time.Time) {
	if !t.IsZero() {
		w.time(name, t)
	}
}

// any writes what is rare or odd by encoding/json.
func (w *writer) any(name string, v any) {
	w.raw(name)
	b, err := json.Marshal(v)
	if err != nil {
		b = []byte("null")
	}
	w.b = append(w.b, b...)
}

// needsNoEscape reports whether encoding/json writes the text as it is.
func needsNoEscape(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			return false
		}
	}
	return true
}

func (w *writer) reason(name string, r boltseal.Reason) {
	w.raw(name)
	w.str(`{"cause":`, string(r.Cause))
	w.str(`,"message":`, r.Message)
	w.optional(`,"remedy":`, r.Remedy)
	w.raw("}")
}

func (w *writer) result(r *boltseal.Result) {
	w.str(`{"decision":`, r.Decision.String())
	w.reason(`,"reason":`, r.Reason)
	f := &r.Findings
	w.str(`,"image":`, f.Image)
	w.str(`,"reference":{"registry":`, f.Reference.Registry)
	w.str(`,"repository":`, f.Reference.Repository)
	w.optional(`,"tag":`, f.Reference.Tag)
	w.optional(`,"digest":`, f.Reference.Digest.String())
	w.raw("}")
	if d := &f.Subject; d.URLs == nil && d.Annotations == nil && d.Data == nil && d.Platform == nil && d.ArtifactType == "" {
		w.str(`,"subject":{"mediaType":`, d.MediaType)
		w.str(`,"digest":`, d.Digest.String())
		w.raw(`,"size":`)
		w.b = strconv.AppendInt(w.b, d.Size, 10)
		w.raw("}")
	} else {
		w.any(`,"subject":`, d)
	}
	w.optional(`,"store":`, f.Store)
	if len(f.Evidence) > 0 {
		w.raw(`,"evidence":[`)
		for i := range f.Evidence {
			if i > 0 {
				w.raw(",")
			}
			w.evidence(&f.Evidence[i])
		}
		w.raw("]")
	}
	if len(f.PassedOver) > 0 {
		w.any(`,"passedOver":`, f.PassedOver)
	}
	w.optional(`,"truncated":`, f.Truncated)
	if f.Incomplete != (boltseal.Reason{}) {
		w.reason(`,"incomplete":`, f.Incomplete)
	}
	if f.Index != nil {
		w.any(`,"index":`, f.Index)
	}
	if f.Failure != (boltseal.Reason{}) {
		w.reason(`,"failure":`, f.Failure)
	}
	w.time(`,"collectedAt":`, f.CollectedAt)
	w.raw("}")
}

func (w *writer) evidence(ev *boltseal.Evidence) {
	w.str(`{"referrer":`, ev.Referrer.String())
	w.str(`,"artifactType":`, ev.ArtifactType)
	w.str(`,"verifier":`, ev.Verifier)
	w.str(`,"verifierType":`, ev.VerifierType)
	w.str(`,"outcome":`, ev.Outcome.String())
	if ev.Reason != (boltseal.Reason{}) {
		w.reason(`,"reason":`, ev.Reason)
	}
	w.optional(`,"kind":`, ev.Kind)
	w.optional(`,"format":`, ev.Format)
	w.optional(`,"scheme":`, ev.Scheme)
	if ev.Signer != nil {
		w.signer(ev.Signer)
	}
	w.optionalTime(`,"signedAt":`, ev.SignedAt)
	w.optionalTime(`,"timestampAt":`, ev.TimestampAt)
	w.optionalTime(`,"expiry":`, ev.Expiry)
	w.optional(`,"trustPolicy":`, ev.TrustPolicy)
	w.optional(`,"level":`, ev.Level)
	for i, c := range ev.Checks {
		w.item(`,"checks":[`, i)
		w.str(`{"name":`, c.Name)
		w.str(`,"outcome":`, c.Outcome.String())
		w.optional(`,"detail":`, c.Detail)
		w.raw("}")
	}
	if len(ev.Checks) > 0 {
		w.raw("]")
	}
	w.optionalTime(`,"validUntil":`, ev.ValidUntil)
	w.raw("}")
}

func (w *writer) signer(s *boltseal.Signer) {
	w.str(`,"signer":{"subject":`, s.Subject)
	w.str(`,"issuer":`, s.Issuer)
	w.str(`,"serial":`, s.Serial)
	w.str(`,"fingerprint":`, s.Fingerprint)
	w.time(`,"notBefore":`, s.NotBefore)
	w.time(`,"notAfter":`, s.NotAfter)
	for i, c := range s.Chain {
		w.item(`,"chain":[`, i)
		w.str("", c)
	}
	if len(s.Chain) > 0 {
		w.raw("]")
	}
	w.raw("}")
}

// item begins a list, or goes on with it.
func (w *writer) item(open string, i int) {
	if i == 0 {
		w.raw(open)
	} else {
		w.raw(",")
	}
}
