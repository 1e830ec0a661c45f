// Package keys fetches certificates and keys from where users keep them, again and again, and keeps the last good ones in use.
package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal/trust"
)

// Limits bound what a provider may fetch. Zero fields mean the defaults.
type Limits struct {
	// Attempt bounds the time of one attempt. Default DefaultAttempt.
	Attempt time.Duration
	// Concurrent is how many providers fetch at a time. Default DefaultConcurrent.
	Concurrent int
	// AnswerBytes bounds one answer. Default DefaultAnswerBytes.
	AnswerBytes int64
}

// Defaults of Limits, and limits that nobody needs to change.
const (
	DefaultAttempt     = 20 * time.Second
	DefaultConcurrent  = 64
	DefaultAnswerBytes = 1 << 20

	// MaxEntries is how many certificates, keys or files one provider may name.
	MaxEntries = 100
	// MaxVersions is how many versions of one certificate may be asked for.
	MaxVersions = 50
	// MaxListed is how many versions of one certificate are looked at.
	MaxListed = 1000
)

// Complete fills in the defaults.
func (l Limits) Complete() Limits {
	if l.Attempt <= 0 {
		l.Attempt = DefaultAttempt
	}
	if l.Concurrent <= 0 {
		l.Concurrent = DefaultConcurrent
	}
	if l.AnswerBytes <= 0 {
		l.AnswerBytes = DefaultAnswerBytes
	}
	return l
}

// Use says whether an item is in use.
type Use string

// What becomes of an item. The zero value is not in use.
const (
	InUse    Use = "InUse"
	Disabled Use = "Disabled" // whoever keeps it has switched it off
	Missing  Use = "Missing"  // whoever keeps it says that it is not there
	Unusable Use = "Unusable" // it is there, and of no use here
)

// Item is one version of a certificate with its chain, or of a key.
type Item struct {
	Name, Version string // as whoever keeps it calls them; Version may be ""
	Use           Use
	// Why says why the item is not in use, or what deserves a look.
	Why string
	// Certificates are the chain, the signer's first; nil for a key.
	Certificates []*x509.Certificate
	Key          crypto.PublicKey // nil for a certificate
	// Created and Expires are what whoever keeps it says; zero = nothing.
	Created, Expires time.Time
}

func (it Item) equal(o Item) bool {
	if it.Name != o.Name || it.Version != o.Version || it.Use != o.Use || it.Why != o.Why || !it.Created.Equal(o.Created) || !it.Expires.Equal(o.Expires) {
		return false
	}
	if !slices.EqualFunc(it.Certificates, o.Certificates, func(a, b *x509.Certificate) bool { return bytes.Equal(a.Raw, b.Raw) }) {
		return false
	}
	switch k := it.Key.(type) {
	case nil:
		return o.Key == nil
	case interface{ Equal(crypto.PublicKey) bool }:
		return k.Equal(o.Key)
	}
	return false
}

// Group is what a provider has under one name that its parameters give.
type Group struct {
	Name  string
	Items []Item
	// Problem says what is wrong although whoever was asked has answered, "" where
	// nothing is.
	Problem string
	// Err, where set, says why there was no answer; Items are then empty.
	Err error
}

func (g Group) equal(o Group) bool {
	return g.Name == o.Name && g.Problem == o.Problem && slices.EqualFunc(g.Items, o.Items, Item.equal)
}

// Content is what a provider has. It is immutable.
type Content struct {
	Groups []Group
	certs  []*x509.Certificate
}

// NewContent takes groups together.
func NewContent(groups []Group) *Content {
	c := &Content{Groups: groups}
	for _, g := range groups {
		for _, it := range g.Items {
			if it.Use != InUse {
				continue
			}
			for _, cert := range it.Certificates {
				if trust.Admit(trust.TypeCA, cert) == nil && !slices.ContainsFunc(c.certs, cert.Equal) {
					c.certs = append(c.certs, cert)
				}
			}
		}
	}
	return c
}

// Certificates are those in use that may be roots of trust: CAs' and self-signed
// ones. The slice must not be changed.
func (c *Content) Certificates() []*x509.Certificate {
	if c == nil {
		return nil
	}
	return c.certs
}

// Problems says what is wrong although whoever was asked has answered.
func (c *Content) Problems() []string {
	if c == nil {
		return nil
	}
	var out []string
	for _, g := range c.Groups {
		if g.Problem != "" {
			out = append(out, g.Problem)
		}
	}
	return out
}

// Notes say what deserves a look and is no problem.
func (c *Content) Notes() []string {
	if c == nil {
		return nil
	}
	var out []string
	for _, g := range c.Groups {
		for _, it := range g.Items {
			if it.Why != "" && g.Problem == "" {
				out = append(out, it.label()+": "+it.Why)
			}
		}
	}
	return out
}

func (it Item) label() string {
	if it.Version == "" {
		return it.Name
	}
	return it.Name + ", version " + it.Version
}

func (c *Content) equal(o *Content) bool {
	if c == nil || o == nil {
		return c == o
	}
	return slices.EqualFunc(c.Groups, o.Groups, Group.equal)
}

