package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/answer/lastgood"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/audit"
)

// Metrics are what Prometheus reads. Label values come from closed sets.
type Metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	decisions *prometheus.CounterVec
	// The decisions that nearly all are.
	allowedByGatekeeper, allowedByAdmission prometheus.Counter
	recalled, paused                        prometheus.Counter
	exempted                                *prometheus.CounterVec
	panics                                  prometheus.Counter
	reloads                                 *prometheus.CounterVec
	loadedAt                                prometheus.Gauge
	configOK                                prometheus.Gauge
}

// Sources are what metrics are read from at a scrape. Nil ones are left out.
type Sources struct {
	Live   *snapshot.Live
	Memo   *memo.Stats
	Memory *lastgood.Memory
	Audit  *audit.Log
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// NewMetrics makes them, in a registry of their own.
func NewMetrics(s Sources) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "boltseal_requests_total",
			Help: "Requests answered, by endpoint and HTTP status."}, []string{"endpoint", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "boltseal_request_duration_seconds",
			Help:    "Time from a request's first byte to its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}}, []string{"endpoint"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "boltseal_image_decisions_total",
			Help: "Decisions about images, by who asked, decision and cause."}, []string{"source", "decision", "cause"}),
		recalled: prometheus.NewCounter(prometheus.CounterOpts{Name: "boltseal_last_known_good_total",
			Help: "Images decided from memory because their registry did not answer."}),
		paused: prometheus.NewCounter(prometheus.CounterOpts{Name: "boltseal_second_tries_total",
			Help: "Requests that waited, and asked once more, since too many verifications were under way."}),
		exempted: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "boltseal_exempted_images_total",
			Help: "Images that did not satisfy a policy and were exempt from it, by the exemption's category and what was found; each policy counts."}, []string{"category", "decision"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{Name: "boltseal_panics_total",
			Help: "Panics that were caught; what was asked was denied. Every one is a fault to report."}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "boltseal_reloads_total",
			Help: "Attempts to read files anew, by what was read and the outcome."}, []string{"what", "outcome"}),
		loadedAt: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_config_loaded_timestamp_seconds",
			Help: "When the active configuration was loaded."}),
		configOK: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_config_last_load_successful",
			Help: "1 where the present configuration could be loaded, 0 where an older one is serving."}),
	}
	for _, c := range []v1alpha1.ExemptionCategory{v1alpha1.Waiver, v1alpha1.Mitigated} {
		for _, d := range []boltseal.Decision{boltseal.Deny, boltseal.Unknown} {
			m.exempted.WithLabelValues(string(c), d.String())
		}
	}
	m.allowedByGatekeeper = m.decisions.WithLabelValues(sourceGatekeeper, boltseal.Allow.String(), "")
	m.allowedByAdmission = m.decisions.WithLabelValues(sourceAdmission, boltseal.Allow.String(), "")
	m.registry.MustRegister(m.requests, m.duration, m.decisions, m.recalled, m.paused, m.exempted, m.panics, m.reloads, m.loadedAt, m.configOK,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.sources(s)
	return m
}

// Register adds collectors of others.
func (m *Metrics) Register(cs ...prometheus.Collector) { m.registry.MustRegister(cs...) }

func (m *Metrics) gauge(name, help string, f func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f))
}

func (m *Metrics) sources(s Sources) {
	counter := func(name, help string, f func() float64) {
		m.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f))
	}
	gauge := m.gauge
	if l := s.Live; l != nil {
		gauge("boltseal_config_generation", "Number of the active configuration, 0 where there is none.", func() float64 {
			if snap := l.Load(); snap != nil {
				return float64(snap.Generation)
			}
			return 0
		})
		m.exemptions(l, s.Clock)
		usage := func(pick func(entries int, bytes int64) float64) func() float64 {
			return func() float64 {
				if snap := l.Load(); snap != nil && snap.Memo != nil {
					return pick(snap.Memo.Usage())
				}
				return 0
			}
		}
		gauge("boltseal_answers_kept", "Answers that are kept.", usage(func(n int, _ int64) float64 { return float64(n) }))
		gauge("boltseal_answers_kept_bytes", "Rough size of the answers that are kept.", usage(func(_ int, b int64) float64 { return float64(b) }))
	}
	if st := s.Memo; st != nil {
		counter("boltseal_answers_reused_total", "Answers that were there already.", func() float64 { return float64(st.Hits.Load()) })
		counter("boltseal_answers_joined_total", "Askers that waited for a verification under way.", func() float64 { return float64(st.Joined.Load()) })
		counter("boltseal_verifications_total", "Images verified.", func() float64 { return float64(st.Verified.Load()) })
		counter("boltseal_overloaded_total", "Images not verified because too many were under way.", func() float64 { return float64(st.Overloaded.Load()) })
		gauge("boltseal_verifications_in_flight", "Verifications under way.", func() float64 { return float64(st.InFlight.Load()) })
	}
	if mem := s.Memory; mem != nil {
		gauge("boltseal_last_known_good_bytes", "Rough size of what is remembered for an outage.", func() float64 { return float64(mem.Usage()) })
	}
	if a := s.Audit; a != nil {
		counter("boltseal_audit_lines_dropped_total", "Audit lines that their writer was too slow for.", func() float64 { return float64(a.Dropped()) })
	}
}

func (m *Metrics) decided(source string, d boltseal.Decision, c boltseal.Cause) {
	switch {
	case d == boltseal.Allow && source == sourceAdmission:
		m.allowedByAdmission.Inc()
	case d == boltseal.Allow:
		m.allowedByGatekeeper.Inc()
	default:
		m.decisions.WithLabelValues(source, d.String(), string(c)).Inc()
	}
}

// Loaded notes the outcome of reading files anew; what is "config" or "tls".
func (m *Metrics) Loaded(what string, now time.Time, err error) {
	outcome := "success"
	if err != nil {
		outcome = "failure"
	}
	m.reloads.WithLabelValues(what, outcome).Inc()
	if what != "config" {
		return
	}
	if err != nil {
		m.configOK.Set(0)
		return
	}
	m.configOK.Set(1)
	m.loadedAt.Set(float64(now.Unix()))
}
