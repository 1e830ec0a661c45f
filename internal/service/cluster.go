package service

import (
	"errors"
	"fmt"
	"slices"

	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/controller"
	"github.com/boltseal/boltseal/internal/integrity"
	"github.com/boltseal/boltseal/internal/memo"
)

// ClusterOptions say which cluster the configuration is read from.
type ClusterOptions struct {
	// Config is the way to its API server. Required.
	Config *rest.Config
	// Namespace is Boltseal's own. Required.
	Namespace string
	// Identity names this replica. Required, and different for each.
	Identity string
}

// ratifyNamespaces are where Ratify's users have their CertificateStores: kubectl's
// default, and where Ratify itself lives.
var ratifyNamespaces = []string{"default", "gatekeeper-system"}

// watchCluster makes the controller that reads the configuration from the cluster.
func (s *Service) watchCluster() (*controller.Controller, error) {
	o := s.o.Cluster
	stores := append([]string{o.Namespace}, ratifyNamespaces...)
	return controller.New(controller.Options{Config: o.Config, Namespace: o.Namespace, Identity: o.Identity,
		Cluster: compile.ClusterOptions{CertificateStores: stores}, Apply: s.apply, Log: s.o.Log, Clock: s.o.Clock})
}

// apply puts the cluster's resources in force.
func (s *Service) apply(c *compile.Cluster) map[compile.Key]*compile.Standing {
	policies := integrity.NewSet(c.Integrity(), s.o.Exempt...)
	// Once wanted, it stays: a namespace that adds and removes such a policy is not
	// to have every engine made anew, and every answer forgotten, each time.
	s.recalls = s.recalls || policies.Recalls()
	compiled, standing := c.Compile(s.deps(s.recalls), &s.compiled)
	s.swap(compiled, policies, s.memoFor(compiled))
	err := brokenResources(standing)
	s.server.Loaded(err)
	text := ""
	if err != nil {
		text = err.Error()
	}
	// An edit elsewhere is no reason to complain again.
	if text != s.complaint && text != "" {
		s.o.Log.Error("resources are broken", "error", text)
	}
	s.complaint = text
	return standing
}

// memoFor is the memo of the configuration before, without the answers of engines
// that are gone: an edit in one namespace costs the others nothing.
func (s *Service) memoFor(compiled *compile.Compiled) *memo.Memo {
	snap := s.live.Load()
	if snap == nil {
		return s.newMemo()
	}
	engines := map[*boltseal.Engine]bool{}
	for _, e := range compiled.Engines() {
		engines[e] = true
	}
	snap.Memo.Retain(func(e *boltseal.Engine) bool { return engines[e] })
	return snap.Memo
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
	errs := []error{fmt.Errorf("%d of %d resources are not in force as they are written; their statuses say more", len(keys), len(standing))}
	for i, k := range keys {
		if i == maxBroken {
			errs = append(errs, fmt.Errorf("and %d more", len(keys)-i))
			break
		}
		errs = append(errs, fmt.Errorf("%s: %w", k, standing[k].Problems))
	}
	return errors.Join(errs...)
}
