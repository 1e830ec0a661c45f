// Package oci reads images and their referrers: from registries, and from OCI layouts on disk.
package oci

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

// Limits bound what a registry can make us do. Zero fields mean the defaults.
type Limits struct {
	ManifestBytes  int64         // one manifest; default 4 MiB (distribution-spec's recommendation)
	BlobBytes      int64         // one blob, that is, one signature envelope; default 1 MiB
	IndexBytes     int64         // one page of referrers, or an index; default 4 MiB
	TokenBytes     int64         // one answer of a token server; default 256 KiB
	HeaderBytes    int64         // one answer's headers; default 64 KiB
	ListBytes      int64         // all pages of one referrers listing; default 16 MiB
	Referrers      int           // descriptors that are kept of one referrers listing; default 2000
	Redirects      int           // redirects of one request; default 3
	Attempts       int           // tries of one request, the first included; default 3
	Throttled      int           // the same where the registry answers 429, for then it will answer; default 8, at least Attempts
	RequestTimeout time.Duration // one try, its body included; default 10 s
	RetryAfter     time.Duration // the longest wait that a registry may ask for; default 30 s
	HostRequests   int           // requests under way at one registry; default 64
	Hosts          int           // registries whose state is kept; default 512
	Tokens         int64         // bytes of bearer tokens that are kept; default 8 MiB
}

func defaultTo[T int | int64 | time.Duration](v *T, def T) {
	if *v <= 0 {
		*v = def
	}
}

func (l Limits) withDefaults() Limits {
	defaultTo(&l.ManifestBytes, 4<<20)
	defaultTo(&l.BlobBytes, 1<<20)
	defaultTo(&l.IndexBytes, 4<<20)
	defaultTo(&l.TokenBytes, 256<<10)
	defaultTo(&l.HeaderBytes, 64<<10)
	defaultTo(&l.ListBytes, 16<<20)
	defaultTo(&l.Referrers, 2000)
	defaultTo(&l.Redirects, 3)
	defaultTo(&l.Attempts, 3)
	defaultTo(&l.Throttled, 8)
	l.Throttled = max(l.Throttled, l.Attempts)
	defaultTo(&l.RequestTimeout, 10*time.Second)
	defaultTo(&l.RetryAfter, 30*time.Second)
	defaultTo(&l.HostRequests, 64)
	defaultTo(&l.Hosts, 512)
	defaultTo(&l.Tokens, 8<<20)
	return l
}

// Credential is what a registry or its token server is shown. The zero value is
// anonymous.
type Credential struct {
	Username, Password string // basic authentication, or exchanged for a token
	RefreshToken       string // an identity token: exchanged for a token by OAuth 2
	AccessToken        string // a bearer token that is shown as it is
	// Expires is when the credential ends. A token that was had with it is not
	// kept beyond that. Zero means that its source does not say.
	Expires time.Time
}

// CredentialSource knows the credentials of registries.
type CredentialSource interface {
	// Credential returns what to show to a registry for a repository; the zero
	// Credential means that there is none. An error ends the request: nothing
	// is tried anonymously in its place.
	Credential(ctx context.Context, host, repository string) (Credential, error)
}

// Invalidator is a CredentialSource that keeps what it gives.
type Invalidator interface {
	// Invalidate says that a registry, or its token server, refused a credential of
	// the source: the next one is to be a fresh one. It does nothing where the source
	// has another one by now.
	Invalidate(host, repository string, c Credential)
}

// HostOptions are the settings of one registry.
type HostOptions struct {
	// PlainHTTP speaks http instead of https.
	PlainHTTP bool
	// RootCAs verify the registry's certificate. Nil means those of Options.
	RootCAs *x509.CertPool
	// Certificates are shown to a registry that asks for one. Nil means none.
	Certificates []tls.Certificate
	// AuthRealms are further hosts of token servers that may be shown the
	// registry's credentials. The registry's own host always may, auth.docker.io
	// for Docker Hub, and for Alibaba Cloud's registries the token server of their
	// region.
	AuthRealms []string
	// Proxy chooses the proxy for a request to the registry, or to where it sends
	// us, nil for none. Nil means that of Options.
	Proxy func(*http.Request) (*url.URL, error)
}

// Options make a Registry. The zero value reads public registries anonymously.
type Options struct {
	// Hosts are the settings of single registries, by host[:port] as it stands
	// in an image's name. A host that is not named gets PlainHTTP and RootCAs.
	Hosts map[string]HostOptions
	// PlainHTTP speaks http to every host that Hosts does not name. Loopback
	// hosts that Hosts does not name are spoken to by http in any case.
	PlainHTTP bool
	// RootCAs verify certificates. Nil means those of the system.
	RootCAs *x509.CertPool
	// Credentials are looked up for each registry. Nil means anonymous.
	Credentials CredentialSource
	// GuardHosts judges the addresses of the registries in Hosts as those of others: who
	// wrote them is no administrator. Otherwise they may be anywhere.
	GuardHosts bool
	// Limits bound everything that comes from outside.
	Limits Limits
	// Room bounds the bytes of answers that are held at a time. Nil means one of its
	// own, of the default size.
	Room *Room
	// Proxy chooses the proxy for a request, nil for none. Nil means
	// http.ProxyFromEnvironment.
	Proxy func(*http.Request) (*url.URL, error)
	// UserAgent is sent with each request. Empty means "boltseal".
	UserAgent string
	// Clock tells the time for tokens and what is remembered of registries. Nil
	// means time.Now.
	Clock func() time.Time
	// Jitter returns a number in [0,1) that spreads retries. Nil means math/rand.
	Jitter func() float64
}

func (o Options) withDefaults() Options {
	o.Limits = o.Limits.withDefaults()
	if o.UserAgent == "" {
		o.UserAgent = "boltseal"
	}
	if o.Room == nil {
		o.Room = NewRoom(0)
	}
	if o.Proxy == nil {
		o.Proxy = http.ProxyFromEnvironment
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Jitter == nil {
		o.Jitter = rand.Float64
	}
	return o
}

func newTransport(l Limits, cfg *tls.Config) *http.Transport {
	return &http.Transport{
		TLSClientConfig:        cfg,
		TLSHandshakeTimeout:    l.RequestTimeout,
		ResponseHeaderTimeout:  l.RequestTimeout,
		MaxResponseHeaderBytes: l.HeaderBytes,
		MaxIdleConns:           4 * l.HostRequests,
		MaxIdleConnsPerHost:    l.HostRequests,
		IdleConnTimeout:        90 * time.Second,
		ForceAttemptHTTP2:      true,
		DisableCompression:     true, // digests are of the bytes as sent
	}
}

func (o Options) tlsConfig(h HostOptions) *tls.Config {
	roots := h.RootCAs
	if roots == nil {
		roots = o.RootCAs
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: h.Certificates}
}

func (o Options) validate() error {
	for host := range o.Hosts {
		if host == "" {
			return fmt.Errorf("settings for a registry without a host")
		}
	}
	return nil
}
