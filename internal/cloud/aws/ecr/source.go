// Package ecr gets credentials of Amazon ECR for the role that Boltseal has.
package ecr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/endpoints"
	"github.com/boltseal/boltseal/internal/credential/keeper"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// Name is the provider's in a Store's authProvider.
const Name = "awsEcrBasic"

// maxAccounts bounds accounts.
const maxAccounts = 256

// Options make a Source. The zero value is Ratify's awsEcrBasic.
type Options struct {
	// Endpoints narrow the registries that the role is for, such as
	// 111122223333.dkr.ecr.eu-central-1.amazonaws.com, or
	// *.dkr.ecr.eu-central-1.amazonaws.com for all accounts of a region. Empty means
	// all of Amazon ECR's private registries.
	Endpoints []string
	// Accounts narrow the registries to those of some accounts, each of twelve
	// digits. Empty means all.
	Accounts []string
	// Identity is who signs in. A registry's content is not public: no access key of the
	// environment is used.
	Identity aws.Options

	// Transport is the way to STS and Amazon ECR, and to Pod Identity's agent, which
	// is never asked by way of a proxy. Nil means http.DefaultTransport's settings.
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

// Check finds what is wrong with the parameters. It looks at nothing outside them.
func (o Options) Check() (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	problems = o.Identity.Check()
	if len(o.Accounts) > maxAccounts {
		fail("accounts", "%d accounts, at most %d", len(o.Accounts), maxAccounts)
		return problems
	}
	for i, a := range o.Accounts {
		if !account.MatchString(a) {
			fail(fmt.Sprintf("accounts[%d]", i), "%s is no account, such as \"111122223333\": twelve digits, in quotes", strict.Label(a))
		}
	}
	_, bad := endpoints.Parse(o.Endpoints, suffixes...)
	for _, p := range bad {
		fail(fmt.Sprintf("endpoints[%d]", p.Index), "%s", p.Message)
	}
	for i, e := range o.Endpoints {
		one := e
		if domain, wild := strings.CutPrefix(e, "*."); wild {
			one = "111122223333." + domain
		}
		if _, ok := parseHost(one); !ok && len(bad) == 0 {
			fail(fmt.Sprintf("endpoints[%d]", i), "%s is no registry of Amazon ECR, such as 111122223333.dkr.ecr.eu-central-1.amazonaws.com", strict.Label(e))
		}
	}
	return problems
}

// Source gets users and passwords of registries. It is safe for concurrent use.
type Source struct {
	o        Options
	env      keys.Env
	hosts    endpoints.List  // empty = all
	accounts map[string]bool // empty = all
	client   *http.Client
	who      *aws.Identity
	kept     *keeper.Keeper
}

var _ oci.CredentialSource = (*Source)(nil)

// New makes a source, and asks nobody. Errors wrap boltseal.ErrConfiguration and
// name the parameter.
func New(o Options) (*Source, error) {
	if ps := o.Check(); len(ps) > 0 {
		return nil, fmt.Errorf("%w: %s: %s: %s", boltseal.ErrConfiguration, Name, ps[0].Field, ps[0].Message)
	}
	s := &Source{o: o, accounts: map[string]bool{}}
	s.env = keys.Env{Transport: o.Transport, Getenv: o.Getenv, Clock: o.Clock, Limits: keys.Limits{AnswerBytes: aws.MaxAnswer}}.Complete()
	s.client = s.env.Client()
	s.who = aws.New(o.Identity, s.env)
	s.hosts, _ = endpoints.Parse(o.Endpoints, suffixes...)
	for _, a := range o.Accounts {
		s.accounts[a] = true
	}
	s.kept = keeper.New(keeper.Options{Fetch: s.fetch, Clock: s.env.Clock, Jitter: o.Jitter, Timeout: o.Timeout})
	return s, nil
}

// Credential implements [oci.CredentialSource]: the user AWS with a password for a
// registry, and when that ends. Errors wrap credential.ErrNotForHost for registries
// that are not meant, boltseal.ErrUnavailable where somebody did not answer, and
// another of the root package's sentinels in all other cases. They hold no secret.
func (s *Source) Credential(ctx context.Context, host, _ string) (oci.Credential, error) {
	if _, err := s.meant(host); err != nil {
		return oci.Credential{}, err
	}
	// The host is account and region, and how they are to be asked.
	c, err := s.kept.Get(ctx, host)
	if err != nil {
		return oci.Credential{}, fmt.Errorf("%s: %s: %w", Name, host, err)
	}
	return c, nil
}

// Invalidate forgets a credential that a registry refused. The next one is asked for
// anew. It does nothing where there is another one by now.
func (s *Source) Invalidate(host, _ string, c oci.Credential) { s.kept.Drop(host, c) }

// meant takes apart a registry that the role is for.
func (s *Source) meant(host string) (place, error) {
	at, ok := parseHost(host)
	if !ok || len(s.o.Endpoints) > 0 && !s.hosts.Match(host) {
		return at, endpoints.Refuse(Name, host, credential.ErrNotForHost)
	}
	if len(s.accounts) > 0 && !s.accounts[at.account] {
		return at, fmt.Errorf("%w: %s is not given to %s, whose account is not in accounts", credential.ErrNotForHost, Name, host)
	}
	// A role is of one partition: its Pod's token is not shown to another's STS,
	// whatever an image is called.
	if own := s.who.Partition(); own != "" && own != at.partition() {
		return at, fmt.Errorf("%w: %s is not given to %s, which is in another partition of AWS (%s) than the role (%s)", credential.ErrNotForHost, Name, host, at.partition(), own)
	}
	return at, nil
}

// fetch signs in, and asks Amazon ECR of the registry's region.
func (s *Source) fetch(ctx context.Context, host string) (oci.Credential, error) {
	at, err := s.meant(host)
	if err != nil {
		return oci.Credential{}, err
	}
	who, err := s.who.Session(ctx, at.region)
	if err != nil {
		return oci.Credential{}, err
	}
	c, err := s.authorize(ctx, at, who)
	if errors.Is(err, boltseal.ErrUnauthorized) {
		s.who.Drop(at.region)
	}
	return c, err
}