// merge puts what was known of groups in place of those that had no answer. It
// returns the first such group's error.
func merge(old *Content, groups []Group) (*Content, error) {
	var failed error
	lost := 0
	merged := make([]Group, len(groups))
	for i, g := range groups {
		merged[i] = g
		if g.Err == nil {
			continue
		}
		if failed == nil {
			failed = g.Err
		}
		lost++
		merged[i] = Group{Name: g.Name}
		if old == nil {
			merged[i].Problem = g.Name + ": it has not been fetched yet"
			continue
		}
		for _, was := range old.Groups {
			if was.Name == g.Name {
				merged[i] = was
			}
		}
	}
	if lost == len(groups) && old == nil {
		return nil, failed
	}
	return NewContent(merged), failed
}

// Provider fetches.
type Provider interface {
	// Fetch returns a group for each name that the parameters give, in their order.
	// An error, or a group's, means that there was no answer: what was known stays in
	// use. An answer that something is not there, or is switched off, is an Item.
	Fetch(ctx context.Context) ([]Group, error)
}

// Watcher is a Provider that is told of changes.
type Watcher interface {
	// Watch calls changed, one call at a time, when there may be something new,
	// until ctx ends.
	Watch(ctx context.Context, changed func())
}

// Parameters are those of one type of provider.
type Parameters interface {
	// Check finds what is wrong. namespace is that of the resource, "" = cluster-wide.
	Check(namespace string) []Problem
	// Open makes the provider. It asks nobody yet.
	Open(env Env, namespace string) (Provider, error)
}

// Problem is one thing that is wrong with Parameters.
type Problem struct {
	Field   string // path below the parameters, "" = all of them
	Message string
}

// Objects reads Secrets, ConfigMaps and ServiceAccounts of a cluster, by their name
// only.
type Objects interface {
	// Get returns an object's data. Errors wrap sentinels of the root package.
	Get(ctx context.Context, kind, namespace, name string) (map[string][]byte, error)
	// PullSecrets returns the names of a ServiceAccount's imagePullSecrets.
	PullSecrets(ctx context.Context, namespace, serviceAccount string) ([]string, error)
	// Watch calls changed when the object may be another, until ctx ends.
	Watch(ctx context.Context, kind, namespace, name string, changed func())
}

// Kinds that Objects reads.
const (
	KindSecret    = "Secret"
	KindConfigMap = "ConfigMap"
)

// Env is what providers reach out with. The zero value is ready.
type Env struct {
	// Transport is the way to vaults and clouds. Nil means http.DefaultTransport's
	// settings.
	Transport http.RoundTripper
	// Getenv reads the environment, where clouds tell a Pod who it is. Nil means
	// os.Getenv.
	Getenv func(string) string
	// Objects reads from the cluster. Nil means that there is none.
	Objects Objects
	// Namespace is Boltseal's own. Empty means that it is not known.
	Namespace string
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
	// Limits bound what is fetched.
	Limits Limits
}

// Complete fills in the defaults.
func (e Env) Complete() Env {
	if e.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost, t.IdleConnTimeout = 4, 30*time.Second
		e.Transport = t
	}
	if e.Getenv == nil {
		e.Getenv = os.Getenv
	}
	if e.Clock == nil {
		e.Clock = time.Now
	}
	e.Limits = e.Limits.Complete()
	return e
}

// Want says what is to be fetched for one resource.
type Want struct {
	// ID is the same for the same resource with the same parameters, and for no
	// other.
	ID string
	// Resource names it, such as "KeyManagementProvider team/vault".
	Resource string
	// Namespace is the resource's, "" = cluster-wide.
	Namespace string
	// Parameters say where to fetch.
	Parameters Parameters
	// Interval is how often. 0 means until it succeeds once, and when a Watcher
	// tells of a change.
	Interval time.Duration
}

// State is how a provider stands. It is immutable.
type State struct {
	// Content is what the provider has; nil = nothing was ever fetched.
	Content *Content
	// Fetched is when all of Content was last confirmed.
	Fetched time.Time
	// Tried reports whether an attempt has ended.
	Tried bool
	// Err is why the last attempt failed, nil where it did not.
	Err error
	// Failures counts the attempts that failed in a row.
	Failures int
	// Next is when the next attempt is due; zero = not known.
	Next time.Time
}

// Trouble says why certificates are missing or may be old, "" where neither is so.
// It is the same for the same trouble, however often it is met.
func (s State) Trouble() string {
	switch {
	case !s.Tried:
		return "nothing has been fetched yet: the first answer is awaited"
	case s.Content == nil && s.Err != nil:
		return fmt.Sprintf("nothing has been fetched yet: %v", s.Err)
	case s.Err != nil:
		return fmt.Sprintf("it could not be fetched anew: %v; what was fetched before is still used", s.Err)
	}
	return ""
}

// Texts joins texts as one line.
func Texts(texts []string) string { return strings.Join(texts, "; ") }
