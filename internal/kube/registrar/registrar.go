// Package registrar keeps what leads a cluster to Boltseal: its webhook configurations, and the CAs in everything that points here.
package registrar

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/kube/onewatch"
)

// Mode says whose the webhook configurations are.
type Mode string

const (
	// Off makes none, and removes those that Enforce made for the same Owner. Those
	// that somebody else made and that point here get their CAs all the same.
	Off Mode = "off"
	// Enforce makes them, and puts back whatever is changed in them.
	Enforce Mode = "enforce"
)

const (
	writeTimeout = 10 * time.Second
	// retryWrite is how long after a failed write the next one is tried, and how
	// often is looked whether this replica is ready.
	retryWrite = time.Second
)

// Owner is an object that the webhook configurations go with: when it is deleted,
// Kubernetes deletes them, so that nothing is left that refuses Pods. The zero
// value is none.
type Owner struct{ Kind, Name string }

// ParseOwner reads KIND/NAME, where the kind is ClusterRole or Namespace, or "".
func ParseOwner(s string) (Owner, error) {
	if s == "" {
		return Owner{}, nil
	}
	kind, name, _ := strings.Cut(s, "/")
	if _, ok := ownerKinds()[kind]; !ok || name == "" || strings.Contains(name, "/") {
		return Owner{}, fmt.Errorf("%q: write ClusterRole/NAME or Namespace/NAME: what webhook configurations belong to must be in no namespace", s)
	}
	return Owner{Kind: kind, Name: name}, nil
}

