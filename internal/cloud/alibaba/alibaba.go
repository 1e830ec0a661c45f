// Package alibaba gets credentials of Alibaba Cloud Container Registry for the RAM role that Boltseal has.
package alibaba

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/endpoints"
	"github.com/boltseal/boltseal/internal/credential/keeper"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// Name is the provider's in a Store's authProvider.
const Name = "alibabacloudAcrBasic"

// How Boltseal gets its role.
const (
	RRSA         = "rrsa"         // the ServiceAccount's role, by its OIDC token; the default
	InstanceRole = "instanceRole" // the role of the machine
)

// Limits that nobody needs to change.
const (
	maxAnswer    = 256 << 10 // bytes of one answer
	maxInstances = 256
)

// Instance is one instance of the registry.
type Instance struct {
	// InstanceName is the part of the registry's host that names it.
	InstanceName string `json:"instanceName"`
	// InstanceID is such as cri-kmsiwlxxdcvaduwb.
	InstanceID string `json:"instanceId"`
}

// Options make a Source.
type Options struct {
	// DefaultInstanceID is the instance, such as cri-kmsiwlxxdcvaduwb, of a registry
	// that Instances does not name. "" means $ALIBABA_CLOUD_ACR_INSTANCE_ID; where
	// that is not set either, only registries that Instances names are meant.
	DefaultInstanceID string
	// Instances are further ones by the name in a registry's host,
	// Ratify's acrInstancesConfig.
	Instances []Instance

	// Endpoints narrow the registries that the role is for, such as
	// acme-registry.cn-hangzhou.cr.aliyuncs.com or *.cn-hangzhou.cr.aliyuncs.com.
	// Empty means all that Alibaba Cloud has for the instances.
	Endpoints []string
	// Authentication is RRSA or InstanceRole. "" means RRSA.
	Authentication string
	// RoleARN, OIDCProviderARN and TokenFile are those of RRSA; the file is read
	// again whenever it is used. "" means $ALIBABA_CLOUD_ROLE_ARN,
	// $ALIBABA_CLOUD_OIDC_PROVIDER_ARN, $ALIBABA_CLOUD_OIDC_TOKEN_FILE.
	RoleARN, OIDCProviderARN, TokenFile string
	// RoleName is the machine's role. "" means the one that it has.
	RoleName string

	// Transport is the way to STS, instance metadata and the registry's API. Nil
	// means http.DefaultTransport's settings.
	Transport http.RoundTripper
	// Getenv reads the environment. Nil means os.Getenv.
	Getenv func(string) string
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
	// Jitter returns a number in [0,1) that spreads renewals. Nil means math/rand.
	Jitter func() float64
	// Timeout bounds getting one credential. 0 means keeper.DefaultTimeout.
	Timeout time.Duration
}

// The environment in which the webhook of RRSA tells a Pod who it is.
const (
	envInstance  = "ALIBABA_CLOUD_ACR_INSTANCE_ID"
	envRole      = "ALIBABA_CLOUD_ROLE_ARN"
	envProvider  = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN"
	envTokenFile = "ALIBABA_CLOUD_OIDC_TOKEN_FILE"
	envRegion    = "ALIBABA_CLOUD_STS_REGION"
	envVPC       = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"
)

var (
	instanceID = regexp.MustCompile(`^cri-[a-z0-9]{1,64}$`)
	roleARN    = regexp.MustCompile(`^acs:ram::[0-9]{1,32}:role/[A-Za-z0-9._-]{1,64}$`)
	oidcARN    = regexp.MustCompile(`^acs:ram::[0-9]{1,32}:oidc-provider/[A-Za-z0-9._-]{1,128}$`)
	roleName   = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
)

// Check finds what is wrong with the parameters. It looks at nothing outside them.
func (o Options) Check() (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	form := func(field, value string, re *regexp.Regexp, what string) {
		if value != "" && !re.MatchString(value) {
			fail(field, "%s is no %s", strict.Label(value), what)
		}
	}
	form("defaultInstanceId", o.DefaultInstanceID, instanceID, "instance of the registry, such as cri-kmsiwlxxdcvaduwb")
	form("roleARN", o.RoleARN, roleARN, "role, such as acs:ram::1135115445850000:role/boltseal")
	form("oidcProviderARN", o.OIDCProviderARN, oidcARN, "OIDC provider, such as acs:ram::1135115445850000:oidc-provider/ack-rrsa-c0ffee")
	form("roleName", o.RoleName, roleName, "role's name")
	if len(o.Instances) > maxInstances {
		fail("acrInstancesConfig", "%d instances, at most %d", len(o.Instances), maxInstances)
		return problems
	}
	seen := map[string]bool{}
	for i, in := range o.Instances {
		field := fmt.Sprintf("acrInstancesConfig[%d]", i)
		switch {
		case !instanceName.MatchString(in.InstanceName):
			fail(field+".instanceName", "%s is no instance's name", strict.Label(in.InstanceName))
		case seen[in.InstanceName]:
			fail(field+".instanceName", "%s is listed twice", strict.Label(in.InstanceName))
		}
		seen[in.InstanceName] = true
		if !instanceID.MatchString(in.InstanceID) {
			fail(field+".instanceId", "%s is no instance of the registry, such as cri-kmsiwlxxdcvaduwb", strict.Label(in.InstanceID))
		}
	}
	o.checkAuthentication(fail)
	_, bad := endpoints.Parse(o.Endpoints)
	for _, p := range bad {
		fail(fmt.Sprintf("endpoints[%d]", p.Index), "%s", p.Message)
	}
	for i, e := range o.Endpoints {
		if len(bad) == 0 && !strings.HasSuffix(e, suffix) {
			fail(fmt.Sprintf("endpoints[%d]", i), "%s is not below aliyuncs.com, where the registry's hosts are", strict.Label(e))
		}
	}
	return problems
}

