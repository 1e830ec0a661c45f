// Package azure says who Boltseal is in Microsoft Entra, and gets tokens of it for all that is asked in Azure.
package azure

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
)

// How Boltseal signs in.
const (
	WorkloadIdentity = "workloadIdentity" // the default
	ManagedIdentity  = "managedIdentity"
	ClientSecret     = "clientSecret"
)

// The environment in which Azure's workload identity webhook tells a Pod who it is.
const (
	envTenant    = "AZURE_TENANT_ID"
	envClient    = "AZURE_CLIENT_ID"
	envTokenFile = "AZURE_FEDERATED_TOKEN_FILE"
	envAuthority = "AZURE_AUTHORITY_HOST"
)

const (
	// MaxAnswer bounds one answer of those who sign in, in bytes.
	MaxAnswer = 256 << 10

	retries    = 1 // of one request
	retryDelay = 300 * time.Millisecond
)

// Options say who signs in. The zero value is the workload identity that the environment names.
type Options struct {
	// Authentication is WorkloadIdentity, ManagedIdentity or ClientSecret. "" means WorkloadIdentity.
	Authentication string
	// TenantID is where it signs in. "" means $AZURE_TENANT_ID, which a managed identity can do without.
	TenantID string
	// ClientID is who signs in. "" means $AZURE_CLIENT_ID, and for a managed identity the machine's own.
	ClientID string
	// TokenFile is a workload identity's federated token, which is read again whenever it is used. "" means
	// $AZURE_FEDERATED_TOKEN_FILE.
	TokenFile string
	// Secret reads the client secret of ClientSecret whenever somebody signs in, as it may be another one by then. Its
	// errors hold nothing of it.
	Secret func(context.Context) (string, error)
}

