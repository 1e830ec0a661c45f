package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/lru"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

// PodName is the auth provider's that uses each Pod's own pull Secrets.
const PodName = "podPullSecrets"

// maxPods bounds the sets of Secrets that are remembered.
const maxPods = 2048

// Pods reads the pull Secrets that Pods name, as a kubelet would. It is safe for
// concurrent use.
type Pods struct {
	objects keys.Objects
	clock   func() time.Time
	sources *lru.Cache[string, *Source]
}

// NewPods makes a Pods that reads from objects; nil means that there is no cluster,
// which whoever asks for a credential then learns. A nil clock means time.Now.
func NewPods(objects keys.Objects, clock func() time.Time) *Pods {
	return &Pods{objects: objects, clock: clock, sources: lru.NewWhole[string, *Source](maxPods)}
}

// Of reads the Secrets of a Pod: those that it names, else those of its
// ServiceAccount ("" = default). One that is not there is passed over, as kubelets
// do. The identity tells apart what was read, whoever has it: it is the same for the
// same Secrets' content only, begins with ! where they could not be read, and is ""
// where there is none. The source has what was
// read now, for good; what could not be read is told by its errors.
func (p *Pods) Of(ctx context.Context, namespace string, secrets []string, account string) (identity string, source oci.CredentialSource) {
	o := Options{Namespace: namespace, Objects: p.objects, Clock: p.clock}
	for _, name := range secrets {
		if s := (Secret{Name: name}); name != "" && !slices.Contains(o.Secrets, s) {
			o.Secrets = append(o.Secrets, s)
		}
	}
	if len(o.Secrets) == 0 {
		o.ServiceAccount = account
	}
	// Whatever a Pod says is bounded before it is remembered.
	if ps := o.Check(); len(ps) > 0 {
		return failed(namespace, fmt.Errorf("%w: imagePullSecrets: %s", boltseal.ErrConfiguration, ps[0].Message))
	}
	key := namespace + "\x00" + o.ServiceAccount
	for _, s := range o.Secrets {
		key += "\x00" + s.Name
	}
	s, ok := p.sources.Get(key)
	if !ok {
		var err error
		if s, err = New(o); err != nil {
			return failed(key, err)
		}
		s.name, s.lenient = PodName, true
		p.sources.Put(key, s, 1)
	}
	r, err := s.read(ctx)
	if err == nil {
		err = r.err
	}
	if err != nil {
		return failed(key, err)
	}
	if len(r.found) == 0 {
		return "", nil
	}
	sum := sha256.New()
	for _, f := range r.found {
		if f.err != nil {
			// It is whoever's Secret that is broken, and nobody else's.
			_, _ = sum.Write([]byte(key + "\x00" + f.err.Error()))
		}
		_, _ = sum.Write(f.sum[:])
	}
	return hex.EncodeToString(sum.Sum(nil)), &pulled{from: s, reading: r}
}

// failed is a source that says why there is nothing else.
func failed(key string, err error) (string, oci.CredentialSource) {
	sum := sha256.Sum256([]byte(key + "\x00" + err.Error()))
	return "!" + hex.EncodeToString(sum[:]), &pulled{reading: reading{err: err}}
}

// pulled is what was read of a Pod's Secrets at one time. It does not change: what
// is found out with it is kept by what it is.
type pulled struct {
	from    *Source // nil = nothing could be read
	reading reading
}

var (
	_ oci.CredentialSource = (*pulled)(nil)
	_ oci.Invalidator      = (*pulled)(nil)
)

// Credential implements [oci.CredentialSource].
func (p *pulled) Credential(_ context.Context, host, repository string) (oci.Credential, error) {
	return p.reading.credential(PodName, host, repository)
}

// Invalidate has the Secrets read anew for the next Pod with them.
func (p *pulled) Invalidate(host, repository string, refused oci.Credential) {
	if p.from != nil {
		p.from.Invalidate(host, repository, refused)
	}
}

// NoPod stands in a list of sources for a Pod's own Secrets, where no Pod is known.
type NoPod struct{}

// Credential passes on to the next source.
func (NoPod) Credential(context.Context, string, string) (oci.Credential, error) {
	return oci.Credential{}, credential.ErrNotForHost
}

// isMissing reports whether an object is not there.
func isMissing(err error) bool {
	var e *keys.Error
	return errors.As(err, &e) && e.Status == 404 || errors.Is(err, boltseal.ErrNotFound)
}
