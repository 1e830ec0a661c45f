// Package hubtoken renews the credential by which an agent reaches its hub, before it ends.
package hubtoken

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
)

const (
	// look is how often is looked whether somebody put another credential there, and
	// how soon after a failure the next attempt is made.
	look = time.Minute
	// requestTimeout bounds one question to the hub, and one write.
	requestTimeout = 30 * time.Second
)

// Options make a Source.
type Options struct {
	// Hub is the way to the hub, with the token in it. Required.
	Hub *rest.Config
	// Read returns the token that is stored now. Required.
	Read func() (string, error)
	// Save stores a new token where Read finds it. Nil means that there is nowhere to
	// store it: it is renewed as long as this process lives.
	Save func(ctx context.Context, token string) error
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time, After waits. Nil means those of package time.
	Clock func() time.Time
	After func(time.Duration) <-chan time.Time
}

// Source has the token that is good now.
type Source struct {
	o        Options
	accounts typedcorev1.ServiceAccountsGetter
	ends     prometheus.Gauge

	mu     sync.Mutex
	token  string
	stored string // what Read returns, as far as is known
}

// New makes a Source, and returns the way to the hub that uses it. It returns nil and
// o.Hub where the credential is no ServiceAccount's token with an end: what cannot be
// renewed here is somebody else's to renew.
func New(o Options) (*Source, *rest.Config, error) {
	if o.Hub == nil || o.Read == nil {
		return nil, nil, errors.New("hubtoken: Options.Hub and Options.Read are required")
	}
	c, ok := parseClaims(o.Hub.BearerToken)
	if !ok {
		return nil, o.Hub, nil
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.After == nil {
		o.After = time.After
	}
	s := &Source{o: o, token: o.Hub.BearerToken, stored: o.Hub.BearerToken,
		ends: prometheus.NewGauge(prometheus.GaugeOpts{Name: "boltseal_agent_hub_credential_expiry_timestamp_seconds",
			Help: "When the credential ends by which the agent reaches its hub. It is renewed after half of its life."})}
	s.ends.Set(float64(c.ends.Unix()))
	config := rest.CopyConfig(o.Hub)
	config.BearerToken = ""
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &transport{s, next} })
	core, err := typedcorev1.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("the way to the hub: %w", err)
	}
	s.accounts = core
	return s, config, nil
}

// Metrics are what Prometheus reads.
func (s *Source) Metrics() []prometheus.Collector { return []prometheus.Collector{s.ends} }

// transport shows the token that is good now.
type transport struct {
	source *Source
	next   http.RoundTripper
}

// RoundTrip sends a request with the token.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+t.source.current())
	return t.next.RoundTrip(r)
}

func (s *Source) current() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.token
}

// take uses a token from now on. It reports false for what is none.
func (s *Source) take(token string) bool {
	next, ok := parseClaims(token)
	if !ok {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.token = token
	s.ends.Set(float64(next.ends.Unix()))
	return true
}

// Run renews the token until ctx ends. It is for one replica at a time; the others
// read what it stores.
func (s *Source) Run(ctx context.Context) error {
	told := ""
	complain := func(what string, err error) {
		switch {
		case err == nil:
			told = ""
		case err.Error() != told && ctx.Err() == nil:
			told = err.Error()
			c, _ := parseClaims(s.current())
			s.o.Log.Warn(what, "error", told, "ends", c.ends.UTC().Format(time.RFC3339))
		}
	}
	for ctx.Err() == nil {
		s.reread()
		if c, ok := parseClaims(s.current()); ok && !s.o.Clock().Before(c.renewal()) {
			complain("the credential for the hub could not be renewed, and is tried again; 'boltseal cluster kubeconfig' at the hub makes another", s.renew(ctx, c))
		}
		if s.o.Save != nil && s.current() != s.known() {
			complain("the renewed credential for the hub could not be stored, and is tried again; a restart falls back to the one before", s.store(ctx))
		}
		select {
		case <-ctx.Done():
		case <-s.o.After(look):
		}
	}
	return nil
}

// reread takes in a token that somebody else has stored: a person, or the replica
// that renewed it before.
func (s *Source) reread() {
	token, err := s.o.Read()
	if err != nil {
		return // what is at hand is as good as it was
	}
	s.mu.Lock()
	other := token != s.stored && token != s.token
	s.stored = token
	s.mu.Unlock()
	if other && s.take(token) {
		s.o.Log.Info("another credential for the hub was put there, and is used")
	}
}

func (s *Source) known() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored
}

// renew asks the hub for a token like the one at hand.
func (s *Source) renew(ctx context.Context, c claims) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	seconds := int64(c.lifetime() / time.Second)
	out, err := s.accounts.ServiceAccounts(c.namespace).CreateToken(ctx, c.account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return errors.New("the hub gives it no right to renew itself: run 'boltseal cluster kubeconfig' once more")
	case err != nil:
		return err
	}
	if !s.take(out.Status.Token) {
		return errors.New("what the hub gave is no credential that can be used here")
	}
	s.o.Log.Info("the credential for the hub was renewed", "ends", out.Status.ExpirationTimestamp.UTC().Format(time.RFC3339))
	return nil
}

func (s *Source) store(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	token := s.current()
	if err := s.o.Save(ctx, token); err != nil {
		return err
	}
	s.mu.Lock()
	s.stored = token
	s.mu.Unlock()
	return nil
}