// identifier is a tenant's or a client's: a GUID, or a tenant's domain.
var identifier = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,253}$`)

// Check finds what is wrong with the identifiers. It looks at nothing outside them.
func (o Options) Check() (problems []keys.Problem) {
	for _, id := range []struct{ field, value string }{{"clientID", o.ClientID}, {"tenantID", o.TenantID}} {
		if id.value != "" && !identifier.MatchString(id.value) {
			problems = append(problems, keys.Problem{Field: id.field, Message: strict.Label(id.value) + " is no identifier of Microsoft Entra"})
		}
	}
	return problems
}

// Clouds are Azure's: public, US Government, China. Each has identities of its own.
func Clouds() []cloud.Configuration {
	return []cloud.Configuration{cloud.AzurePublic, cloud.AzureGovernment, cloud.AzureChina}
}

// ClientOptions are those of Azure's clients: one retry where nobody answered, and none where somebody throttles, because
// those who ask know how long to wait.
func ClientOptions(env keys.Env, in cloud.Configuration) azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     in,
		Transport: env.Client(),
		Telemetry: policy.TelemetryOptions{ApplicationID: "boltseal"},
		Retry: policy.RetryOptions{MaxRetries: retries, RetryDelay: retryDelay,
			StatusCodes: []int{http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusBadGateway, http.StatusGatewayTimeout}},
	}
}

// Identity is who Boltseal is in Microsoft Entra. It is safe for concurrent use. Tokens are kept by azidentity.
type Identity struct {
	o   Options
	env keys.Env

	mu   sync.Mutex
	made map[string]azcore.TokenCredential // by all that one is made of
}

// New makes an Identity, and asks nobody. The environment is read when somebody signs in.
func New(o Options, env keys.Env) *Identity {
	env.Limits.AnswerBytes = MaxAnswer
	return &Identity{o: o, env: env.Complete(), made: map[string]azcore.TokenCredential{}}
}

// Tenant is where it signs in, "" = nothing says.
func (id *Identity) Tenant() string { return cmp.Or(id.o.TenantID, id.env.Getenv(envTenant)) }

func (id *Identity) client() string { return cmp.Or(id.o.ClientID, id.env.Getenv(envClient)) }

func (id *Identity) tokenFile() string {
	return cmp.Or(id.o.TokenFile, id.env.Getenv(envTokenFile))
}

// Cloud is the one that the identity is of, as the environment says; false = it does not say. A client secret is not the
// Pod's identity: the resource that names it says where it is of use.
func (id *Identity) Cloud() (cloud.Configuration, bool) {
	if id.way() == ClientSecret {
		return cloud.Configuration{}, false
	}
	authority, err := url.Parse(id.env.Getenv(envAuthority))
	if err != nil {
		return cloud.Configuration{}, false
	}
	for _, c := range Clouds() {
		if at, err := url.Parse(c.ActiveDirectoryAuthorityHost); err == nil && at.Host == authority.Host {
			return c, true
		}
	}
	return cloud.Configuration{}, false
}

// Elsewhere says why the identity is shown to nobody in a cloud: it is of another one. "" = it may be shown there.
func (id *Identity) Elsewhere(in cloud.Configuration) string {
	if own, ok := id.Cloud(); ok && own.ActiveDirectoryAuthorityHost != in.ActiveDirectoryAuthorityHost {
		return "is in another cloud of Azure than the identity ($" + envAuthority + ")"
	}
	return ""
}

// In is the identity as Azure's clients in a cloud ask it. Its errors are for [Identity.Failure].
func (id *Identity) In(in cloud.Configuration) azcore.TokenCredential { return credential{id, in} }

type credential struct {
	id *Identity
	in cloud.Configuration
}

// GetToken implements azcore.TokenCredential.
func (c credential) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if why := c.id.Elsewhere(c.in); why != "" {
		return azcore.AccessToken{}, final{&keys.Error{Op: OpSignIn, Err: boltseal.ErrRefused, Detail: "what is asked " + why + ", which is not shown there"}}
	}
	with, err := c.id.credential(ctx, c.in)
	if err != nil {
		return azcore.AccessToken{}, err
	}
	t, err := with.GetToken(ctx, o)
	if file := c.id.tokenFile(); err != nil && c.id.way() == WorkloadIdentity {
		// azidentity keeps nothing of an error of ours but its text.
		if _, unread := keys.ReadToken(OpSignIn, file); unread != nil {
			return t, finalError(unread)
		}
	}
	return t, err
}

func (id *Identity) way() string { return cmp.Or(id.o.Authentication, WorkloadIdentity) }

// credential is what signs in to a cloud.
func (id *Identity) credential(ctx context.Context, in cloud.Configuration) (azcore.TokenCredential, error) {
	tenant, client, file, secret := id.Tenant(), id.client(), id.tokenFile(), ""
	const webhook = "label Boltseal's Pods azure.workload.identity/use: \"true\", and see that the webhook of Azure's workload identity runs"
	lacks := func(what, variable, remedy string) (azcore.TokenCredential, error) {
		return nil, final{&keys.Error{Op: OpSignIn, Err: boltseal.ErrConfiguration, Detail: what + " is not set, and neither is $" + variable, Remedy: remedy}}
	}
	way := id.way()
	switch {
	case way == ManagedIdentity:
		tenant, client, file = "", id.o.ClientID, ""
	case tenant == "":
		return lacks("tenantID", envTenant, webhook)
	case client == "":
		return lacks("clientID", envClient, "annotate Boltseal's ServiceAccount with azure.workload.identity/client-id, or set clientID")
	case way == ClientSecret:
		var err error
		if secret, err = id.o.Secret(ctx); err != nil {
			return nil, finalError(err)
		}
	case file == "":
		return lacks("tokenFile", envTokenFile, webhook)
	}
	key := strings.Join([]string{way, in.ActiveDirectoryAuthorityHost, tenant, client, file, secret}, "\x00")
	id.mu.Lock()
	defer id.mu.Unlock()
	if c := id.made[key]; c != nil {
		return c, nil
	}
	c, err := id.make(way, in, tenant, client, file, secret)
	if err != nil {
		return nil, final{&keys.Error{Op: OpSignIn, Err: boltseal.ErrConfiguration, Detail: keys.Clean(err.Error())}}
	}
	if way == ClientSecret {
		clear(id.made) // an old secret is of no use
	}
	id.made[key] = c
	return c, nil
}

func (id *Identity) make(way string, in cloud.Configuration, tenant, client, file, secret string) (azcore.TokenCredential, error) {
	o := ClientOptions(id.env, in)
	switch way {
	case ManagedIdentity:
		o.Transport = id.env.Direct() // who is asked on the machine itself is spoken to without TLS: no proxy sees the token
		mo := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: o}
		if client != "" {
			mo.ID = azidentity.ClientID(client)
		}
		return azidentity.NewManagedIdentityCredential(mo)
	case ClientSecret:
		return azidentity.NewClientSecretCredential(tenant, client, secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: o})
	}
	return azidentity.NewClientAssertionCredential(tenant, client, func(context.Context) (string, error) { return keys.ReadToken(OpSignIn, file) },
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: o})
}

// final is an error that Azure's clients do not try again.
type final struct{ cause *keys.Error }

// Error is that of the cause.
func (f final) Error() string { return f.cause.Error() }

// NonRetriable implements the SDK's errorinfo.NonRetriable.
func (final) NonRetriable() {}

// Unwrap returns the error with its context.
func (f final) Unwrap() error { return f.cause }

func finalError(err error) error {
	var e *keys.Error
	if errors.As(err, &e) {
		return final{e}
	}
	return final{&keys.Error{Op: OpSignIn, Err: boltseal.ErrConfiguration, Detail: keys.Clean(fmt.Sprint(err))}}
}
