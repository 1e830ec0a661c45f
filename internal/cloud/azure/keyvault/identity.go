package keyvault

import (
	"context"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure"
	"github.com/boltseal/boltseal/internal/keys"
)

// identity is who signs in.
func (p Parameters) identity() azure.Options {
	return azure.Options{Authentication: p.Authentication, TenantID: p.TenantID, ClientID: p.ClientID, TokenFile: p.TokenFile}
}

// maxSecretBytes bounds a client secret's file.
const maxSecretBytes = 4 << 10

// secret reads the client secret, which may be another one tomorrow.
func (p Parameters) secret(ctx context.Context, env keys.Env, namespace string) (string, error) {
	if p.ClientSecretRef != nil {
		return p.ClientSecretRef.Read(ctx, env.Objects, namespace)
	}
	b, err := keys.ReadFile("read", p.ClientSecretFile, maxSecretBytes)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(b))
	if secret == "" {
		return "", &keys.Error{Op: "read", Target: p.ClientSecretFile, Detail: "it contains no client secret", Err: boltseal.ErrConfiguration}
	}
	return secret, nil
}
