package externaldata_test

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestReportsOfPlatforms: what was looked at below an index is reported under its
// own digest, and templates come to the engine's decision.
func TestReportsOfPlatforms(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	whole, half := h.Index("whole", "linux/amd64+", "linux/arm64+"), h.Index("half", "linux/amd64+", "linux/arm64")
	e := h.Asking(t, boltseal.EachPlatform, nil)
	for _, v := range []externaldata.ReportVersion{externaldata.Report010, externaldata.Report020} {
		good := testhouse.Need(e.Verify(t.Context(), h.Registry.Ref(testhouse.Repo, "whole")))(t)
		rep, raw := encodeReport(t, v, good)
		if !rep.IsSuccess || !admits(rep) || len(rep.VerifierReports) != 2 {
			t.Errorf("%s: %s", v, raw)
		}
		for i, r := range rep.VerifierReports {
			if !r.IsSuccess || !strings.HasSuffix(r.Subject, "@"+whole[i+1].Digest.String()) {
				t.Errorf("%s: %+v", v, r)
			}
		}
		bad := testhouse.Need(e.Verify(t.Context(), h.Registry.Ref(testhouse.Repo, "half")))(t)
		rep, raw = encodeReport(t, v, bad)
		last := rep.VerifierReports[len(rep.VerifierReports)-1]
		if rep.IsSuccess || admits(rep) || last.Name != "" || !strings.HasSuffix(last.Subject, "@"+half[0].Digest.String()) || !strings.Contains(last.Message, "linux/arm64 is not trusted") {
			t.Errorf("%s: %s", v, raw)
		}
	}
}
