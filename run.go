package boltseal

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// judge runs the verifiers over the listing. It fills f.Evidence, f.PassedOver,
// f.Truncated and f.Incomplete.
func (e *Engine) judge(ctx context.Context, store Store, f *Findings, listing Listing) {
	f.Truncated = listing.Truncated
	if listing.Incomplete != nil {
		f.Incomplete = ReasonOf(listing.Incomplete)
	}
	for _, d := range listing.Others {
		f.passOver(d, notHandled)
	}
	known := e.stores.identify(f.Reference)
	subject := Subject{Reference: f.Reference.WithDigest(f.Subject.Digest), Descriptor: f.Subject, Identity: known.WithDigest(f.Subject.Digest)}
	jobs, alone := e.plan(subject, f, listing.Referrers)
	if len(jobs) == 0 {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if known.Name() != f.Reference.Name() {
		f.Identity = known.Name()
	}
	run := &run{engine: e, store: store, findings: f, jobs: jobs, cancel: cancel, subject: subject}
	if alone {
		run.next = 1
		run.do(ctx, jobs[0])
	}
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

// run is the shared state of one image's workers.
type run struct {
	engine   *Engine
	store    Store
	subject  Subject
	jobs     []job
	cancel   context.CancelFunc
	mu       sync.Mutex
	findings *Findings
	none     map[int]bool // evidence that there is none of: the candidate is no signature
	next     int
	decided  bool
	failure  error // of the policy

	reading sync.Mutex         // held while the image is read
	read    int                // how often it was
	known   ocispec.Descriptor // the image by its bytes, zero = not known
}

// maxSubjectReads bounds how often an image is read to see which size is right.
const maxSubjectReads = 3

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
	ctx, release := holdBudget(ctx)
	defer release()
	candidate, subject, err := r.fetch(ctx, j)
	found := j.likely
	if errors.Is(err, errNoSignature) {
		r.passOver(j, j.desc.ArtifactType, err.Error())
		return
	} else if err == nil {
		artifactType := candidate.Manifest.ArtifactType
		if found = likelyFor(artifactType, r.engine.handlers(artifactType)); len(found) == 0 {
			r.passOver(j, artifactType, notHandled)
			return
		}
	}
	slots := r.slots(j, found)
	for i, l := range found {
		ev, verr := Evidence{}, err
		if verr == nil {
			ev, verr = r.engine.verify(ctx, l.Verifier, subject, candidate)
		}
		if verr != nil {
			ev = Evidence{Reason: ReasonOf(verr)}
			if causeUndetermined(ev.Reason.Cause) {
				ev.Outcome = Undetermined
			}
		}
		ev.Referrer, ev.ArtifactType = j.desc.Digest, l.artifactType
		ev.Verifier, ev.VerifierType = l.Name(), l.Type()
		if r.record(slots[i], ev) {
			return
		}
	}
}

// slots are the places for the evidence of what was found: those that were reserved,
// and further ones where the manifest says another type than the listing.
func (r *run) slots(j job, found []likely) []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]int, len(found))
	for i, l := range found {
		other := r.findings
		if i < len(j.likely) {
			out[i] = j.first + i
			if is := j.likely[i]; l.Name() == is.Name() && l.artifactType == is.artifactType || r.decided {
				continue
			}
			other = &Findings{}
		} else {
			out[i] = len(r.findings.Evidence)
		}
		other.reserve(job{desc: j.desc, likely: []likely{l}})
		if other != r.findings {
			r.findings.Evidence[out[i]] = other.Evidence[0]
		}
	}
	for i := len(found); i < len(j.likely); i++ {
		r.drop(j.first + i)
	}
	return out
}

// passOver notes that a candidate is no signature that anybody here judges.
func (r *run) passOver(j job, artifactType, why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.decided {
		return
	}
	j.desc.ArtifactType = artifactType
	r.findings.passOver(j.desc, why)
	for i := range j.likely {
		r.drop(j.first + i)
	}
	r.decide()
}

// drop takes evidence out of what the policy sees. It is to be called with mu held.
func (r *run) drop(slot int) {
	if r.none == nil {
		r.none = map[int]bool{}
	}
	r.none[slot] = true
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
	return r.decide()
}

// decide asks the policy, and ends the work where it can answer. It is to be called
// with mu held.
func (r *run) decide() bool {
	f := r.findings
	if len(r.none) > 0 {
		seen := *f
		seen.Evidence = r.evidence()
		f = &seen
	}
	if d, _ := r.engine.alone.Decide(f); d != Unknown {
		r.decided = true
		r.cancel()
	}
	return r.decided
}

// evidence is what there is without what was dropped.
func (r *run) evidence() []Evidence {
	kept := make([]Evidence, 0, len(r.findings.Evidence))
	for i, ev := range r.findings.Evidence {
		if !r.none[i] {
			kept = append(kept, ev)
		}
	}
	return kept
}

// settle moves candidates that the decision did not need from the evidence to
// those passed over.
func (r *run) settle() {
	f := r.findings
	f.Evidence = r.evidence()
	if !r.decided {
		return
	}
	kept := f.Evidence[:0]
	for _, ev := range f.Evidence {
		if ev.Outcome == Undetermined && ev.Reason.Cause == CauseIncomplete {
			f.passOver(ocispec.Descriptor{Digest: ev.Referrer, ArtifactType: ev.ArtifactType}, "the policy had decided already")
			continue
		}
		kept = append(kept, ev)
	}
	f.Evidence = kept
}

