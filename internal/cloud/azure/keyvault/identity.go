package keyvault

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
)

// The environment in which Azure's workload identity webhook tells a Pod who it is.
const (
	envTenant    = "AZURE_TENANT_ID"
	envClient    = "AZURE_CLIENT_ID"
	envTokenFile = "AZURE_FEDERATED_TOKEN_FILE"
)

// credential makes what signs in. It asks nobody yet.
func (p Parameters) credential(env keys.Env, namespace string, o azcore.ClientOptions) (azcore.TokenCredential, error) {
	tenant, client := cmp.Or(p.TenantID, env.Getenv(envTenant)), cmp.Or(p.ClientID, env.Getenv(envClient))
	lacks := func(what, variable string) error {
		return fmt.Errorf("%w: %s: it is missing, and so is $%s", boltseal.ErrConfiguration, what, variable)
	}
	if p.Authentication == ManagedIdentity {
		mo := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
		if p.ClientID != "" {
			mo.ID = azidentity.ClientID(p.ClientID)
		}
		return azidentity.NewManagedIdentityCredential(mo)
	}
	switch {
	case tenant == "":
		return nil, lacks("tenantID", envTenant)
	case client == "":
		return nil, lacks("clientID", envClient)
	}
	if p.Authentication == ClientSecret {
		return &secretCredential{p: p, env: env, namespace: namespace, tenant: tenant, client: client, o: o}, nil
	}
	file := cmp.Or(p.TokenFile, env.Getenv(envTokenFile))
	if file == "" {
		return nil, fmt.Errorf("%w: there is no federated token: $%s is not set; is the Pod labelled azure.workload.identity/use: \"true\", and does the webhook of Azure's workload identity run?", boltseal.ErrConfiguration, envTokenFile)
	}
	return azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: o, TenantID: tenant, ClientID: client, TokenFilePath: file})
}

// secretCredential signs in with a client secret that may be another one tomorrow.
type secretCredential struct {
	p              Parameters
	env            keys.Env
	namespace      string
	tenant, client string
	o              azcore.ClientOptions

	mu     sync.Mutex
	secret string
	with   *azidentity.ClientSecretCredential
}

func (c *secretCredential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	cred, err := c.current(ctx)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	return cred.GetToken(ctx, o)
}

func (c *secretCredential) current(ctx context.Context) (*azidentity.ClientSecretCredential, error) {
	secret, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.with != nil && c.secret == secret {
		return c.with, nil
	}
	cred, err := azidentity.NewClientSecretCredential(c.tenant, c.client, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: c.o})
	if err != nil {
		return nil, err
	}
	c.secret, c.with = secret, cred
	return cred, nil
}

// maxSecretBytes bounds a client secret's file.
const maxSecretBytes = 4 << 10

func (c *secretCredential) read(ctx context.Context) (string, error) {
	if c.p.ClientSecretRef != nil {
		return c.p.ClientSecretRef.Read(ctx, c.env.Objects, c.namespace)
	}
	fail := func(detail string) error {
		return &keys.Error{Op: "read", Target: c.p.ClientSecretFile, Detail: detail, Err: boltseal.ErrConfiguration}
	}
	f, err := os.Open(c.p.ClientSecretFile)
	if err != nil {
		return "", fail("the file with the client secret cannot be opened")
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", fail("it is no file")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecretBytes+1))
	secret := strings.TrimSpace(string(b))
	if err != nil || len(b) > maxSecretBytes || secret == "" {
		return "", fail("it contains no client secret")
	}
	return secret, nil
}