// Options make a Registrar.
type Options struct {
	// Client is the way to the API server. Required.
	Client client.WithWatch
	// Mode is Off where it is "".
	Mode Mode
	// Webhooks are what the webhook configurations are to be.
	Webhooks Webhooks
	// Owner is what they belong to. It must be there before they are made.
	Owner Owner
	// Providers are names of Gatekeeper's Providers that get the CAs where they
	// point at one of Names, the names of the serving certificate.
	Providers []string
	Names     []string
	// Make are Providers that are made and kept. They get the CAs, too.
	Make []Provider
	// Bundle is what callers are to trust, in PEM; nil where that is not known, and
	// then caBundles are left as they are. Required.
	Bundle func() []byte
	// Ready reports whether this replica can answer: nothing is made before. Nil
	// means always.
	Ready func() bool
	// Changed is told that Announced may answer otherwise. Nil means nobody is.
	Changed func()
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Registrar watches what points at Boltseal, and in the replica that leads puts it
// right.
type Registrar struct {
	o       Options
	targets []target
	work    chan struct{} // room for one: somebody has to look

	mu     sync.Mutex
	others *[]string // kinds of others that are asked about; nil = not known yet
	seen   map[target]*sight
	told   map[target]string // what was last complained about
}

// sight is what a target is known to be.
type sight struct {
	object client.Object // nil: it is not there
	// trusts are the certificates in all its caBundles, by their bytes, with the
	// time they were first seen there. Nil where it does not point here.
	trusts map[string]time.Time
}

// New makes a Registrar. It does not talk to the cluster yet.
func New(o Options) (*Registrar, error) {
	if o.Mode == "" {
		o.Mode = Off
	}
	w := o.Webhooks
	switch {
	case o.Mode != Off && o.Mode != Enforce:
		return nil, fmt.Errorf("the webhook's mode is %q: choose off or enforce", o.Mode)
	case w.FailurePolicy != "" && w.FailurePolicy != "Fail" && w.FailurePolicy != "Ignore":
		return nil, fmt.Errorf("the webhook's failure policy is %q: choose Fail or Ignore", w.FailurePolicy)
	case w.TimeoutSeconds < 0 || w.TimeoutSeconds > maxTimeout:
		return nil, fmt.Errorf("the API server waits for 1 to %d seconds, not %d", maxTimeout, w.TimeoutSeconds)
	case w.Namespace == "" || w.Service == "" || w.Port < 1 || w.Port > 65535:
		return nil, errors.New("the webhook needs a Service, with namespace and port")
	}
	if o.Ready == nil {
		o.Ready = func() bool { return true }
	}
	if o.Changed == nil {
		o.Changed = func() {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	r := &Registrar{o: o, work: make(chan struct{}, 1), seen: map[target]*sight{}, told: map[target]string{}}
	r.targets = []target{{kind: mutatingKind, name: Name}, {kind: validatingKind, name: Name}}
	names := slices.Clone(o.Providers)
	for _, p := range o.Make {
		if p.Name == "" || p.Path == "" || p.TimeoutSeconds < 1 {
			return nil, fmt.Errorf("the Provider %q needs a name, a path and a timeout", p.Name)
		}
		names = append(names, p.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		r.targets = append(r.targets, target{kind: providerKind, name: name})
	}
	return r, nil
}

// Run watches until ctx ends.
func (r *Registrar) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, t := range r.targets {
		wg.Go(func() {
			onewatch.Run(ctx, onewatch.Options{Client: r.o.Client, Object: t.empty(), List: t.list(), Name: t.name, Log: r.o.Log,
				Changed: func(o client.Object) { r.observe(t, o) }})
		})
	}
}

// Poke makes the leader look again: what Bundle returns may have changed.
func (r *Registrar) Poke() {
	select {
	case r.work <- struct{}{}:
	default:
	}
}

// Ask says which kinds of others are to be asked about, as GROUP/Kind in order.
// Before it is called, webhook configurations that are there keep those they have.
func (r *Registrar) Ask(others []string) {
	r.mu.Lock()
	same := r.others != nil && slices.Equal(*r.others, others)
	others = slices.Clone(others)
	r.others = &others
	r.mu.Unlock()
	if !same {
		r.Poke()
	}
}

// webhooks are what the webhook configurations are to be now. It reports false
// where that is not known yet.
func (r *Registrar) webhooks() (Webhooks, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.o.Webhooks
	if r.others == nil {
		return w, false
	}
	w.Others = *r.others
	return w, true
}

func (r *Registrar) observe(t target, o client.Object) {
	now := r.o.Clock()
	s := &sight{object: o}
	if o != nil {
		if bundle, here := r.bundleOf(o); here {
			s.trusts = map[string]time.Time{}
			for _, der := range bundleCertificates(bundle) {
				s.trusts[der] = now
			}
		}
	}
	r.mu.Lock()
	if old := r.seen[t]; old != nil {
		for der := range s.trusts {
			if since, ok := old.trusts[der]; ok {
				s.trusts[der] = since
			}
		}
	}
	r.seen[t] = s
	r.mu.Unlock()
	r.Poke()
	r.o.Changed()
}

// Announced returns since when a CA stands in the caBundle of everything that
// points here. It does not where a target is not known yet.
func (r *Registrar) Announced(ca *x509.Certificate) (since time.Time, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.targets {
		s := r.seen[t]
		switch {
		case s == nil:
			return time.Time{}, false
		case s.trusts == nil:
			continue // not there, or not ours
		}
		when, ok := s.trusts[string(ca.Raw)]
		if !ok {
			return time.Time{}, false
		}
		if when.After(since) {
			since = when
		}
	}
	return since, true
}

// Lead puts right what is not, until ctx ends. It is for one replica at a time;
// two would do no harm but work.
func (r *Registrar) Lead(ctx context.Context) {
	for ctx.Err() == nil {
		again := time.Duration(0)
		for _, t := range r.targets {
			if !r.settle(ctx, t) {
				again = retryWrite
			}
		}
		retry := make(<-chan time.Time)
		if again > 0 {
			timer := time.NewTimer(again)
			defer timer.Stop()
			retry = timer.C
		}
		select {
		case <-ctx.Done():
		case <-r.work:
		case <-retry:
		}
	}
}

// settle puts one target right, and reports whether nothing is left to be done.
func (r *Registrar) settle(ctx context.Context, t target) bool {
	r.mu.Lock()
	s := r.seen[t]
	r.mu.Unlock()
	if s == nil {
		return true // it pokes when it is known
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	what, err := r.put(ctx, t, s.object)
	switch {
	case err == nil && what == "":
		delete(r.told, t)
		return true
	case err == nil:
		r.o.Log.Info("webhooks and providers: "+what, "kind", t.kind.Kind, "name", t.name)
		delete(r.told, t)
		return true // the watch tells how it came out
	case errors.Is(err, errNotYet) || apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || ctx.Err() != nil:
		return false
	}
	if text := err.Error(); r.told[t] != text {
		r.told[t] = text
		r.o.Log.Error("what leads the cluster to Boltseal could not be put right, and is tried again", "kind", t.kind.Kind, "name", t.name, "error", text)
	}
	return false
}

// errNotYet is for what must wait, and is nobody's fault.
var errNotYet = errors.New("not yet")