// errNoSignature says that a candidate that was listed without a type is none.
var errNoSignature = errors.New("it is no signature")

// fetch reads a candidate's manifest and holds it against what it must be: a
// registry can list anything as a referrer, and what it says of it is a hint. The
// bytes of the digest decide.
func (r *run) fetch(ctx context.Context, j job) (c Candidate, s Subject, err error) {
	ctx, end := BeginStep(ctx, Step{Stage: StageFetch, Host: r.subject.Reference.Registry})
	defer func() { end(Ending{Err: err}) }()
	defer r.engine.caught("reading the signature "+j.desc.Digest.String(), &err)
	s = r.subject
	if err := ValidateDigest(j.desc.Digest); err != nil {
		return Candidate{}, s, err
	}
	ref := r.subject.Reference
	listed := ocispec.Descriptor{MediaType: j.desc.MediaType, Digest: j.desc.Digest}
	b, err := r.store.Manifest(ctx, ref, listed)
	switch {
	case j.untyped && (errors.Is(err, ErrNotFound) || errors.Is(err, ErrLimit)):
		return Candidate{}, s, fmt.Errorf("%w that could be read: %v", errNoSignature, err)
	case errors.Is(err, ErrNotFound):
		return Candidate{}, s, fmt.Errorf("%w: listed as a referrer, but its manifest is not there", ErrMalformed)
	case err != nil:
		return Candidate{}, s, err
	}
	m, err := ParseArtifactManifest(ManifestMediaType(listed.MediaType, b), b)
	switch {
	case err != nil && j.untyped:
		return Candidate{}, s, fmt.Errorf("%w: %v", errNoSignature, err)
	case err != nil:
		return Candidate{}, s, err
	case len(r.engine.handlers(m.ArtifactType)) == 0: // whatever it refers to
	case m.Subject == nil || m.Subject.Digest != s.Descriptor.Digest:
		if j.untyped {
			return Candidate{}, s, fmt.Errorf("%w of this image: %v", errNoSignature, errOtherSubject)
		}
		return Candidate{}, s, errOtherSubject
	case m.Subject.Size != s.Descriptor.Size || m.Subject.MediaType != s.Descriptor.MediaType:
		// Either the signature is of something else, or what was said of the image
		// without its bytes is wrong.
		if s.Descriptor, err = r.readSubject(ctx, m.Subject.Size); err != nil {
			return Candidate{}, s, err
		}
	}
	listed.MediaType, listed.Size, listed.ArtifactType = m.MediaType, int64(len(b)), m.ArtifactType
	return Candidate{Descriptor: listed, Manifest: m, Blob: r.blobs(ref, len(r.engine.handlers(m.ArtifactType)) > 1)}, s, nil
}

// readSubject describes the image by its bytes, of which a signature says that they
// are so many. Where they are not, what is known of the image stands.
func (r *run) readSubject(ctx context.Context, size int64) (d ocispec.Descriptor, err error) {
	r.reading.Lock()
	defer r.reading.Unlock()
	d = r.subject.Descriptor
	if r.known.Digest != "" {
		return r.known, nil
	}
	if size <= 0 || r.read == maxSubjectReads {
		return d, nil
	}
	r.read++
	b, err := r.store.Manifest(ctx, r.subject.Reference, ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: size})
	switch {
	case errors.Is(err, ErrUnusable), errors.Is(err, ErrMalformed), errors.Is(err, ErrLimit), errors.Is(err, ErrNotFound):
		return d, nil
	case err != nil:
		return d, err
	}
	d.Size, d.MediaType = int64(len(b)), ManifestMediaType(d.MediaType, b)
	r.known = d
	r.mu.Lock()
	defer r.mu.Unlock()
	r.findings.Subject.Size, r.findings.Subject.MediaType = d.Size, d.MediaType
	return d, nil
}

// blobs returns the fetch function of one candidate. Where several verifiers
// read the same blob it is fetched once.
func (r *run) blobs(ref Reference, shared bool) func(context.Context, ocispec.Descriptor) ([]byte, error) {
	blob := func(ctx context.Context, d ocispec.Descriptor) (_ []byte, err error) {
		ctx, end := BeginStep(ctx, Step{Stage: StageFetch, Host: ref.Registry})
		defer func() { end(Ending{Err: err}) }()
		return r.store.Blob(ctx, ref, d)
	}
	if !shared {
		return blob
	}
	var last ocispec.Descriptor
	var content []byte
	return func(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
		if content != nil && d.Digest == last.Digest && d.Size == last.Size {
			return content, nil
		}
		b, err := blob(ctx, d)
		if err == nil {
			last, content = d, b
		}
		return b, err
	}
}

func (e *Engine) verify(ctx context.Context, v Verifier, s Subject, c Candidate) (ev Evidence, err error) {
	ctx, end := BeginStep(ctx, Step{Stage: StageVerify})
	defer func() { end(Ending{Err: err}) }()
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
