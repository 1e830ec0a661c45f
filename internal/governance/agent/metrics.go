package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// metrics are what Prometheus reads. Label values come from closed sets.
type metrics struct {
	demands                          *prometheus.GaugeVec
	generation, took, hub, unsettled prometheus.Gauge
	writes                           *prometheus.CounterVec
}

func newMetrics() *metrics {
	return &metrics{
		demands: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "boltseal_agent_demands",
			Help: "What the hub requires of this cluster, by its state."}, []string{"state"}),
		generation: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_agent_bundle_generation",
			Help: "Generation of the ClusterBundle that is active."}),
		took: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_agent_last_pass_duration_seconds",
			Help: "How long it took last to bring the cluster up to what is required."}),
		hub: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_agent_hub_up",
			Help: "Whether the hub answered last time."}),
		unsettled: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_agent_unsettled_demands",
			Help: "Requirements that are not applied as required: in conflict, failed, or not taken up yet."}),
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "boltseal_agent_writes_total",
			Help: "Writes of the agent, by what was written and the outcome."}, []string{"what", "outcome"}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.demands, m.generation, m.took, m.hub, m.unsettled, m.writes}
}

func (m *metrics) wrote(what string, err error) {
	outcome := "ok"
	if err != nil {
		outcome = "failed"
	}
	m.writes.WithLabelValues(what, outcome).Inc()
}

func (m *metrics) contact(up bool) {
	m.hub.Set(0)
	if up {
		m.hub.Set(1)
	}
}

func (m *metrics) passed(demands []v1alpha1.DemandReport, generation int64, took time.Duration) {
	m.took.Set(took.Seconds())
	m.generation.Set(float64(generation))
	counts := map[v1alpha1.ComplianceState]int{}
	for _, d := range demands {
		counts[d.State]++
	}
	for _, s := range []v1alpha1.ComplianceState{v1alpha1.Compliant, v1alpha1.NonCompliant, v1alpha1.Exempt, v1alpha1.Conflict, v1alpha1.Unknown, v1alpha1.Failed} {
		m.demands.WithLabelValues(string(s)).Set(float64(counts[s]))
	}
	m.unsettled.Set(float64(counts[v1alpha1.Conflict] + counts[v1alpha1.Failed] + counts[v1alpha1.Unknown]))
}