func (o Options) checkAuthentication(fail func(field, format string, a ...any)) {
	ways := []string{RRSA, InstanceRole}
	of := func(way string, fields ...[2]string) {
		for _, f := range fields {
			if f[1] != "" {
				fail(f[0], "it is of use with authentication %s only", way)
			}
		}
	}
	switch o.Authentication {
	case "", RRSA:
		of(InstanceRole, [2]string{"roleName", o.RoleName})
	case InstanceRole:
		of(RRSA, [2]string{"roleARN", o.RoleARN}, [2]string{"oidcProviderARN", o.OIDCProviderARN}, [2]string{"tokenFile", o.TokenFile})
	default:
		fail("authentication", "%s is not one of %s%s", strict.Label(o.Authentication), strings.Join(ways, ", "), nearest.Hint(o.Authentication, ways))
	}
}

// Source gets temporary users of instances. It is safe for concurrent use.
type Source struct {
	o         Options
	env       keys.Env
	hosts     endpoints.List // empty = all
	instances map[string]string
	client    *http.Client
	near      *http.Client // for the machine's metadata, by no proxy
	kept      *keeper.Keeper
}

var _ oci.CredentialSource = (*Source)(nil)

// New makes a source, and asks nobody. Errors wrap boltseal.ErrConfiguration and
// name the parameter.
func New(o Options) (*Source, error) {
	if ps := o.Check(); len(ps) > 0 {
		return nil, fmt.Errorf("%w: %s: %s: %s", boltseal.ErrConfiguration, Name, ps[0].Field, ps[0].Message)
	}
	s := &Source{o: o, instances: map[string]string{}}
	s.env = keys.Env{Transport: o.Transport, Getenv: o.Getenv, Clock: o.Clock, Limits: keys.Limits{AnswerBytes: maxAnswer}}.Complete()
	s.client, s.near = s.env.Client(), s.env.Direct()
	s.hosts, _ = endpoints.Parse(o.Endpoints)
	for _, in := range o.Instances {
		s.instances[in.InstanceName] = in.InstanceID
	}
	s.kept = keeper.New(keeper.Options{Fetch: s.fetch, Clock: s.env.Clock, Jitter: o.Jitter, Timeout: o.Timeout})
	return s, nil
}

// Credential implements [oci.CredentialSource]: a temporary user and password of a
// registry's instance, and when they end. Errors wrap credential.ErrNotForHost for
// registries that are not meant, boltseal.ErrUnavailable where somebody did not
// answer, and another of the root package's sentinels in all other cases. They hold
// no secret.
func (s *Source) Credential(ctx context.Context, host, _ string) (oci.Credential, error) {
	if _, _, err := s.meant(host); err != nil {
		return oci.Credential{}, err
	}
	c, err := s.kept.Get(ctx, host)
	if err != nil {
		return oci.Credential{}, fmt.Errorf("%s: %s: %w", Name, host, err)
	}
	return c, nil
}

// Invalidate forgets a credential that a registry refused. The next one is asked for
// anew. It does nothing where there is another one by now.
func (s *Source) Invalidate(host, _ string, c oci.Credential) { s.kept.Drop(host, c) }

// meant finds the place and the instance of a registry.
func (s *Source) meant(host string) (at place, instance string, err error) {
	at, ok := parseHost(host)
	if !ok || len(s.o.Endpoints) > 0 && !s.hosts.Match(host) {
		return at, "", endpoints.Refuse(Name, host, credential.ErrNotForHost)
	}
	if id := s.instances[at.instance]; id != "" {
		return at, id, nil
	}
	if s.o.DefaultInstanceID != "" {
		return at, s.o.DefaultInstanceID, nil
	}
	if id := s.env.Getenv(envInstance); id != "" {
		if !instanceID.MatchString(id) {
			return at, "", fmt.Errorf("%w: %s: %s: $%s is no instance of the registry, such as cri-kmsiwlxxdcvaduwb", boltseal.ErrConfiguration, Name, host, envInstance)
		}
		return at, id, nil
	}
	if len(s.instances) > 0 {
		return at, "", fmt.Errorf("%w: %s is not given to %s, whose instance is not in acrInstancesConfig", credential.ErrNotForHost, Name, host)
	}
	return at, "", fmt.Errorf("%w: %s: %s: defaultInstanceId is not set, and neither is $%s: name the registry's instance, such as cri-kmsiwlxxdcvaduwb", boltseal.ErrConfiguration, Name, host, envInstance)
}

// fetch gets a role's session, and with it the temporary user. The session is not
// kept: the user ends with it, so that each needs a new one.
func (s *Source) fetch(ctx context.Context, host string) (oci.Credential, error) {
	at, instance, err := s.meant(host)
	if err != nil {
		return oci.Credential{}, err
	}
	var as session
	if s.o.Authentication == InstanceRole {
		as, err = s.machine(ctx)
	} else {
		as, err = s.assume(ctx)
	}
	if err != nil {
		return oci.Credential{}, err
	}
	c, err := s.authorize(ctx, at, instance, as)
	if err == nil && as.expires.Before(c.Expires) {
		c.Expires = as.expires
	}
	return c, err
}

// errShape is the detail of an answer that is not what it should be.
var errShape = errors.New("its answer is not JSON, or not of the right shape")
