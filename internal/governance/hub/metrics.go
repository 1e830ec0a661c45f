package hub

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// maxSeries bounds the assignments that have a metric of their own, the first by name.
const maxSeries = 100

// metrics are what Prometheus reads. Label values come from closed sets, but for
// the names of assignments, which are bounded.
type metrics struct {
	clusters, assignments, percent, inState *prometheus.GaugeVec
	oldest, took                            prometheus.Gauge
	writes, notifications                   *prometheus.CounterVec
}

func newMetrics() *metrics {
	m := &metrics{
		clusters: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "boltseal_hub_clusters",
			Help: "Clusters that are governed, by their compliance with all assignments together; None has no assignment."}, []string{"state"}),
		assignments: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "boltseal_hub_assignments",
			Help: "Assignments, by whether they apply as they are written."}, []string{"ready"}),
		percent: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "boltseal_hub_assignment_compliance_percent",
			Help: "Percent of an assignment's clusters whose state is known that are compliant, for the first 100 assignments by name. boltseal_hub_assignment_clusters has the number of unknown clusters."}, []string{"assignment"}),
		inState: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "boltseal_hub_assignment_clusters",
			Help: "Clusters of an assignment by their compliance with it, for the first 100 assignments by name."}, []string{"assignment", "state"}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_hub_oldest_report_age_seconds",
			Help: "Age of the oldest report among those of all clusters that ever reported."}),
		took: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_hub_last_pass_duration_seconds",
			Help: "How long the last evaluation of all clusters took, with the writing of changes."}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "boltseal_hub_writes_total",
			Help: "Writes to the API server, by what was written and the outcome."}, []string{"what", "outcome"}),
		notifications: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "boltseal_hub_notifications_total",
			Help: "Notifications of what changed, by what became of them."}, []string{"outcome"}),
	}
	for _, outcome := range []string{"sent", "failed", "dropped"} {
		m.notifications.WithLabelValues(outcome) // what is counted from nothing cannot be seen to grow
	}
	return m
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.clusters, m.assignments, m.percent, m.inState, m.oldest, m.took, m.writes, m.notifications}
}

func (m *metrics) wrote(what string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.writes.WithLabelValues(what, outcome).Inc()
}

const noState = "None"

// found sets the gauges after a pass.
func (m *metrics) found(w *world, ready map[bool]int, now time.Time) {
	counts := map[string]int{noState: 0}
	for _, s := range []v1alpha1.ComplianceState{v1alpha1.Compliant, v1alpha1.NonCompliant, v1alpha1.Exempt, v1alpha1.Conflict, v1alpha1.Unknown, v1alpha1.Failed} {
		counts[string(s)] = 0
	}
	for i := range w.clusters {
		state := noState
		if c := w.clusters[i].Status.Compliance; c != nil {
			state = string(c.State)
		}
		if _, ok := counts[state]; ok {
			counts[state]++
		}
	}
	for state, n := range counts {
		m.clusters.WithLabelValues(state).Set(float64(n))
	}
	for _, is := range []bool{true, false} {
		m.assignments.WithLabelValues(fmt.Sprint(is)).Set(float64(ready[is]))
	}
	m.percent.Reset()
	m.inState.Reset()
	for i := range w.assignments[:min(maxSeries, len(w.assignments))] {
		a := &w.assignments[i]
		if a.Status.Compliance == nil {
			continue
		}
		c := a.Status.Compliance
		for state, n := range map[v1alpha1.ComplianceState]int32{v1alpha1.Compliant: c.Compliant, v1alpha1.NonCompliant: c.NonCompliant, v1alpha1.Exempt: c.Exempt,
			v1alpha1.Conflict: c.Conflict, v1alpha1.Unknown: c.Unknown, v1alpha1.Failed: c.Error} {
			m.inState.WithLabelValues(a.Name, string(state)).Set(float64(n))
		}
		if p, err := strconv.ParseFloat(c.CompliantPercent, 64); err == nil {
			m.percent.WithLabelValues(a.Name).Set(p)
		}
	}
	oldest := 0.0
	for _, report := range w.reports {
		if at := report.Report.At; at != nil {
			oldest = max(oldest, now.Sub(at.Time).Seconds())
		}
	}
	m.oldest.Set(oldest)
}
