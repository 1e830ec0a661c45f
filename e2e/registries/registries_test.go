package registries

import (
	"context"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/oci"
)

// shown is the credential for every registry.
type shown oci.Credential

func (c shown) Credential(context.Context, string, string) (oci.Credential, error) {
	return oci.Credential(c), nil
}

var right = shown{Username: user, Password: password}

// verify asks a new engine that trusts the house's signer.
func verify(t *testing.T, h *testhouse.House, p *place, roots *x509.CertPool, c oci.CredentialSource, image string) boltseal.Result {
	t.Helper()
	store, err := oci.NewRegistry(oci.Options{
		Hosts: map[string]oci.HostOptions{p.host: {RootCAs: roots}}, Credentials: c, Limits: oci.Limits{Attempts: 1}})
	must(t, err)
	t.Cleanup(func() { store.Close() })
	e := h.EngineOf(t, testhouse.Options{Engine: boltseal.Options{Stores: []boltseal.ScopedStore{{Name: "registry", Store: store}}}})
	r, err := e.Verify(t.Context(), image)
	must(t, err)
	return r
}

func TestRegistries(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	for kind, start := range kinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			p := start(t)
			push := p.pusher(t)
			push.image(t, "signed", h.Signer)
			push.image(t, "both", h.Stranger, h.Signer)
			push.image(t, "stranger", h.Stranger)
			push.image(t, "unsigned")
			p.referrersAPI.Store(0)
			for _, c := range []struct {
				what, tag string
				roots     *x509.CertPool
				cred      oci.CredentialSource
				want      boltseal.Decision
				cause     boltseal.Cause
			}{
				{"signed", "signed", p.roots, right, boltseal.Allow, ""},
				{"signed twice", "both", p.roots, right, boltseal.Allow, ""},
				{"by a stranger", "stranger", p.roots, right, boltseal.Deny, boltseal.CauseUntrustedSigner},
				{"unsigned", "unsigned", p.roots, right, boltseal.Deny, boltseal.CauseNothingSigned},
				{"absent", "absent", p.roots, right, boltseal.Deny, boltseal.CauseImageNotFound},
				{"wrong password", "signed", p.roots, shown{Username: user, Password: "wrong"}, boltseal.Unknown, boltseal.CauseUnauthorized},
				{"no credentials", "signed", p.roots, nil, boltseal.Unknown, boltseal.CauseUnauthorized},
				{"another CA", "signed", x509.NewCertPool(), right, boltseal.Unknown, boltseal.CauseUnavailable},
			} {
				r := verify(t, h, p, c.roots, c.cred, p.host+"/"+repository+":"+c.tag)
				if r.Decision != c.want || r.Reason.Cause != c.cause && c.want != boltseal.Allow {
					t.Errorf("%s: %v because of %+v, want %v because of %q", c.what, r.Decision, r.Reason, c.want, c.cause)
				}
				if strings.Contains(r.Reason.Message+r.Reason.Remedy, password) {
					t.Errorf("%s: the password stands in %+v", c.what, r.Reason)
				}
			}
			if api, has := p.referrersAPI.Load() > 0, !strings.HasPrefix(kind, "distribution"); api != has {
				t.Errorf("the referrers API answered: %v, want %v", api, has)
			}
			if p.tokens != nil && p.tokens.asked.Load() == 0 {
				t.Error("nobody asked for a token")
			}
		})
	}
}

// A registry that sends to a token server of another name gets no credentials
// for it, and is not asked.
func TestWrongRealm(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	ts := startTokenServer(t)
	p := serve(t, distribution(t, ts.auth("localhost")), ts)
	image := p.host + "/" + repository + ":any"
	r := verify(t, h, p, p.roots, right, image)
	if r.Decision != boltseal.Unknown || r.Reason.Cause != boltseal.CauseRefused || !strings.Contains(r.Reason.Remedy, "authRealms") {
		t.Errorf("%v because of %+v", r.Decision, r.Reason)
	}
	if n := ts.asked.Load(); n != 0 {
		t.Errorf("the token server was asked %d times", n)
	}
}

// A repository's token is asked for once, not at each verification.
func TestDistributionToken(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	ts := startTokenServer(t)
	p := serve(t, distribution(t, ts.auth("")), ts)
	push := p.pusher(t)
	store, err := oci.NewRegistry(oci.Options{Hosts: map[string]oci.HostOptions{p.host: {RootCAs: p.roots}}, Credentials: right})
	must(t, err)
	t.Cleanup(func() { store.Close() })
	e := h.EngineOf(t, testhouse.Options{Engine: boltseal.Options{Stores: []boltseal.ScopedStore{{Name: "registry", Store: store}}}})
	verify := func(tag string, want boltseal.Decision) {
		t.Helper()
		r, err := e.Verify(t.Context(), p.host+"/"+repository+":"+tag)
		must(t, err)
		if r.Decision != want {
			t.Errorf("%s: %v because of %+v, want %v", tag, r.Decision, r.Reason, want)
		}
	}
	push.image(t, "first")
	push.image(t, "second", h.Signer)
	verify("first", boltseal.Deny)
	verify("second", boltseal.Allow)
	verify("second", boltseal.Allow)
	if n := ts.asked.Load(); n != 1 {
		t.Errorf("asked for a token %d times, want once", n)
	}
}

// A registry whose listing gives a signature another type than the signature's
// manifest does, that of its config, which says nothing: the manifest counts.
func TestMislabelledReferrer(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	p := kinds()["go-containerregistry"](t)
	push := p.pusher(t)
	push.configTypes = false
	push.image(t, "signed", h.Signer)
	r := verify(t, h, p, p.roots, right, p.host+"/"+repository+":signed")
	if r.Decision != boltseal.Allow {
		t.Errorf("%v because of %+v", r.Decision, r.Reason)
	}
	push.image(t, "foreign", h.Stranger)
	r = verify(t, h, p, p.roots, right, p.host+"/"+repository+":foreign")
	if r.Decision != boltseal.Deny || r.Reason.Cause != boltseal.CauseUntrustedSigner {
		t.Errorf("%v because of %+v", r.Decision, r.Reason)
	}
}
