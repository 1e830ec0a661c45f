package boltseal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Defaults of [Limits].
const (
	DefaultMaxSignatures = 50
	DefaultConcurrency   = 4
	// maxPassedOver bounds how many unjudged referrers a result lists by name.
	maxPassedOver = 100
)

// Limits bound the work for one image.
type Limits struct {
	// MaxSignatures is how many candidates are judged. 0 means DefaultMaxSignatures.
	MaxSignatures int
	// Concurrency is how many candidates are fetched and judged at a time. 0
	// means DefaultConcurrency.
	Concurrency int
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
}

// Engine verifies images. It is immutable and safe for concurrent use; it
// keeps nothing about the images it has seen.
type Engine struct {
	stores    storeTable
	verifiers []Verifier
	types     []string // every artifact type that a verifier names; nil where one names all
	policy    Policy
	clock     func() time.Time
	limits    Limits
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
	e := &Engine{stores: stores, verifiers: o.Verifiers, policy: o.Policy, clock: o.Clock, limits: o.Limits}
	if e.clock == nil {
		e.clock = time.Now
	}
	if e.limits.MaxSignatures <= 0 {
		e.limits.MaxSignatures = DefaultMaxSignatures
	}
	if e.limits.Concurrency <= 0 {
		e.limits.Concurrency = DefaultConcurrency
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
	if ref.Digest == "" {
		desc, err := resolve(ctx, store, ref)
		if err != nil {
			f.Failure = ReasonOf(err)
			return f
		}
		return e.collect(ctx, store, f, desc)
	}
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
		if desc, resolveErr = resolve(ctx, store, ref); resolveErr != nil {
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
	return resolve(ctx, store, ref)
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
func (e *Engine) Decide(f Findings) Result {
	r := Result{Findings: f}
	if f.Failure != (Reason{}) {
		r.Reason = f.Failure
		if undetermined(f.Failure.Cause) {
			r.Decision = Unknown
		}
		return r
	}
	if f.Subject.Digest == "" {
		r.Reason = Reason{Cause: CauseInternal, Message: "findings without a subject", Remedy: remedyInternal}
		return r
	}
	r.Decision, r.Reason = e.policy.Decide(&f)
	return r
}

func (e *Engine) newFindings(ref Reference) Findings {
	return Findings{Image: ref.String(), Reference: ref, CollectedAt: e.clock().UTC()}
}

func (e *Engine) collect(ctx context.Context, store Store, f Findings, desc ocispec.Descriptor) Findings {
	f.Subject = desc
	listing, err := e.list(ctx, store, f.Reference.WithDigest(desc.Digest))
	if err != nil {
		f.Failure = ReasonOf(err)
		return f
	}
	e.judge(ctx, store, &f, listing)
	return f
}

// resolve holds every store to its contract: a digest that was asked for is the
// digest that is answered.
func resolve(ctx context.Context, s Store, ref Reference) (ocispec.Descriptor, error) {
	desc, err := s.Resolve(ctx, ref)
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

func (e *Engine) list(ctx context.Context, s Store, ref Reference) (Listing, error) {
	return s.Referrers(ctx, ref, ref.Digest, e.types)
}

// job is one candidate with the verifiers that judge it. Its evidence stands in
// Findings.Evidence from first on, one slot for each verifier.
type job struct {
	desc      ocispec.Descriptor
	verifiers []Verifier
	first     int
}

// judge runs the verifiers over the listing. It fills f.Evidence, f.PassedOver
// and f.Truncated.
func (e *Engine) judge(ctx context.Context, store Store, f *Findings, listing Listing) {
	f.Truncated = listing.Truncated
	jobs := e.plan(f, listing.Referrers)
	if len(jobs) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	run := &run{engine: e, store: store, findings: f, jobs: jobs, cancel: cancel,
		subject: Subject{Reference: f.Reference.WithDigest(f.Subject.Digest), Descriptor: f.Subject}}
	n := min(e.limits.Concurrency, len(jobs))
	var wg sync.WaitGroup
	for range n - 1 {
		wg.Go(func() { run.work(ctx) })
	}
	run.work(ctx)
	wg.Wait()
	run.settle()
}

// plan picks the candidates, in the listing's order, and reserves their evidence.
func (e *Engine) plan(f *Findings, referrers []ocispec.Descriptor) []job {
	var jobs []job
	over := 0
	for _, d := range referrers {
		var vs []Verifier
		for _, v := range e.verifiers {
			if handles(v, d.ArtifactType) {
				vs = append(vs, v)
			}
		}
		switch {
		case len(vs) == 0:
			f.passOver(d, "no verifier handles this artifact type")
		case len(jobs) >= e.limits.MaxSignatures:
			over++
			f.passOver(d, fmt.Sprintf("only the first %d signatures are judged", e.limits.MaxSignatures))
		default:
			jobs = append(jobs, job{desc: d, verifiers: vs, first: len(f.Evidence)})
			for _, v := range vs {
				f.Evidence = append(f.Evidence, Evidence{
					Referrer: d.Digest, ArtifactType: d.ArtifactType, Verifier: v.Name(), VerifierType: v.Type(),
					Outcome: Undetermined, Reason: Reason{Cause: CauseUndecided, Message: "not looked at"},
				})
			}
		}
	}
	if over > 0 {
		f.Truncated = fmt.Sprintf("%d of %d signatures were not judged: the limit is %d", over, over+len(jobs), e.limits.MaxSignatures)
	}
	return jobs
}

func (f *Findings) passOver(d ocispec.Descriptor, why string) {
	if len(f.PassedOver) < maxPassedOver {
		f.PassedOver = append(f.PassedOver, PassedOver{Referrer: d.Digest, ArtifactType: d.ArtifactType, Why: why})
	}
}

func handles(v Verifier, artifactType string) bool {
	for _, t := range v.ArtifactTypes() {
		if t == artifactType || t == "*" {
			return true
		}
	}
	return false
}

// run is the shared state of one image's workers.
type run struct {
	engine   *Engine
	store    Store
	subject  Subject
	jobs     []job
	cancel   context.CancelFunc
	mu       sync.Mutex
	findings *Findings
	next     int
	decided  bool
}

func (r *run) work(ctx context.Context) {
	for {
		r.mu.Lock()
		if r.decided || r.next == len(r.jobs) {
			r.mu.Unlock()
			return
		}
		j := r.jobs[r.next]
		r.next++
		r.mu.Unlock()
		r.do(ctx, j)
	}
}

// do judges one candidate by each of its verifiers, and notes whether the
// policy can decide now.
func (r *run) do(ctx context.Context, j job) {
	candidate, err := r.fetch(ctx, j)
	for i, v := range j.verifiers {
		ev := Evidence{Reason: Reason{}}
		verr := err
		if verr == nil {
			ev, verr = verify(ctx, v, r.subject, candidate)
		}
		if verr != nil {
			ev = Evidence{Reason: ReasonOf(verr)}
			if undetermined(ev.Reason.Cause) {
				ev.Outcome = Undetermined
			}
		}
		ev.Referrer, ev.ArtifactType = j.desc.Digest, j.desc.ArtifactType
		ev.Verifier, ev.VerifierType = v.Name(), v.Type()
		if r.record(j.first+i, ev) {
			return
		}
	}
}

// record stores evidence unless the work was ended meanwhile, and reports
// whether the policy has decided.
func (r *run) record(slot int, ev Evidence) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.decided {
		return true
	}
	r.findings.Evidence[slot] = ev
	if d, _ := r.engine.policy.Decide(r.findings); d != Unknown {
		r.decided = true
		r.cancel()
	}
	return r.decided
}

// settle moves candidates that the decision did not need from the evidence to
// those passed over.
func (r *run) settle() {
	if !r.decided {
		return
	}
	f := r.findings
	kept := f.Evidence[:0]
	for _, ev := range f.Evidence {
		if ev.Outcome == Undetermined && ev.Reason.Cause == CauseUndecided {
			f.passOver(ocispec.Descriptor{Digest: ev.Referrer, ArtifactType: ev.ArtifactType}, "the policy had decided already")
			continue
		}
		kept = append(kept, ev)
	}
	f.Evidence = kept
}

// fetch reads a candidate's manifest and holds it against what it must be: a
// registry can list anything as a referrer.
func (r *run) fetch(ctx context.Context, j job) (c Candidate, err error) {
	if err := ValidateDescriptor(j.desc); err != nil {
		return Candidate{}, err
	}
	ref := r.subject.Reference
	b, err := r.store.Manifest(ctx, ref, j.desc)
	if errors.Is(err, ErrNotFound) {
		return Candidate{}, fmt.Errorf("%w: listed as a referrer, but its manifest is not there", ErrMalformed)
	}
	if err != nil {
		return Candidate{}, err
	}
	m, err := ParseArtifactManifest(j.desc.MediaType, b)
	if err != nil {
		return Candidate{}, err
	}
	if m.ArtifactType != j.desc.ArtifactType {
		return Candidate{}, fmt.Errorf("%w: listed as %q, but its manifest says %q", ErrMalformed, j.desc.ArtifactType, m.ArtifactType)
	}
	if m.Subject == nil || m.Subject.Digest != r.subject.Descriptor.Digest {
		return Candidate{}, errOtherSubject
	}
	return Candidate{Descriptor: j.desc, Manifest: m, Blob: r.blobs(ref, len(j.verifiers) > 1)}, nil
}

// blobs returns the fetch function of one candidate. Where several verifiers
// read the same blob it is fetched once.
func (r *run) blobs(ref Reference, shared bool) func(context.Context, ocispec.Descriptor) ([]byte, error) {
	if !shared {
		return func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) { return r.store.Blob(ctx, ref, d) }
	}
	var last ocispec.Descriptor
	var content []byte
	return func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		if content != nil && d.Digest == last.Digest && d.Size == last.Size {
			return content, nil
		}
		b, err := r.store.Blob(ctx, ref, d)
		if err == nil {
			last, content = d, b
		}
		return b, err
	}
}

// verify calls a verifier and turns a panic into an error: what a stranger put
// into a registry must not take the process down.
func verify(ctx context.Context, v Verifier, s Subject, c Candidate) (ev Evidence, err error) {
	defer func() {
		if p := recover(); p != nil {
			ev, err = Evidence{}, fmt.Errorf("verifier %s: panic: %v", v.Name(), p)
		}
	}()
	return v.Verify(ctx, s, c)
}

var errOtherSubject = errors.New("its manifest does not name this image as its subject")
