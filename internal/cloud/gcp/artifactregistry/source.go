// Package artifactregistry gets credentials of Google's Artifact Registry for whoever Boltseal is in Google Cloud.
package artifactregistry

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cloud/gcp"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/endpoints"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// Name is the provider's in a Store's authProvider.
const Name = "gcpArtifactRegistry"

// user is the name that goes with a token (Artifact Registry, "Configure
// authentication to Artifact Registry for Docker": access token).
const user = "oauth2accesstoken"

// Options make a Source.
type Options struct {
	// Endpoints narrow the registries that the identity is for, such as
	// europe-west1-docker.pkg.dev or gcr.io. Empty means all that Artifact Registry
	// has.
	Endpoints []string
	// Transport is the way to Google. Nil means http.DefaultTransport's settings.
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

// The registry's hosts: LOCATION-docker.pkg.dev for a region or several (Artifact
// Registry, "Repository and image names"), and those of gcr.io, which it serves too.
// The names of regions are letters, a hyphen, letters and a number, such as
// northamerica-northeast1. Everything else below pkg.dev is another service.
var (
	regional = regexp.MustCompile(`^[a-z]+(-[a-z]+[0-9]+)?-docker\.pkg\.dev$`)
	older    = regexp.MustCompile(`^((us|eu|asia)\.)?gcr\.io$`)
)

// isRegistry reports whether a host is Artifact Registry's.
func isRegistry(host string) bool {
	return endpoints.Host(host) && (regional.MatchString(host) || older.MatchString(host))
}

// Check finds what is wrong with the parameters. It looks at nothing outside them.
func (o Options) Check() (problems []keys.Problem) {
	_, bad := endpoints.Parse(o.Endpoints, "gcr.io")
	for _, p := range bad {
		problems = append(problems, keys.Problem{Field: fmt.Sprintf("endpoints[%d]", p.Index), Message: p.Message})
	}
	for i, e := range o.Endpoints {
		if len(bad) == 0 && !isRegistry(e) {
			problems = append(problems, keys.Problem{Field: fmt.Sprintf("endpoints[%d]", i),
				Message: fmt.Sprintf("%s is no host of Artifact Registry, such as europe-west1-docker.pkg.dev or gcr.io", strict.Label(e))})
		}
	}
	return problems
}

// Source gets tokens of the identity. It is safe for concurrent use.
type Source struct {
	o     Options
	hosts endpoints.List // empty = all
	who   *gcp.Identity
}

var (
	_ oci.CredentialSource = (*Source)(nil)
	_ oci.Invalidator      = (*Source)(nil)
)

// New makes a source, and asks nobody. Errors wrap boltseal.ErrConfiguration and
// name the parameter.
func New(o Options) (*Source, error) {
	if ps := o.Check(); len(ps) > 0 {
		return nil, fmt.Errorf("%w: %s: %s: %s", boltseal.ErrConfiguration, Name, ps[0].Field, ps[0].Message)
	}
	s := &Source{o: o, who: gcp.New(gcp.Options{KeepFailures: true, Jitter: o.Jitter, Timeout: o.Timeout}, keys.Env{Transport: o.Transport, Getenv: o.Getenv, Clock: o.Clock})}
	s.hosts, _ = endpoints.Parse(o.Endpoints, "gcr.io")
	return s, nil
}

// Credential implements [oci.CredentialSource]: a token of the identity, and when it
// ends. Errors wrap credential.ErrNotForHost for registries that are not meant,
// boltseal.ErrUnavailable where somebody did not answer, and another of the root
// package's sentinels in all other cases. They hold no secret.
func (s *Source) Credential(ctx context.Context, host, _ string) (oci.Credential, error) {
	if !isRegistry(host) || len(s.o.Endpoints) > 0 && !s.hosts.Match(host) {
		return oci.Credential{}, endpoints.Refuse(Name, host, credential.ErrNotForHost)
	}
	t, err := s.who.Token(ctx)
	if err != nil {
		return oci.Credential{}, fmt.Errorf("%s: %s: %w", Name, host, err)
	}
	return oci.Credential{Username: user, Password: t.Value, Expires: t.Ends}, nil
}

// Invalidate forgets a credential that a registry refused. The next one is asked for
// anew. It does nothing where there is another one by now.
func (s *Source) Invalidate(_, _ string, c oci.Credential) { s.who.Drop(gcp.Token{Value: c.Password}) }
