package keys

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxMeasured bounds how many providers have metrics of their own.
const maxMeasured = 1000

var labels = []string{"provider"}

// collector reads a Refresher when Prometheus does.
type collector struct {
	r                                            *Refresher
	age, failures, fetches, certificates, expiry *prometheus.Desc
}

// Metrics are what Prometheus reads: for each provider how old what it has is, how
// often it failed in a row, how often it was asked, and when the first of its
// certificates expires.
func (r *Refresher) Metrics() prometheus.Collector {
	desc := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc("boltseal_key_provider_"+name, help, append(labels[:1:1], more...), nil)
	}
	return &collector{r: r,
		age:          desc("age_seconds", "How long ago what the provider has was last confirmed. Absent where nothing was ever fetched."),
		failures:     desc("failures", "Attempts that failed in a row."),
		fetches:      desc("fetches_total", "Attempts, by what came of them.", "result"),
		certificates: desc("certificates", "Certificates in use."),
		expiry:       desc("certificate_expiry_timestamp_seconds", "When the first of the certificates in use expires."),
	}
}

func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.age, c.failures, c.fetches, c.certificates, c.expiry} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	type measured struct {
		resource string
		state    State
		totals   totals
	}
	c.r.mu.Lock()
	all := make([]measured, 0, len(c.r.running))
	seen := map[string]bool{}
	for _, run := range c.r.running {
		// An edited resource has two versions for a while; one of them is told.
		if len(all) == maxMeasured || seen[run.want.Resource] {
			continue
		}
		seen[run.want.Resource] = true
		all = append(all, measured{run.want.Resource, run.state, run.totals})
	}
	c.r.mu.Unlock()
	now := c.r.o.Env.Clock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, m := range all {
		if !m.state.Fetched.IsZero() {
			gauge(c.age, now.Sub(m.state.Fetched).Seconds(), m.resource)
		}
		gauge(c.failures, float64(m.state.Failures), m.resource)
		gauge(c.certificates, float64(len(m.state.Content.Certificates())), m.resource)
		ch <- prometheus.MustNewConstMetric(c.fetches, prometheus.CounterValue, m.totals.succeeded, m.resource, "success")
		ch <- prometheus.MustNewConstMetric(c.fetches, prometheus.CounterValue, m.totals.failed, m.resource, "failure")
		if first := Earliest(m.state.Content); !first.IsZero() {
			gauge(c.expiry, float64(first.Unix()), m.resource)
		}
	}
}

// Earliest is when the first of the certificates in use expires; zero where there
// are none.
func Earliest(c *Content) (first time.Time) {
	for _, cert := range c.Certificates() {
		if first.IsZero() || cert.NotAfter.Before(first) {
			first = cert.NotAfter
		}
	}
	return first
}
