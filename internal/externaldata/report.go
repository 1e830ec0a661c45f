package externaldata

import (
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

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

type report struct {
	Version   ReportVersion    `json:"version"`
	IsSuccess bool             `json:"isSuccess"`
	TraceID   string           `json:"traceID,omitempty"`
	Timestamp string           `json:"timestamp,omitempty"`
	Reports   []verifierReport `json:"verifierReports"`
}

type verifierReport struct {
	Subject         string            `json:"subject,omitempty"`
	IsSuccess       bool              `json:"isSuccess"`
	Name            string            `json:"name,omitempty"`
	VerifierName    string            `json:"verifierName,omitempty"`
	Type            string            `json:"type,omitempty"`
	VerifierType    string            `json:"verifierType,omitempty"`
	ReferenceDigest string            `json:"referenceDigest,omitempty"`
	ArtifactType    string            `json:"artifactType,omitempty"`
	Message         string            `json:"message"`
	ErrorReason     string            `json:"errorReason,omitempty"`
	Remediation     string            `json:"remediation,omitempty"`
	Extensions      map[string]string `json:"extensions,omitempty"`
	NestedResults   []verifierReport  `json:"nestedResults,omitzero"`
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
func EncodeReport(v ReportVersion, traceID string, r *boltseal.Result) ([]byte, error) {
	full := v != Report010
	rep := report{Version: v, IsSuccess: r.Decision == boltseal.Allow, Reports: make([]verifierReport, 0, len(r.Evidence)+1)}
	if full {
		rep.TraceID, rep.Timestamp = traceID, r.CollectedAt.UTC().Format(time.RFC3339Nano)
	}
	subject := r.Reference.String()
	if r.Subject.Digest != "" {
		subject = r.Reference.Name() + "@" + r.Subject.Digest.String()
	}
	failed := false
	for i := range r.Evidence {
		e := evidenceReport(subject, &r.Evidence[i], full)
		failed = failed || !e.IsSuccess
		rep.Reports = append(rep.Reports, e)
	}
	if !rep.IsSuccess && (len(r.Evidence) == 0 || !failed) {
		rep.Reports = append(rep.Reports, failure(subject, r, full))
	}
	return json.Marshal(rep, json.Deterministic(true))
}

func evidenceReport(subject string, ev *boltseal.Evidence, full bool) verifierReport {
	vr := verifierReport{
		Subject: subject, IsSuccess: ev.Outcome == boltseal.Verified,
		// Ratify names a report by the kind of verifier, which templates ask for.
		Name: ev.VerifierType, Type: ev.VerifierType, ArtifactType: ev.ArtifactType,
		Message: "signature verification success", NestedResults: []verifierReport{},
	}
	if full {
		vr.VerifierName, vr.VerifierType, vr.ReferenceDigest = ev.Verifier, ev.VerifierType, ev.Referrer.String()
	}
	if ev.Signer != nil {
		vr.Extensions = map[string]string{"Issuer": ev.Signer.Issuer, "SN": ev.Signer.Subject}
	}
	if !vr.IsSuccess {
		vr.Message = "signature verification failed: " + ev.Reason.Message
		if full {
			vr.ErrorReason, vr.Remediation = ev.Reason.Message, ev.Reason.Remedy
		}
	}
	return vr
}

// failure is the report without a name that says why there is nothing to report.
func failure(subject string, r *boltseal.Result, full bool) verifierReport {
	says := saysNothingSigned
	if r.Failure != (boltseal.Reason{}) || r.Decision == boltseal.Unknown {
		says = saysNotRead
	}
	vr := verifierReport{Subject: subject, Message: says + ": " + r.Reason.Message, NestedResults: []verifierReport{}}
	if full {
		vr.ErrorReason, vr.Remediation = r.Reason.Message, r.Reason.Remedy
	}
	return vr
}
