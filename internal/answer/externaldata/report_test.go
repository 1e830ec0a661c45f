package externaldata_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

type verifierReport struct {
	Subject, Name, VerifierName, Type, VerifierType, ReferenceDigest, ArtifactType, Message, ErrorReason, Remediation string
	IsSuccess                                                                                                         bool
	Extensions                                                                                                        map[string]string
	NestedResults                                                                                                     []any
}

type report struct {
	Version, TraceID, Timestamp string
	IsSuccess                   bool
	VerifierReports             []verifierReport
}

func encodeReport(t *testing.T, v externaldata.ReportVersion, r boltseal.Result) (rep report, raw string) {
	t.Helper()
	own, alike := externaldata.EncodeReport(v, "trace-1", &r)
	if strings.Contains(string(alike), r.Reference.Name()) || r.Subject.Digest != "" && strings.Contains(string(alike), string(r.Subject.Digest)) {
		t.Errorf("it is this image's alone: %s", alike)
	}
	b := append(own, alike...)
	if err := json.Unmarshal(b, &rep); err != nil {
		t.Fatal(err)
	}
	return rep, string(b)
}

// admits is what the published AKS Image Integrity template reads in a report.
func admits(r report) bool {
	ok := false
	for _, v := range r.VerifierReports {
		named := v.Name == "notation" || v.Name == "notaryv2"
		switch {
		case named && !v.IsSuccess, v.Name == "" && strings.Contains(v.Message, "no referrers found"), v.Name == "" && strings.Contains(v.Message, "resolving descriptor"):
			return false
		case named:
			ok = true
		}
	}
	return ok || len(r.VerifierReports) == 0
}

func TestReports(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	signed, _ := h.Signed("signed", h.Signer)
	unsigned, _ := h.Signed("unsigned")
	stranger, _ := h.Signed("stranger", h.Stranger)
	gone := h.Registry.Ref(testhouse.Repo, "gone")
	for image, want := range map[string]struct {
		ok      bool
		name    string
		message string
	}{
		signed:   {true, "notation", "success"},
		unsigned: {false, "", "no referrers found"},
		stranger: {false, "notation", "who is not trusted"},
		gone:     {false, "", "resolving descriptor"},
	} {
		rep, raw := encodeReport(t, externaldata.Report020, h.Verify(t, image))
		if rep.Version != "0.2.0" || rep.IsSuccess != want.ok || rep.TraceID != "trace-1" || rep.Timestamp == "" || len(rep.VerifierReports) != 1 {
			t.Fatalf("%s: %s", image, raw)
		}
		v := rep.VerifierReports[0]
		if v.Name != want.name || v.IsSuccess != want.ok || !strings.Contains(v.Message, want.message) || v.NestedResults == nil || admits(rep) != want.ok {
			t.Errorf("%s: %s", image, raw)
		}
		if want.ok && (v.VerifierName != "notation" || v.VerifierType != "notation" || v.ReferenceDigest == "" || v.ArtifactType == "" || v.Extensions["SN"] == "" || !strings.Contains(v.Subject, "@sha256:")) {
			t.Errorf("%s: %s", image, raw)
		}
		if !want.ok && (v.ErrorReason == "" || v.Remediation == "") {
			t.Errorf("%s: %s", image, raw)
		}
		_, old := encodeReport(t, externaldata.Report010, h.Verify(t, image))
		for _, absent := range []string{"traceID", "timestamp", "verifierName", "verifierType", "referenceDigest", "errorReason", "remediation"} {
			if strings.Contains(old, `"`+absent+`"`) {
				t.Errorf("0.1.0 has %s: %s", absent, old)
			}
		}
		if !strings.HasPrefix(old, `{"version":"0.1.0","isSuccess":`) {
			t.Errorf("0.1.0: %s", old)
		}
	}
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 503})
	rep, raw := encodeReport(t, externaldata.Report020, h.Verify(t, signed))
	if admits(rep) || rep.IsSuccess || !strings.Contains(rep.VerifierReports[0].Message, "resolving descriptor") || rep.VerifierReports[0].Name != "" {
		t.Errorf("an outage: %s", raw)
	}
}

// TestNoReportIsEmpty: whatever a denial is made of, something in it fails.
func TestNoReportIsEmpty(t *testing.T) {
	t.Parallel()
	good := boltseal.Evidence{VerifierType: "notation", Outcome: boltseal.Verified}
	for _, r := range []boltseal.Result{
		{}, {Decision: boltseal.Unknown},
		{Findings: boltseal.Findings{Evidence: []boltseal.Evidence{good}}},
		{Decision: boltseal.Unknown, Findings: boltseal.Findings{Evidence: []boltseal.Evidence{good}}},
	} {
		if rep, raw := encodeReport(t, externaldata.Report020, r); admits(rep) || rep.IsSuccess {
			t.Errorf("%+v would be admitted: %s", r.Decision, raw)
		}
	}
}

func TestReportVersions(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]externaldata.ReportVersion{"": "0.2.0", "0.2.0": "0.2.0", "0.1.0": "0.1.0"} {
		if v, err := externaldata.ParseReportVersion(text); v != want || err != nil {
			t.Errorf("%q: %q, %v", text, v, err)
		}
	}
	if _, err := externaldata.ParseReportVersion("2"); err == nil {
		t.Error("a version that is not known")
	}
}
