package acr

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/strict"
)

// The environment in which Azure's workload identity webhook tells a Pod who it is.
const (
	envTenant    = "AZURE_TENANT_ID"
	envClient    = "AZURE_CLIENT_ID"
	envTokenFile = "AZURE_FEDERATED_TOKEN_FILE"
	envAuthority = "AZURE_AUTHORITY_HOST"
)

// scope is what a token for registries is asked for; it is the same in all clouds
// (azcontainerregistry, cloud_config.go).
const scope = "https://containerregistry.azure.net/.default"

// cloudOf is the cloud in which to sign in for a registry. An identity is of one
// cloud: its assertions are not shown to another's Entra, whatever an image is called.
func (s *Source) cloudOf(host string) (cloud.Configuration, error) {
	authority, err := url.Parse(s.env.Getenv(envAuthority))
	if err != nil {
		authority = &url.URL{}
	}
	of := cloud.Configuration{}
	for _, c := range sovereigns() {
		if at, err := url.Parse(c.config.ActiveDirectoryAuthorityHost); err == nil && at.Host == authority.Host {
			of = c.config
		}
	}
	for _, c := range sovereigns() {
		if !strings.HasSuffix(host, "."+c.suffix) {
			continue
		}
		if of.ActiveDirectoryAuthorityHost != "" && of.ActiveDirectoryAuthorityHost != c.config.ActiveDirectoryAuthorityHost {
			return of, fmt.Errorf("%w: %s is not given to %s, which is in another cloud of Azure than the identity ($%s)", credential.ErrNotForHost, s.o.Provider, host, envAuthority)
		}
		return c.config, nil
	}
	if of.ActiveDirectoryAuthorityHost == "" {
		of = cloud.AzurePublic
	}
	return of, nil
}

// identity is what signs in at a cloud. It asks nobody yet.
func (s *Source) identity(in cloud.Configuration) (azcore.TokenCredential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.with[in.ActiveDirectoryAuthorityHost]; c != nil {
		return c, nil
	}
	c, err := s.signer(in)
	if err != nil {
		return nil, err
	}
	s.with[in.ActiveDirectoryAuthorityHost] = c
	return c, nil
}

func (s *Source) signer(in cloud.Configuration) (azcore.TokenCredential, error) {
	o := s.client
	o.Cloud = in
	lacks := func(what, variable, remedy string) error {
		return &keys.Error{Op: opSignIn, Err: boltseal.ErrConfiguration, Detail: what + " is not set, and neither is $" + variable, Remedy: remedy}
	}
	if s.o.Provider == ManagedIdentity {
		mo := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
		if s.o.ClientID != "" {
			mo.ID = azidentity.ClientID(s.o.ClientID)
		}
		c, err := azidentity.NewManagedIdentityCredential(mo)
		return c, unmade(err)
	}
	const webhook = "label Boltseal's Pods azure.workload.identity/use: \"true\", and see that the webhook of Azure's workload identity runs"
	tenant, client := cmp.Or(s.o.TenantID, s.env.Getenv(envTenant)), cmp.Or(s.o.ClientID, s.env.Getenv(envClient))
	file := cmp.Or(s.o.TokenFile, s.env.Getenv(envTokenFile))
	switch {
	case tenant == "":
		return nil, lacks("tenantID", envTenant, webhook)
	case client == "":
		return nil, lacks("clientID", envClient, "annotate Boltseal's ServiceAccount with azure.workload.identity/client-id, or set clientID")
	case file == "":
		return nil, lacks("tokenFile", envTokenFile, webhook)
	}
	c, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: o, TenantID: tenant, ClientID: client, TokenFilePath: file})
	return c, unmade(err)
}

// unmade is the error of an identity that azidentity does not make.
func unmade(err error) error {
	if err == nil {
		return nil
	}
	return &keys.Error{Op: opSignIn, Err: boltseal.ErrConfiguration, Detail: keys.Clean(err.Error())}
}

// tenant is what the registry is told, "" = what stands in the token.
func (s *Source) tenant() string { return cmp.Or(s.o.TenantID, s.env.Getenv(envTenant)) }

// signIn says what azidentity's errors mean, without what they repeat of requests
// and answers.
func (s *Source) signIn(in cloud.Configuration, err error) error {
	e := &keys.Error{Op: opSignIn, Err: boltseal.ErrUnauthorized}
	if u, bad := url.Parse(in.ActiveDirectoryAuthorityHost); bad == nil && s.o.Provider == WorkloadIdentity {
		e.Host = u.Host
	}
	var auth *azidentity.AuthenticationFailedError
	var outer *url.Error
	switch {
	case errors.As(err, &auth) && auth.RawResponse != nil:
		r := auth.RawResponse
		if r.Request != nil {
			e.Host = r.Request.URL.Host
		}
		e.Status, e.Err, e.RetryAfter = r.StatusCode, keys.Sentinel(r.StatusCode), keys.RetryAfter(r.Header, s.env.Clock())
		if errors.Is(e.Err, boltseal.ErrConfiguration) || errors.Is(e.Err, boltseal.ErrNotFound) {
			e.Err = boltseal.ErrUnauthorized // 400: it does not like who we say we are
		}
		e.Detail = keys.Clean(entraCode.FindString(err.Error()))
	case errors.As(err, &outer):
		return keys.NoAnswer(opSignIn, "", e.Host, outer)
	default:
		e.Err = boltseal.ErrUnavailable
		first, _, _ := strings.Cut(err.Error(), "\n")
		e.Detail = keys.Clean(first)
	}
	if errors.Is(e.Err, boltseal.ErrUnauthorized) {
		e.Remedy = "see that tenantID and clientID are right, and that the identity trusts this cluster's tokens (federated credential: issuer, subject, audience)"
		if s.o.Provider == ManagedIdentity {
			e.Remedy = "see that this identity is assigned to the cluster's nodes: clientID " + strict.Label(cmp.Or(s.o.ClientID, "(the machine's own)"))
		}
	}
	return e
}
