package serve

import (
	"errors"
	"time"

	"github.com/spf13/pflag"

	"github.com/boltseal/boltseal/internal/running"
	"github.com/boltseal/boltseal/internal/serve/service"
)

// Limits on what the audit of a server may be told.
const (
	minAuditInterval    = time.Second
	maxAuditRate        = 10_000
	maxAuditConcurrency = 256
)

// runningFlags say how a server looks at what already runs.
type runningFlags struct {
	interval    time.Duration
	rate        float64
	concurrency int
}

func (f *runningFlags) register(fl *pflag.FlagSet) {
	fl.DurationVar(&f.interval, "audit-interval", running.DefaultInterval, "`DURATION`: how often Pods that run already are checked, beside on every change; 0 for never; in a cluster only")
	fl.Float64Var(&f.rate, "audit-rate", running.DefaultRate, "`N`: images that this verifies in a second at most")
	fl.IntVar(&f.concurrency, "audit-concurrency", running.DefaultConcurrency, "`N`: images that this verifies at a time")
}

// set makes the flags options of a cluster's server.
func (f *runningFlags) set(o *service.ClusterOptions) error {
	switch {
	case o == nil || f.interval == 0:
		return nil
	case f.interval < minAuditInterval:
		return errors.New("--audit-interval must be 0 or at least " + minAuditInterval.String())
	case f.rate <= 0 || f.rate > maxAuditRate:
		return errors.New("--audit-rate must be more than 0 and at most 10000")
	case f.concurrency < 1 || f.concurrency > maxAuditConcurrency:
		return errors.New("--audit-concurrency must be between 1 and 256")
	}
	o.Audit = &running.Options{Interval: f.interval, Judge: running.JudgeOptions{Rate: f.rate, Concurrency: f.concurrency}}
	return nil
}
