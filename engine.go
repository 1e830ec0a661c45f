package boltseal

import (
	"context"
	"fmt"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Defaults of [Limits].
const (
	DefaultMaxSignatures = 50
	DefaultMaxUntyped    = 100
	DefaultConcurrency   = 4
	// maxPassedOver bounds how many unjudged referrers a result lists by name.
	maxPassedOver = 100
)

// Limits bound the work for one image.
type Limits struct {
	// MaxSignatures is how many candidates are judged. 0 means DefaultMaxSignatures.
	MaxSignatures int
	// MaxUntyped is how many referrers are read that the listing names no type of,
	// to see whether they are signatures. 0 means DefaultMaxUntyped.
	MaxUntyped int
	// Concurrency is how many candidates are fetched and judged at a time. 0
	// means DefaultConcurrency.
	Concurrency int
	// Platforms is how many manifests of one index are looked at, where the policy
	// asks for them; an index with more of them is denied. 0 means DefaultPlatforms.
	Platforms int
	// Budget is what the verification of one manifest may cost in all, by itself; a
	// field that is 0 means its default (DefaultBudgetRequests and so on).
	Budget Cost
}

// Options make an Engine.
type Options struct {
	// Stores are where images are read. At least one; scopes must not collide.
	Stores []ScopedStore
	// Verifiers judge signatures. At least one; names must be unique.
	Verifiers []Verifier
	// Policy decides. Required: there is no policy that suits everybody.
	Policy Policy
	// Clock tells the time that findings are stamped with. Nil means time.Now.
	Clock func() time.Time
	// Limits bound the work for one image. The zero value means the defaults.
	Limits Limits
	// Panicked is told of every panic of a store, a verifier or a policy, with its
	// stack. The image is denied in any case. Nil means that nobody wants to know.
	Panicked func(what string, value any, stack []byte)
}

// Engine verifies images. It is immutable and safe for concurrent use; it
// keeps nothing about the images it has seen.
type Engine struct {
	stores    storeTable
	verifiers []Verifier
	types     []string // every artifact type that a verifier names; nil where one names all
	policy    Policy
	alone     Policy     // decides about one manifest by itself
	index     *MultiArch // nil = what the image names, by itself
	share     Share      // nil = nothing is shared
	clock     func() time.Time
	limits    Limits
	panicked  func(what string, value any, stack []byte)
}

// New checks the options and makes an Engine. Errors wrap [ErrConfiguration].
func New(o Options) (*Engine, error) {
	if len(o.Verifiers) == 0 {
		return nil, fmt.Errorf("%w: no verifier: every image would be denied", ErrConfiguration)
	}
	if o.Policy == nil {
		return nil, fmt.Errorf("%w: no policy", ErrConfiguration)
	}
	stores, err := newStoreTable(o.Stores)
	if err != nil {
		return nil, err
	}
	e := &Engine{stores: stores, verifiers: o.Verifiers, clock: o.Clock, limits: o.Limits, panicked: o.Panicked}
	e.setPolicy(o.Policy)
	if e.clock == nil {
		e.clock = time.Now
	}
	if e.limits.MaxSignatures <= 0 {
		e.limits.MaxSignatures = DefaultMaxSignatures
	}
	if e.limits.MaxUntyped <= 0 {
		e.limits.MaxUntyped = DefaultMaxUntyped
	}
	if e.limits.Concurrency <= 0 {
		e.limits.Concurrency = DefaultConcurrency
	}
	if e.limits.Platforms <= 0 {
		e.limits.Platforms = DefaultPlatforms
	}
	names := make(map[string]bool, len(o.Verifiers))
	types := make(map[string]bool)
	for _, v := range o.Verifiers {
		if names[v.Name()] {
			return nil, fmt.Errorf("%w: two verifiers are named %q", ErrConfiguration, v.Name())
		}
		names[v.Name()] = true
		for _, t := range v.ArtifactTypes() {
			if !types[t] {
				types[t] = true
				e.types = append(e.types, t)
			}
		}
	}
	if types["*"] {
		e.types = nil
	}
	return e, nil
}

// Policy returns the policy that the engine was made with.
func (e *Engine) Policy() Policy { return e.policy }

// WithStores returns an engine that differs in its stores only: each is
// replaced by what replace makes of it, under the same scopes.
func (e *Engine) WithStores(replace func(Store) Store) *Engine {
	other := *e
	other.stores = slices.Clone(e.stores)
	for i := range other.stores {
		other.stores[i].store = replace(other.stores[i].store)
	}
	return &other
}

// Verify says whether an image is trusted, and why. image is what a user writes
// in a Pod; see [ParseReference].
//
// A returned error means that the question itself could not be understood, and
// the Result is the zero value, which denies. Everything else, an outage
// included, is a Result: Decision is Unknown where the evidence could not be
// gathered.
func (e *Engine) Verify(ctx context.Context, image string) (Result, error) {
	ref, err := ParseReference(image)
	if err != nil {
		return Result{}, err
	}
	f := e.Collect(ctx, ref)
	f.Image = image
	return e.Decide(f), nil
}

// Collect gathers the evidence about one image, and stops as soon as more of it
// could not change the policy's decision.
func (e *Engine) Collect(ctx context.Context, ref Reference) Findings {
	f := e.newFindings(ref)
	store, name, ok := e.stores.find(ref)
	if !ok {
		f.Failure = noStore(ref)
		return f
	}
	f.Store = name
	if ref.Digest == "" || e.index != nil {
		desc, err := e.resolve(ctx, store, ref)
		if err != nil {
			f.Failure = ReasonOf(err)
			return f
		}
		return e.collect(ctx, store, f, desc)
	}
	ctx = WithBudget(ctx, e.limits.Budget)
	// The digest is known, so the listing need not wait for the descriptor.
	var (
		desc       ocispec.Descriptor
		resolveErr error
		resolved   = make(chan struct{})
	)
	listCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		defer close(resolved)
		if desc, resolveErr = e.resolve(ctx, store, ref); resolveErr != nil {
			cancel()
		}
	}()
	listing, listErr := e.list(listCtx, store, ref)
	<-resolved
	switch {
	case resolveErr != nil:
		f.Failure = ReasonOf(resolveErr)
	case listErr != nil:
		f.Subject = desc
		f.Failure = ReasonOf(listErr)
	default:
		f.Subject = desc
		e.judge(ctx, store, &f, listing)
		e.clues(ctx, store, &f)
	}
	return f
}

