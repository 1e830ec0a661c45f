package input

import (
	"context"

	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/internal/serve/service"
)

// KeysEnv returns what providers of certificates are asked with; config is the cluster's, nil where there is none.
func KeysEnv(env frame.Env, config *rest.Config) (keys.Env, error) {
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

// FetchKeys fetches once what is wanted, and returns what became of each.
func FetchKeys(ctx context.Context, env frame.Env, config *rest.Config, wants []keys.Want) (func(keys.Want) keys.State, error) {
	e, err := KeysEnv(env, config)
	if err != nil {
		return nil, err
	}
	return keys.Once(ctx, e, wants), nil
}
