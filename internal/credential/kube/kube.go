// Package kube finds registry credentials in pull Secrets of a Kubernetes cluster, named or those of a ServiceAccount.
package kube

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// Name is the auth provider's, as Ratify calls it.
const Name = "k8Secrets"

// Limits that nobody needs to change.
const (
	// MaxSecrets is how many Secrets one source reads.
	MaxSecrets = 32
	// KeepFor is how long what was read is used without asking again, and so how
	// long an edit takes at most. A credential that a registry refuses is read anew.
	KeepFor = 30 * time.Second

	keepFailureFor = 3 * time.Second
	timeout        = 8 * time.Second // of one reading; below oci's limit for a request
	// defaultAccount is the ServiceAccount of Pods that name none.
	defaultAccount = "default"
)

// Secret names one Secret.
type Secret struct {
	// Name is that of the Secret.
	Name string `json:"secretName"`
	// Namespace is where it is. Empty means that of the Store, else Boltseal's own.
	Namespace string `json:"namespace"`
}

// Options make a Source.
type Options struct {
	// Secrets are read in their order.
	Secrets []Secret
	// ServiceAccount is whose imagePullSecrets are read after them. Empty means none
	// where Secrets are named, else "default".
	ServiceAccount string
	// Namespace is the Store's; empty means a Store of the cluster.
	Namespace string
	// Own is Boltseal's own namespace, where the ServiceAccount of a Store of the
	// cluster is. Empty means that it is not known.
	Own string
	// Objects reads from the cluster. Nil means that there is none: whoever asks for
	// a credential then learns that.
	Objects keys.Objects
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Check finds what is wrong, each with its field.
func (o Options) Check() (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	if len(o.Secrets) > MaxSecrets {
		fail("secrets", "%d of them, at most %d", len(o.Secrets), MaxSecrets)
	}
	for i, s := range o.Secrets {
		field := fmt.Sprintf("secrets[%d].", i)
		switch {
		case s.Name == "":
			fail(field+"secretName", "it is missing")
		case len(validation.IsDNS1123Subdomain(s.Name)) > 0:
			fail(field+"secretName", "%s is no name to Kubernetes: lower-case letters, digits, - and . only", strict.Label(s.Name))
		case slices.Contains(o.Secrets[:i], s):
			fail(field+"secretName", "%s is listed twice", s.Name)
		}
		switch {
		case s.Namespace == "":
		case o.Namespace != "" && s.Namespace != o.Namespace:
			fail(field+"namespace", "a Store of namespace %s reads only there: leave namespace out", o.Namespace)
		case len(validation.IsDNS1123Label(s.Namespace)) > 0:
			fail(field+"namespace", "%s is no name to Kubernetes: lower-case letters, digits and - only", strict.Label(s.Namespace))
		}
	}
	if o.ServiceAccount != "" && len(validation.IsDNS1123Subdomain(o.ServiceAccount)) > 0 {
		fail("serviceAccountName", "%s is no name to Kubernetes: lower-case letters, digits, - and . only", strict.Label(o.ServiceAccount))
	}
	return problems
}

// Source reads credentials from Secrets. It is safe for concurrent use.
type Source struct {
	o    Options
	name string // the auth provider's
	// lenient passes over what is not there.
	lenient bool
	flight  singleflight.Group
	mu      sync.Mutex
	kept    reading
}

// reading is what was read at one time.
type reading struct {
	found []found // in their order
	err   error   // of what could not be read at all
	until time.Time
}

// found is one Secret: what it has, or why it cannot be used.
type found struct {
	object string // NAMESPACE/NAME
	auths  *credential.Auths
	sum    [sha256.Size]byte // of its content
	err    error
}

var (
	_ oci.CredentialSource = (*Source)(nil)
	_ oci.Invalidator      = (*Source)(nil)
)

// New makes a Source, which has read nothing yet.
func New(o Options) (*Source, error) {
	if ps := o.Check(); len(ps) > 0 {
		return nil, fmt.Errorf("%w: %s: %s: %s", boltseal.ErrConfiguration, Name, ps[0].Field, ps[0].Message)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.ServiceAccount == "" && len(o.Secrets) == 0 {
		o.ServiceAccount = defaultAccount
	}
	o.Secrets = slices.Clone(o.Secrets)
	return &Source{o: o, name: Name}, nil
}

// Credential implements [oci.CredentialSource]: that of the first Secret with one for
// the repository, the zero one where none has. A Secret before it that cannot be used
// ends the question: it may hold the one that is meant. Errors name the Secret and
// hold nothing of it.
func (s *Source) Credential(ctx context.Context, host, repository string) (oci.Credential, error) {
	r, err := s.read(ctx)
	if err != nil {
		return oci.Credential{}, fmt.Errorf("%s: %s: %w", s.name, host, err)
	}
	return r.credential(s.name, host, repository)
}

func (r reading) credential(name, host, repository string) (oci.Credential, error) {
	if r.err != nil {
		return oci.Credential{}, fmt.Errorf("%s: %s: %w", name, host, r.err)
	}
	for _, f := range r.found {
		c, err := oci.Credential{}, f.err
		if err == nil {
			c, err = f.auths.Credential(host, repository)
			if err != nil {
				err = broken(f.object, err)
			}
		}
		if err != nil {
			return oci.Credential{}, fmt.Errorf("%s: %s: %w", name, host, err)
		}
		if !c.Anonymous() {
			return c, nil
		}
	}
	return oci.Credential{}, nil
}

// Invalidate has the Secrets read anew, where one of them holds the credential that a
// registry refused.
func (s *Source) Invalidate(host, repository string, refused oci.Credential) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.kept.found {
		if f.auths == nil {
			continue
		}
		if c, err := f.auths.Credential(host, repository); err == nil && c.Same(refused) {
			s.kept = reading{}
			return
		}
	}
}

// read returns what was read a moment ago, or reads once for all who wait.
func (s *Source) read(ctx context.Context) (reading, error) {
	if r, ok := s.look(); ok {
		return r, nil
	}
	done := s.flight.DoChan("", func() (v any, err error) {
		// A panic here, in a goroutine of its own, would end the process.
		defer func() {
			if p := recover(); p != nil {
				v, err = nil, errors.New("reading the Secrets panicked")
			}
		}()
		if r, ok := s.look(); ok {
			return r, nil // it came in between
		}
		// The first caller's leaving must not fail the others.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), timeout)
		defer cancel()
		r := s.fetch(ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.kept = r
		return r, nil
	})
	select {
	case got := <-done:
		if got.Err != nil {
			return reading{}, got.Err
		}
		return got.Val.(reading), nil
	case <-ctx.Done():
		return reading{}, fmt.Errorf("%w: %w", boltseal.ErrUnavailable, ctx.Err())
	}
}

func (s *Source) look() (reading, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept, s.o.Clock().Before(s.kept.until)
}

// fetch reads everything.
func (s *Source) fetch(ctx context.Context) (r reading) {
	life := KeepFor
	defer func() { r.until = s.o.Clock().Add(life) }()
	secrets, err := s.secrets(ctx)
	if err != nil {
		life = keepFailureFor
		return reading{err: err}
	}
	for _, secret := range secrets {
		f := found{object: secret.Namespace + "/" + secret.Name}
		if f.auths, f.sum, f.err = s.auths(ctx, secret); f.err != nil {
			if s.lenient && isMissing(f.err) {
				continue
			}
			life = keepFailureFor
		}
		r.found = append(r.found, f)
	}
	return r
}

// secrets are those to read: the ones that are named, and the ServiceAccount's.
func (s *Source) secrets(ctx context.Context) ([]Secret, error) {
	home := cmp.Or(s.o.Namespace, s.o.Own)
	var out []Secret
	add := func(name, namespace string) {
		if secret := (Secret{name, namespace}); !slices.Contains(out, secret) {
			out = append(out, secret)
		}
	}
	for _, secret := range s.o.Secrets {
		namespace := cmp.Or(secret.Namespace, home)
		if namespace == "" {
			return nil, &keys.Error{Op: "read " + keys.KindSecret, Target: secret.Name, Detail: "its namespace is not known: name it", Err: boltseal.ErrConfiguration}
		}
		add(secret.Name, namespace)
	}
	if s.o.Objects == nil {
		return nil, keys.NoCluster(keys.KindSecret, s.name)
	}
	account := s.o.ServiceAccount
	if account == "" {
		return out, nil
	}
	if home == "" {
		return nil, &keys.Error{Op: "read ServiceAccount", Target: account, Detail: "its namespace is not known: Boltseal does not run in the cluster", Err: boltseal.ErrConfiguration}
	}
	names, err := s.o.Objects.PullSecrets(ctx, home, account)
	if s.lenient && isMissing(err) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		add(name, home)
	}
	if len(out) > MaxSecrets {
		return nil, &keys.Error{Op: "read ServiceAccount", Target: home + "/" + account, Err: boltseal.ErrLimit,
			Detail: fmt.Sprintf("%d Secrets with its imagePullSecrets, at most %d", len(out), MaxSecrets)}
	}
	return out, nil
}

// auths reads one Secret.
func (s *Source) auths(ctx context.Context, secret Secret) (*credential.Auths, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	data, err := s.o.Objects.Get(ctx, keys.KindSecret, secret.Namespace, secret.Name)
	if err != nil {
		return nil, none, err
	}
	object := secret.Namespace + "/" + secret.Name
	text, ok := data[corev1.DockerConfigJsonKey]
	legacy := !ok
	if legacy {
		if text, ok = data[corev1.DockerConfigKey]; !ok {
			return nil, none, broken(object, fmt.Errorf("it has neither %s nor %s: make it by kubectl create secret docker-registry", corev1.DockerConfigJsonKey, corev1.DockerConfigKey))
		}
	}
	auths, err := credential.ParseAuths(text, legacy)
	if err != nil {
		return nil, none, broken(object, err)
	}
	return auths, sha256.Sum256(text), nil
}

func broken(object string, err error) error {
	return &keys.Error{Op: "read " + keys.KindSecret, Target: object, Detail: err.Error(), Err: boltseal.ErrMalformed}
}
