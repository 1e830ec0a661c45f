package service

import (
	"context"
	"errors"
	"time"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/keys/kube"
)

// settleKeys is how long further changes of certificates are waited for before they
// are put in force together.
const settleKeys = 20 * time.Millisecond

// errAwaited means that the first answers of providers are awaited.
var errAwaited = errors.New("the first certificates are awaited")

// fetchKeys makes what fetches certificates.
func (s *Service) fetchKeys() error {
	env := s.o.Keys
	if env.Clock == nil {
		env.Clock = s.o.Clock
	}
	if s.o.Cluster != nil && env.Objects == nil {
		client := s.reg.client
		if client == nil {
			var err error
			if client, err = NewClient(s.o.Cluster.Config); err != nil {
				return err
			}
		}
		env.Objects, env.Namespace = kube.Objects{Client: client, Log: s.o.Log}, s.o.Cluster.Namespace
	}
	s.o.Keys = env // registries' credentials are asked for with the same
	s.keysChanged = make(chan struct{}, 1)
	o := keys.Options{Env: env, Log: s.o.Log, Begin: s.beginRefresh(), Changed: func() {
		select {
		case s.keysChanged <- struct{}{}:
		default:
		}
	}}
	if s.cluster != nil {
		o.Fetched = func(w keys.Want, st keys.State) { s.cluster.Fetched(compile.KeyOf(w), st.Fetched) }
	}
	s.keys = keys.NewRefresher(o)
	s.metrics.Register(s.keys.Metrics())
	return nil
}

// followKeys puts certificates that were fetched in force until ctx ends.
func (s *Service) followKeys(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.keysChanged:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(settleKeys):
		}
		if s.cluster != nil {
			s.cluster.Recompile()
		} else {
			s.loadKeys()
		}
	}
}

// awaitKeys has providers that were never tried tried before they count: a replica
// that just started must not deny what all others allow. It takes no longer than
// one attempt.
func (s *Service) awaitKeys() {
	ctx, cancel := context.WithTimeout(context.Background(), s.o.Keys.Limits.Complete().Attempt)
	defer cancel()
	s.keys.Wait(ctx)
}
