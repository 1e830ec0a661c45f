package externaldata

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/boltseal/boltseal"
)

// ReportVersion is the shape of a verification report.
type ReportVersion string

// The versions of reports that config-policy has.
const (
	Report010 ReportVersion = "0.1.0"
	Report020 ReportVersion = "0.2.0"
)

// ParseReportVersion reads a version that is known; "" is the default, 0.2.0.
func ParseReportVersion(s string) (ReportVersion, error) {
	switch v := ReportVersion(s); v {
	case "":
		return Report020, nil
	case Report010, Report020:
		return v, nil
	}
	return "", fmt.Errorf("the report version %q is not known here; known: %s, %s", s, Report010, Report020)
}

// What templates written for Ratify look for in the message of a report without
// a name.
const (
	saysNothingSigned = "no referrers found"
	saysNotRead       = "resolving descriptor"
)

// EncodeReport writes the report of one image, traceID being the name of its
// evidence. An image that is not trusted has at least one failed report: an
// empty list would pass templates that look at reports only.
//
// own and then alike are the report; alike is the same for most images of one
// signer, so that whoever keeps many need keep it once.
func EncodeReport(v ReportVersion, traceID string, r *boltseal.Result) (own, alike []byte) {
	w := reportWriter{b: make([]byte, 0, 1024), full: v != Report010}
	trusted := r.Decision == boltseal.Allow
	w.str(`{"version":`, string(v))
	w.flag(`,"isSuccess":`, trusted)
	if w.full {
		w.str(`,"traceID":`, traceID)
		w.raw(`,"timestamp":"`)
		w.b = r.CollectedAt.UTC().AppendFormat(w.b, time.RFC3339Nano)
		w.raw(`"`)
	}
	w.subject = r.Reference.String()
	if r.Subject.Digest != "" {
		w.subject = r.Reference.Name() + "@" + r.Subject.Digest.String()
	}
	w.raw(`,"verifierReports":[`)
	failed := false
	reported := false
	all := func(evidence []boltseal.Evidence) {
		for i := range evidence {
			if reported {
				w.raw(",")
			}
			reported = true
			w.evidence(&evidence[i])
			failed = failed || evidence[i].Outcome != boltseal.Verified
		}
	}
	all(r.Evidence)
	if r.Index != nil {
		image := w.subject
		for i := range r.Index.Manifests {
			m := &r.Index.Manifests[i]
			w.subject = r.Reference.Name() + "@" + m.Subject.Digest.String()
			all(m.Evidence)
		}
		w.subject = image
	}
	if !trusted && !failed {
		if reported {
			w.raw(",")
		}
		w.failure(r)
	}
	w.raw("]}")
	if w.alike == 0 {
		w.alike = len(w.b)
	}
	return bytes.Clone(w.b[:w.alike]), w.b[w.alike:] // own is kept: without room to grow
}

type reportWriter struct {
	b       []byte
	full    bool // 0.2.0
	subject string
	alike   int // where the part begins that names neither the image nor its signature
}

func (w *reportWriter) raw(s string) { w.b = append(w.b, s...) }

func (w *reportWriter) str(name, s string) {
	w.raw(name)
	w.b = appendString(w.b, s)
}

func (w *reportWriter) flag(name string, v bool) {
	w.raw(name)
	w.b = strconv.AppendBool(w.b, v)
}

func (w *reportWriter) evidence(ev *boltseal.Evidence) {
	ok := ev.Outcome == boltseal.Verified
	w.str(`{"subject":`, w.subject)
	w.flag(`,"isSuccess":`, ok)
	// Ratify names a report by the kind of verifier, which templates ask for.
	w.str(`,"name":`, ev.VerifierType)
	if w.full {
		w.str(`,"verifierName":`, ev.Verifier)
	}
	w.str(`,"type":`, ev.VerifierType)
	if w.full {
		w.str(`,"verifierType":`, ev.VerifierType)
		w.str(`,"referenceDigest":`, ev.Referrer.String())
	}
	w.alike = len(w.b)
	w.str(`,"artifactType":`, ev.ArtifactType)
	if ok {
		w.str(`,"message":`, "signature verification success")
	} else {
		w.str(`,"message":`, "signature verification failed: "+ev.Reason.Message)
		w.why(ev.Reason)
	}
	if ev.Signer != nil {
		w.str(`,"extensions":{"Issuer":`, ev.Signer.Issuer)
		w.str(`,"SN":`, ev.Signer.Subject)
		w.raw("}")
	}
	w.raw(`,"nestedResults":[]}`)
}

func (w *reportWriter) why(r boltseal.Reason) {
	if w.full {
		w.str(`,"errorReason":`, r.Message)
		w.str(`,"remediation":`, r.Remedy)
	}
}

// failure is the report without a name that says why there is nothing to report.
func (w *reportWriter) failure(r *boltseal.Result) {
	says := saysNothingSigned
	if r.Failure != (boltseal.Reason{}) || r.Decision == boltseal.Unknown {
		says = saysNotRead
	}
	w.alike = 0 // the subject comes after it
	w.str(`{"subject":`, w.subject)
	w.str(`,"isSuccess":false,"message":`, says+": "+r.Reason.Message)
	w.why(r.Reason)
	w.raw(`,"nestedResults":[]}`)
}
