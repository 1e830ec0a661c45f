package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
)

// exemptions announces ends at each scrape.
func (m *Metrics) exemptions(l *snapshot.Live, clock func() time.Time) {
	if clock == nil {
		clock = time.Now
	}
	states := []struct {
		name  string
		holds func(*integrity.Exemption, time.Time) bool
	}{
		{"over", (*integrity.Exemption).Over},
		{"ending", (*integrity.Exemption).EndsSoon},
		{"in_force", func(e *integrity.Exemption, now time.Time) bool { return !e.Over(now) }},
	}
	for _, st := range states {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "boltseal_exemptions",
			Help:        "Exemptions of the policies: those that are active, those of them that end within 30 days, and those that are over.",
			ConstLabels: prometheus.Labels{"state": st.name}}, func() (n float64) {
			now := clock()
			eachExemption(l, func(e *integrity.Exemption) {
				if st.holds(e, now) {
					n++
				}
			})
			return n
		}))
	}
	m.gauge("boltseal_exemption_next_end_timestamp_seconds", "When the next exemption ends; 0 where none does.", func() (next float64) {
		now := clock()
		eachExemption(l, func(e *integrity.Exemption) {
			if at := float64(e.Ends.Unix()); !e.Ends.IsZero() && !e.Over(now) && (next == 0 || at < next) {
				next = at
			}
		})
		return next
	})
}

func eachExemption(l *snapshot.Live, f func(*integrity.Exemption)) {
	snap := l.Load()
	if snap == nil {
		return
	}
	for _, p := range snap.Policies.Policies() {
		for _, e := range p.Exemptions() {
			f(e)
		}
	}
}
