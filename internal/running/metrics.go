package running

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

// metrics are what Prometheus reads. Label values come from closed sets.
type metrics struct {
	leading, lastPass, took, reportBytes prometheus.Gauge
	pods, images, violations             *prometheus.GaugeVec
	verified, writes                     *prometheus.CounterVec
}

const ignored = "ignored"

func newMetrics() *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	}
	m := &metrics{
		leading:     gauge("boltseal_audit_leading", "1 in the replica that audits what runs; the other metrics of the audit are its own."),
		lastPass:    gauge("boltseal_audit_last_pass_timestamp_seconds", "When everything that runs was last checked."),
		took:        gauge("boltseal_audit_last_pass_duration_seconds", "How long that took."),
		reportBytes: gauge("boltseal_audit_report_bytes", "Size of the reports that were written, as JSON."),
		pods: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "boltseal_audit_pods",
			Help: "Pods that run, by the worst outcome of their images; ignored are those that no policy selects."}, []string{"outcome"}),
		images: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "boltseal_audit_images",
			Help: "Distinct images that run and that a policy selects, by outcome."}, []string{"outcome"}),
		violations: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "boltseal_audit_violations",
			Help: "Pods that run and do not satisfy a policy, by the policy's enforcementAction; each policy counts."}, []string{"action"}),
		verified: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "boltseal_audit_verifications_total",
			Help: "Images that the audit asked about, by decision."}, []string{"decision"}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "boltseal_audit_writes_total",
			Help: "Writes to the API server, by what was written and the outcome."}, []string{"what", "outcome"}),
	}
	for _, d := range []boltseal.Decision{boltseal.Allow, boltseal.Deny, boltseal.Unknown} {
		m.verified.WithLabelValues(d.String())
	}
	m.found(&Result{})
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.leading, m.lastPass, m.took, m.reportBytes, m.pods, m.images, m.violations, m.verified, m.writes}
}

func (m *metrics) found(r *Result) {
	for _, o := range Outcomes() {
		m.pods.WithLabelValues(o.String()).Set(float64(r.Pods.Of(o)))
		m.images.WithLabelValues(o.String()).Set(float64(r.Images.Of(o)))
	}
	m.pods.WithLabelValues(ignored).Set(float64(r.Ignored))
	for _, action := range []v1alpha1.EnforcementAction{v1alpha1.Deny, v1alpha1.Warn, v1alpha1.DryRun} {
		n := 0
		for _, p := range r.Policies {
			if p.Action == action {
				n += p.Pods.NotTrusted
			}
		}
		m.violations.WithLabelValues(string(action)).Set(float64(n))
	}
}

func (m *metrics) passed(begin, end time.Time) {
	m.lastPass.Set(float64(end.UnixMilli()) / 1000)
	m.took.Set(end.Sub(begin).Seconds())
}

// stopped is for a replica that does not audit any more: what it knew is stale.
func (m *metrics) stopped() {
	m.leading.Set(0)
	m.reportBytes.Set(0)
	m.found(&Result{})
}

func (m *metrics) wrote(what string, err error) {
	outcome := "success"
	if err != nil {
		outcome = "failure"
	}
	m.writes.WithLabelValues(what, outcome).Inc()
}
