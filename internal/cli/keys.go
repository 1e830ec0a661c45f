package cli

import (
	"context"

	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/internal/service"
)

// keys is what providers of certificates are asked with; config is the cluster's,
// nil where there is none.
func (env Env) keys(config *rest.Config) (keys.Env, error) {
	e := keys.Env{Getenv: env.Getenv}
	if config == nil {
		return e, nil
	}
	client, err := service.NewClient(config)
	if err != nil {
		return e, err
	}
	e.Objects = kube.Objects{Client: client}
	return e, nil
}

// fetch fetches what is wanted once.
func (env Env) fetch(ctx context.Context, config *rest.Config, wants []keys.Want) (func(keys.Want) keys.State, error) {
	e, err := env.keys(config)
	if err != nil {
		return nil, err
	}
	return keys.Once(ctx, e, wants), nil
}
