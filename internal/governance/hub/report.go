package hub

import (
	"strings"
	"unicode"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// Limits on what is taken from a report, as its custom resource has them.
const (
	maxReported   = 200 // demands
	maxComponents = 100 // of a demand
	maxWord       = 128
	maxSentence   = 1024
	// maxAttempt is what a bundle that was lost takes up from a report.
	maxAttempt = 1 << 31
)

// believedReport returns of a report what may be looked at: an agent may be stolen.
// The report is that of the cluster whose name it has, whatever it says.
func believedReport(in *v1alpha1.ClusterReport) *v1alpha1.ClusterReport {
	out := &v1alpha1.ClusterReport{}
	out.Name, out.Generation = in.Name, in.Generation
	r := in.Report
	out.Report = v1alpha1.ClusterReportContent{Sequence: r.Sequence, At: r.At.DeepCopy(), BundleGeneration: r.BundleGeneration,
		Version: printableText(r.Version, maxWord), Pods: max(0, r.Pods)}
	switch r.Engine {
	case v1alpha1.EngineBoltseal, v1alpha1.EngineGatekeeper:
		out.Report.Engine = r.Engine
	}
	out.Report.AddOn = v1alpha1.AddOnReport{Attempt: min(max(0, r.AddOn.Attempt), maxAttempt), Message: printableText(r.AddOn.Message, maxSentence)}
	switch r.AddOn.State {
	case v1alpha1.AddOnInstalled, v1alpha1.AddOnAbsent, v1alpha1.AddOnInstalling, v1alpha1.AddOnRemoving, v1alpha1.AddOnFailed:
		out.Report.AddOn.State = r.AddOn.State
	}
	for _, d := range r.Demands[:min(maxReported, len(r.Demands))] {
		d.Reason, d.Message = plainWord(d.Reason), printableText(d.Message, maxSentence)
		d.Pods, d.Violations, d.Exempt, d.Unknown = max(0, d.Pods), max(0, d.Violations), max(0, d.Exempt), max(0, d.Unknown)
		d.Components = d.Components[:min(maxComponents, len(d.Components))]
		d.TrustedBy, d.TrustedOtherwise = nil, 0 // nothing is judged by them
		out.Report.Demands = append(out.Report.Demands, d)
	}
	return out
}

// printableText takes out what would move a reader's cursor, and bounds the length in bytes.
func printableText(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

// plainWord keeps letters and digits.
func plainWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return -1
	}, printableText(s, maxWord))
}
