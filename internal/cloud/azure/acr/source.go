// Package acr gets credentials of Azure Container Registry for the identity that Boltseal has in Microsoft Entra.
package acr

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cloud/azure"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/endpoints"
	"github.com/boltseal/boltseal/internal/credential/keeper"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// The providers, by their names in a Store's authProvider.
const (
	WorkloadIdentity = "azureWorkloadIdentity"
	ManagedIdentity  = "azureManagedIdentity"
)

// maxAnswer bounds one answer of a registry, in bytes.
const maxAnswer = 256 << 10

// Options make a Source.
type Options struct {
	// Provider is WorkloadIdentity or ManagedIdentity.
	Provider string

	// ClientID is who signs in. "" means $AZURE_CLIENT_ID for a workload identity,
	// and the machine's own identity for a managed one.
	ClientID string
	// TenantID is where it signs in. "" means $AZURE_TENANT_ID, which a managed
	// identity can do without.
	TenantID string
	// Endpoints are the registries that the identity is for, such as
	// acme.azurecr.io or *.azurecr.io. Empty means all that Azure has: *.azurecr.io,
	// *.azurecr.us, *.azurecr.cn.
	Endpoints []string
	// TokenFile is a workload identity's federated token, which is read again
	// whenever it is used. "" means $AZURE_FEDERATED_TOKEN_FILE.
	TokenFile string

	// Transport is the way to Entra, instance metadata and registries. Nil means
	// http.DefaultTransport's settings.
	Transport http.RoundTripper
	// Getenv reads the environment. Nil means os.Getenv.
	Getenv func(string) string
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
	// Jitter returns a number in [0,1) that spreads renewals. Nil means math/rand.
	Jitter func() float64
	// Timeout bounds one sign-in with its exchange. 0 means keeper.DefaultTimeout.
	Timeout time.Duration
}

// sovereign is one of Azure's clouds.
type sovereign struct {
	suffix string // of its registries' hosts
	config cloud.Configuration
}

func sovereigns() []sovereign {
	return []sovereign{
		{"azurecr.io", cloud.AzurePublic},
		{"azurecr.us", cloud.AzureGovernment},
		{"azurecr.cn", cloud.AzureChina},
	}
}

func suffixes() (all []string) {
	for _, s := range sovereigns() {
		all = append(all, s.suffix)
	}
	return all
}

// identity is who signs in.
func (o Options) identity() azure.Options {
	is := azure.Options{Authentication: azure.WorkloadIdentity, TenantID: o.TenantID, ClientID: o.ClientID, TokenFile: o.TokenFile}
	if o.Provider == ManagedIdentity {
		is.Authentication = azure.ManagedIdentity
	}
	return is
}

// Check finds what is wrong with the parameters. It looks at nothing outside them.
func (o Options) Check() (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	names := []string{WorkloadIdentity, ManagedIdentity}
	switch o.Provider {
	case WorkloadIdentity:
	case ManagedIdentity:
		if o.TokenFile != "" {
			fail("tokenFile", "it is of use with %s only", WorkloadIdentity)
		}
	default:
		fail("name", "%s is not one of %s%s", strict.Label(o.Provider), strings.Join(names, ", "), nearest.Hint(o.Provider, names))
	}
	problems = append(problems, o.identity().Check()...)
	_, bad := endpoints.Parse(o.Endpoints, suffixes()...)
	for _, p := range bad {
		fail(fmt.Sprintf("endpoints[%d]", p.Index), "%s", p.Message)
	}
	return problems
}

// Source gets refresh tokens of registries. It is safe for concurrent use.
type Source struct {
	o     Options
	env   keys.Env
	hosts endpoints.List
	who   *azure.Identity
	pipe  runtime.Pipeline
	kept  *keeper.Keeper
}

var _ oci.CredentialSource = (*Source)(nil)

// New makes a source, and asks nobody. Errors wrap boltseal.ErrConfiguration and
// name the parameter.
func New(o Options) (*Source, error) {
	if ps := o.Check(); len(ps) > 0 {
		return nil, fmt.Errorf("%w: %s: %s: %s", boltseal.ErrConfiguration, strict.Label(o.Provider), ps[0].Field, ps[0].Message)
	}
	if len(o.Endpoints) == 0 {
		for _, suffix := range suffixes() {
			o.Endpoints = append(o.Endpoints, "*."+suffix)
		}
	}
	s := &Source{o: o}
	s.env = keys.Env{Transport: o.Transport, Getenv: o.Getenv, Clock: o.Clock, Limits: keys.Limits{AnswerBytes: maxAnswer}}.Complete()
	s.hosts, _ = endpoints.Parse(o.Endpoints, suffixes()...)
	s.who = azure.New(o.identity(), s.env)
	client := azure.ClientOptions(s.env, cloud.AzurePublic)
	s.pipe = runtime.NewPipeline("boltseal", "v1", runtime.PipelineOptions{}, &client)
	s.kept = keeper.New(keeper.Options{Fetch: s.fetch, Clock: s.env.Clock, Jitter: o.Jitter, Timeout: o.Timeout})
	return s, nil
}

// Credential implements [oci.CredentialSource]: a refresh token of the registry for
// all of its repositories that the identity may read, and when that ends. Errors
// wrap credential.ErrNotForHost for registries that are none of the endpoints,
// boltseal.ErrUnavailable where somebody did not answer, and another of the root
// package's sentinels in all other cases. They hold no token.
func (s *Source) Credential(ctx context.Context, host, _ string) (oci.Credential, error) {
	if !s.hosts.Match(host) {
		return oci.Credential{}, endpoints.Refuse(s.o.Provider, host, credential.ErrNotForHost)
	}
	if _, err := s.cloudOf(host); err != nil {
		return oci.Credential{}, err
	}
	c, err := s.kept.Get(ctx, host)
	if err != nil {
		return oci.Credential{}, fmt.Errorf("%s: %s: %w", s.o.Provider, host, err)
	}
	return c, nil
}

// Invalidate forgets a credential that a registry refused. The next one is asked for
// anew. It does nothing where there is another one by now.
func (s *Source) Invalidate(host, _ string, c oci.Credential) { s.kept.Drop(host, c) }
