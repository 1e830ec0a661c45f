package boltseal

import (
	"context"
	"errors"
	"fmt"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// DefaultPlatforms is how many manifests of one index are looked at.
const DefaultPlatforms = 32

var errUnjudged = errors.New("an index that cannot be checked platform by platform")

// Share answers for one manifest of an index, ref naming it by its digest: by what
// is known of it, or by calling collect, with a context that ends no later than
// ctx. What a cancelled ctx left unfinished must not be kept.
type Share func(ctx context.Context, ref Reference, collect func(context.Context) Result) Result

// WithShare returns an engine whose manifests of indexes are answered by share, so
// that those which several images have in common are verified once. An engine that
// does not look below indexes is returned as it is.
func (e *Engine) WithShare(share Share) *Engine {
	if e.index == nil {
		return e
	}
	other := *e
	other.share = share
	return &other
}

// WithPolicy returns an engine that differs in its policy only.
func (e *Engine) WithPolicy(p Policy) *Engine {
	other := *e
	other.setPolicy(p)
	return &other
}

func (e *Engine) setPolicy(p Policy) {
	e.policy, e.alone, e.index = p, p, nil
	if ip, ok := p.(IndexPolicy); ok {
		e.alone = ip.Alone()
		if m := ip.MultiArch(); m.demand() != Named {
			e.index = &m
		}
	}
}

// below looks at the manifests of an index as the policy demands, and fills
// f.Index. The first denial that settles the image ends the work on the others.
func (e *Engine) below(ctx context.Context, store Store, f *Findings) {
	f.Index = &IndexFindings{Demand: e.index.Demand}
	look := looking{engine: e, store: store, findings: f}
	self := []entry{{f.Subject, ThisIndex}}
	switch e.index.Demand {
	case Either:
		f.Index.Manifests = look.at(ctx, self, "")
		if f.Index.Manifests[0].Decision != Allow {
			f.Index.Manifests = append(f.Index.Manifests, look.at(ctx, look.entries(ctx), "")...)
		}
	case Whole:
		var own []PlatformResult
		var wg sync.WaitGroup
		wg.Go(func() { own = look.at(ctx, self, "") })
		entries := look.entries(ctx)
		wg.Wait()
		denied := ""
		if own[0].Decision == Deny {
			denied = ThisIndex
		}
		f.Index.Manifests = append(own, look.at(ctx, entries, denied)...)
	default:
		f.Index.Manifests = look.at(ctx, look.entries(ctx), "")
	}
}

// looking is the state of the work on one index.
type looking struct {
	engine   *Engine
	store    Store
	findings *Findings
}

// entries are what is to be looked at in the index, nil where that cannot be said:
// the findings then say why.
func (l *looking) entries(ctx context.Context) []entry {
	if why := l.engine.index.Unread; why != "" {
		l.findings.Index.Failure = Reason{Cause: CauseUnavailable, Message: "which of the image's platforms matter is not known: " + why, Remedy: remedyUnread}
		return nil
	}
	out, err := l.read(ctx)
	if err == nil {
		return out
	}
	why := ReasonOf(err)
	switch {
	case errors.Is(err, errUnjudged):
		why.Cause, why.Remedy = CauseUnsupported, remedyIndex
	case errors.Is(err, ErrLimit):
		why.Remedy = remedyIndex
	}
	l.findings.Index.Failure = why
	return nil
}

const remedyUnread = "let Boltseal list and watch the cluster's Nodes, or list platforms in the Policy in their place"

const remedyIndex = "build the image for the platforms that nodes run, or list those in the Policy's platforms, or sign the index and set the Policy's multiArch to named or either"

// read reads the index: the bytes that the digest names, and no others.
func (l *looking) read(ctx context.Context) (out []entry, err error) {
	f := l.findings
	ctx, end := BeginStep(ctx, Step{Stage: StageFetch, Host: f.Reference.Registry})
	defer func() { end(Ending{Err: err}) }()
	defer l.engine.caught("reading the index "+f.Subject.Digest.String(), &err)
	ref := f.Reference.WithDigest(f.Subject.Digest)
	b, err := l.store.Manifest(ctx, ref, f.Subject)
	if err != nil {
		return nil, err
	}
	ix, err := ParseIndex(f.Subject.MediaType, b)
	if err != nil {
		return nil, &StoreError{Op: "read index", Host: ref.Registry, Target: ref.String(), Err: err}
	}
	return l.engine.index.choose(ix, l.engine.limits.Platforms, f.Index)
}

// at judges every entry by itself, as many at a time as one image may have
// candidates, and stops at a denial: at once where it is told of one elsewhere.
func (l *looking) at(ctx context.Context, entries []entry, denied string) []PlatformResult {
	if len(entries) == 0 {
		return nil
	}
	workers := min(l.engine.limits.Concurrency, len(entries))
	each := *l.engine
	each.limits.Concurrency = max(1, each.limits.Concurrency/workers)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make([]PlatformResult, len(entries))
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		next int
	)
	work := func() {
		for {
			mu.Lock()
			i := next
			next++
			stop := denied != ""
			mu.Unlock()
			if i >= len(entries) {
				return
			}
			var r Result
			if !stop {
				r = each.one(ctx, l.store, l.findings, entries[i].desc)
			}
			mu.Lock()
			switch {
			case stop || r.Decision == Unknown && denied != "": // it may be so for being cut off
				r = l.unfinished(entries[i].desc, denied)
			case r.Decision == Deny && denied == "":
				denied = entries[i].platform
				cancel()
			}
			mu.Unlock()
			out[i] = PlatformResult{entries[i].platform, r}
		}
	}
	for range workers - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return out
}

// unfinished is the result of a manifest that was not looked at, for another one
// is denied already.
func (l *looking) unfinished(d ocispec.Descriptor, denied string) Result {
	f := l.engine.newFindings(l.findings.Reference.WithDigest(d.Digest))
	f.Subject, f.Store = d, l.findings.Store
	f.Failure = Reason{Cause: CauseIncomplete, Message: fmt.Sprintf("not checked: %s is not trusted already", denied)}
	return Result{Decision: Unknown, Reason: f.Failure, Findings: f}
}

// one judges a manifest of the image by itself.
func (e *Engine) one(ctx context.Context, store Store, image *Findings, d ocispec.Descriptor) (r Result) {
	ref := image.Reference.WithDigest(d.Digest)
	var broken error
	defer func() {
		if broken != nil {
			r = Result{Reason: ReasonOf(broken), Findings: e.newFindings(ref)}
			r.Subject, r.Failure = d, r.Reason
		}
	}()
	defer e.caught("checking "+ref.String(), &broken)
	collect := func(ctx context.Context) Result {
		f := e.newFindings(ref)
		f.Store = image.Store
		return decideFindings(e.alone, e.listed(ctx, store, f, d))
	}
	if e.share == nil {
		return collect(ctx)
	}
	r = e.share(ctx, ref, collect)
	if r.Subject.Digest != d.Digest || r.Subject.Size != d.Size || r.Subject.MediaType != d.MediaType {
		// Another index describes the same digest in another way: one of them is wrong,
		// and signatures speak of one.
		return collect(ctx)
	}
	return r
}
