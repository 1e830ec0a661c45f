package boltseal

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

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
	known := e.stores.identify(f.Reference)
	if known.Name() != f.Reference.Name() {
		f.Identity = known.Name()
	}
	run := &run{engine: e, store: store, findings: f, jobs: jobs, cancel: cancel,
		subject: Subject{Reference: f.Reference.WithDigest(f.Subject.Digest), Descriptor: f.Subject, Identity: known.WithDigest(f.Subject.Digest)}}
	n := min(e.limits.Concurrency, len(jobs))
	var wg sync.WaitGroup
	for range n - 1 {
		wg.Go(func() { run.work(ctx) })
	}
	run.work(ctx)
	wg.Wait()
	if run.failure != nil {
		f.Failure = ReasonOf(run.failure)
		return
	}
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
	failure  error // of the policy
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
	var broken error
	defer func() {
		if broken != nil {
			r.mu.Lock()
			r.failure = broken
			r.mu.Unlock()
		}
	}()
	defer r.engine.caught("the policy", &broken)
	candidate, err := r.fetch(ctx, j)
	for i, v := range j.verifiers {
		ev := Evidence{Reason: Reason{}}
		verr := err
		if verr == nil {
			ev, verr = r.engine.verify(ctx, v, r.subject, candidate)
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
	if d, _ := r.engine.alone.Decide(r.findings); d != Unknown {
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
	defer r.engine.caught("reading the signature "+j.desc.Digest.String(), &err)
	if err := ValidateDescriptor(j.desc); err != nil {
		return Candidate{}, err
	}
	if j.desc.Size > MaxArtifactManifest {
		return Candidate{}, fmt.Errorf("%w: its manifest has %d bytes, at most %d", ErrLimit, j.desc.Size, MaxArtifactManifest)
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

func (e *Engine) verify(ctx context.Context, v Verifier, s Subject, c Candidate) (ev Evidence, err error) {
	defer e.caught("verifier "+v.Name(), &err)
	return v.Verify(ctx, s, c)
}

// caught turns a panic into an error: what a stranger put into a registry must
// not take the process down. It is to be deferred; what else the function returns
// is not to be used beside an error.
func (e *Engine) caught(what string, err *error) {
	p := recover()
	if p == nil {
		return
	}
	*err = fmt.Errorf("%s: panic: %.200v", what, p)
	if e.panicked != nil {
		e.panicked(what, p, debug.Stack())
	}
}

var errOtherSubject = errors.New("its manifest does not name this image as its subject")
