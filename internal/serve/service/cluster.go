package service

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/controller"
	"github.com/boltseal/boltseal/internal/running"
)

// ClusterOptions say which cluster the configuration is read from.
type ClusterOptions struct {
	// Config is the way to its API server. Required.
	Config *rest.Config
	// Namespace is Boltseal's own. Required.
	Namespace string
	// Identity names this replica. Required, and different for each.
	Identity string
	// Serving keeps the server's certificate in the cluster. Nil where it comes from
	// elsewhere.
	Serving *ServingOptions
	// Webhook says what leads the cluster to Boltseal.
	Webhook WebhookOptions
	// GatekeeperCA is the Secret with the CA of Gatekeeper's client certificate,
	// which is then demanded of whoever asks as Gatekeeper does. Zero means none.
	GatekeeperCA types.NamespacedName
	// Audit says how what already runs is looked at; what a Service makes itself is
	// filled in. Nil means that it is not.
	Audit *running.Options
	// Alone is what else is for one replica at a time, by what it is called.
	Alone map[string]Alone
}

// Alone is work for one replica at a time: the one that holds the lease.
type Alone interface {
	// Run works until ctx ends. An error is logged, and it is run again.
	Run(ctx context.Context) error
	// Metrics are what Prometheus reads.
	Metrics() []prometheus.Collector
}

// againAfter is how long work that ended with an error is left alone.
const againAfter = 5 * time.Second

// watchCluster makes the controller that reads the configuration from the cluster.
func (s *Service) watchCluster() (*controller.Controller, error) {
	o := s.o.Cluster
	return controller.New(controller.Options{Config: o.Config, Namespace: o.Namespace, Identity: o.Identity,
		Cluster: o.options(), Apply: s.apply, Lead: s.lead, Log: s.o.Log, Clock: s.o.Clock})
}

// options say how the cluster's resources are read.
func (o *ClusterOptions) options() compile.ClusterOptions {
	return compile.ClusterOptions{CertificateStores: compile.CertificateStores(o.Namespace)}
}

// auditRunning makes what looks at Pods that already run.
func (s *Service) auditRunning() (err error) {
	if s.o.Cluster.Audit == nil {
		return nil
	}
	o := *s.o.Cluster.Audit
	o.Drivers = s.o.Server.Drivers
	o.Config, o.Live, o.Log, o.Clock = s.o.Cluster.Config, &s.live, s.o.Log, s.o.Clock
	o.Begin = s.beginPass()
	if s.auditor, err = running.New(o); err == nil {
		s.metrics.Register(s.auditor.Metrics()...)
	}
	return err
}

// runAlone runs what is for one replica alone until ctx ends.
func (s *Service) runAlone(ctx context.Context, name string, a Alone) {
	for ctx.Err() == nil {
		err := a.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		s.o.Log.Error(name+" stopped, and is started again", "error", err.Error())
		select {
		case <-ctx.Done():
		case <-time.After(againAfter):
		}
	}
}

// apply puts the cluster's resources in force.
func (s *Service) apply(c *compile.Cluster) map[compile.Key]*compile.Standing {
	policies := integrity.NewSet(c.Integrity(), s.o.Exempt...)
	// Once wanted, it stays: a namespace that adds and removes such a policy is not
	// to have every engine made anew, and every answer forgotten, each time.
	s.recalls = s.recalls || policies.Recalls()
	s.named.Watch(c.Files())
	if s.keys.Use(c.Wants()); s.live.Load() == nil {
		s.awaitKeys()
	}
	compiled, standing := c.Compile(s.deps(s.recalls), &s.compiled)
	m := s.newMemo()
	if snap := s.live.Load(); snap != nil {
		m = snap.Memo // an edit in one namespace costs the others nothing
	}
	s.swap(compiled, policies, m)
	s.askAbout(policies.Others())
	forgetAnswers(m, compiled)
	err := errors.Join(s.cluster.Vanished(), brokenResources(standing))
	s.server.Loaded(err)
	text := ""
	if err != nil {
		text = err.Error()
	}
	// An edit elsewhere is no reason to complain again.
	if text != s.complaint && text != "" {
		s.o.Log.Error("the configuration does not apply as the cluster has it", "error", text)
	}
	s.complaint = text
	return standing
}

// askAbout has the API server ask about the kinds of others that policies name.
func (s *Service) askAbout(others []string) {
	if s.reg.registrar == nil {
		return
	}
	if n := len(others) - integrity.MaxOtherKinds; n > 0 {
		s.o.Log.Error("policies name more third-party kinds than the limit: the ones beyond it are not checked, only their Pods are", "most", integrity.MaxOtherKinds, "left out", n, "first left out", others[integrity.MaxOtherKinds])
		others = others[:integrity.MaxOtherKinds]
	}
	s.reg.registrar.Ask(others)
}

// forgetAnswers forgets the answers of engines that are not there any more.
func forgetAnswers(m *memo.Memo, compiled *compile.Compiled) {
	engines := map[*boltseal.Engine]bool{}
	for _, e := range compiled.Engines() {
		engines[e] = true
	}
	m.Retain(func(e *boltseal.Engine) bool { return engines[e] })
}

// maxBroken bounds how many broken resources a message names.
const maxBroken = 5

// brokenResources says which resources are not in force as they are written.
func brokenResources(standing map[compile.Key]*compile.Standing) error {
	var keys []compile.Key
	for k, st := range standing {
		if !st.OK() {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	slices.SortFunc(keys, compile.Key.Compare)
	errs := []error{fmt.Errorf("%d of %d resources do not apply as they are written; their statuses say more", len(keys), len(standing))}
	for i, k := range keys {
		if i == maxBroken {
			errs = append(errs, fmt.Errorf("and %d more", len(keys)-i))
			break
		}
		errs = append(errs, fmt.Errorf("%s: %w", k, standing[k].Problems))
	}
	return errors.Join(errs...)
}