// Resolve returns the descriptor of the image's manifest. Errors wrap one of
// this package's sentinels.
func (e *Engine) Resolve(ctx context.Context, ref Reference) (ocispec.Descriptor, error) {
	store, _, ok := e.stores.find(ref)
	if !ok {
		return ocispec.Descriptor{}, fmt.Errorf("%w: no store covers %s", ErrConfiguration, ref.Name())
	}
	return e.resolve(ctx, store, ref)
}

// CollectResolved is Collect for an image whose descriptor is known already,
// from [Engine.Resolve].
func (e *Engine) CollectResolved(ctx context.Context, ref Reference, desc ocispec.Descriptor) Findings {
	f := e.newFindings(ref)
	store, name, ok := e.stores.find(ref)
	if !ok {
		f.Failure = noStore(ref)
		return f
	}
	f.Store = name
	return e.collect(ctx, store, f, desc)
}

// Decide turns findings into a result by the engine's policy. It uses nothing
// but its argument, so findings that were recorded can be decided again.
func (e *Engine) Decide(f Findings) Result { return decideFindings(e.policy, f) }

func decideFindings(p Policy, f Findings) Result {
	r := Result{Findings: f}
	if f.Failure != (Reason{}) {
		r.Reason = f.Failure
		if causeUndetermined(f.Failure.Cause) {
			r.Decision = Unknown
		}
		return r
	}
	if f.Subject.Digest == "" {
		r.Reason = Reason{Cause: CauseInternal, Message: "findings without a subject", Remedy: remedyInternal}
		return r
	}
	r.Decision, r.Reason = p.Decide(&f)
	return r
}

func (e *Engine) newFindings(ref Reference) Findings {
	return Findings{Image: ref.String(), Reference: ref, CollectedAt: e.clock().UTC()}
}

func (e *Engine) collect(ctx context.Context, store Store, f Findings, desc ocispec.Descriptor) Findings {
	if e.index == nil || !IsIndex(desc.MediaType) {
		return e.listed(ctx, store, f, desc)
	}
	f.Subject = desc
	e.below(ctx, store, &f)
	return f
}

// listed gathers the evidence about one manifest by itself.
func (e *Engine) listed(ctx context.Context, store Store, f Findings, desc ocispec.Descriptor) Findings {
	f.Subject = desc
	ctx = WithBudget(ctx, e.limits.Budget)
	listing, err := e.list(ctx, store, f.Reference.WithDigest(desc.Digest))
	if err != nil {
		f.Failure = ReasonOf(err)
		return f
	}
	e.judge(ctx, store, &f, listing)
	e.clues(ctx, store, &f)
	return f
}

// resolve holds every store to its contract: a digest that was asked for is the
// digest that is answered.
func (e *Engine) resolve(ctx context.Context, s Store, ref Reference) (desc ocispec.Descriptor, err error) {
	ctx, end := BeginStep(ctx, Step{Stage: StageResolve, Host: ref.Registry})
	defer func() { end(Ending{Err: err}) }()
	defer e.caught("resolving "+ref.String(), &err)
	desc, err = s.Resolve(ctx, ref)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := ValidateDescriptor(desc); err != nil {
		return ocispec.Descriptor{}, &StoreError{Op: "resolve", Host: ref.Registry, Target: ref.String(), Err: err}
	}
	if ref.Digest != "" && desc.Digest != ref.Digest {
		return ocispec.Descriptor{}, &StoreError{Op: "resolve", Host: ref.Registry, Target: ref.String(),
			Err: fmt.Errorf("%w: asked for %s, answered %s", ErrMalformed, ref.Digest, desc.Digest)}
	}
	return desc, nil
}

func (e *Engine) list(ctx context.Context, s Store, ref Reference) (l Listing, err error) {
	ctx, end := BeginStep(ctx, Step{Stage: StageReferrers, Host: ref.Registry})
	defer func() { end(Ending{Err: err}) }()
	defer e.caught("listing referrers of "+ref.String(), &err)
	return s.Referrers(ctx, ref, ref.Digest, e.types)
}
