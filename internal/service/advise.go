package service

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/controller"
	"github.com/boltseal/boltseal/internal/strict"
)

const (
	// adviseAwait is how long what a change names is waited for: what was written just
	// before may not be known here yet. Whoever deletes does not write what names it.
	adviseAwait       = 300 * time.Millisecond
	adviseAwaitDelete = 100 * time.Millisecond
)

// advised are the kinds that advice is given on: the resources that are watched, and
// those of more.
func advised(more []schema.GroupVersionKind) []schema.GroupVersionKind {
	return slices.Concat(controller.Kinds(), more)
}

// advise says what whoever changes a resource should know.
func (s *Service) advise(ctx context.Context, c admission.Change, proven bool) []string {
	docs, err := strict.Documents("", c.Object)
	if err != nil || len(docs) != 1 {
		return nil // what cannot be read is refused by its schema
	}
	kind := docs[0].Text("kind")
	gv, err := schema.ParseGroupVersion(docs[0].Text("apiVersion"))
	switch {
	case err != nil:
		return nil
	case gv.Group == v1beta1.GroupVersion.Group, gv.Group == integrityv1.GroupVersion.Group:
		return s.adviseCluster(ctx, c, proven)
	case c.Operation == admission.Delete || s.o.Advise == nil || !slices.Contains(s.o.Advised, gv.WithKind(kind)):
		return nil
	}
	return warningsOf(s.o.Advise(docs[0]))
}

func (s *Service) adviseCluster(ctx context.Context, c admission.Change, proven bool) []string {
	await := adviseAwait
	if c.Operation == admission.Delete {
		await = adviseAwaitDelete
	}
	ctx, cancel := context.WithTimeout(ctx, await)
	defer cancel()
	var known compile.Advice
	for {
		var entries []compile.Entry
		var moved <-chan struct{}
		if s.cluster != nil {
			entries, moved = s.cluster.Resources()
		}
		// Resources keep what was made of them: the change has one of its own.
		change := compile.Change{Next: compile.DecodeObject(c.Object), Deleted: c.Operation == admission.Delete, Proven: proven}
		a, ok := s.adviseOnce(ctx, entries, change)
		if ok {
			known = a
		}
		if ok && len(a.Others) > 0 && moved != nil {
			select {
			case <-moved:
				continue
			case <-ctx.Done():
			}
		}
		return append(warningsOf(known.Own), warningsOf(known.Others)...)
	}
}

// adviseOnce looks at a change when no other is looked at. It reports false where
// that was not in time.
func (s *Service) adviseOnce(ctx context.Context, entries []compile.Entry, change compile.Change) (a compile.Advice, ok bool) {
	select {
	case s.advising <- struct{}{}:
		defer func() { <-s.advising }()
	case <-ctx.Done():
		return a, false
	}
	var o compile.ClusterOptions
	if s.o.Cluster != nil {
		o = s.o.Cluster.options()
	}
	return compile.Advise(o, entries, change, s.deps(false)), true
}

// warningsOf are problems as whoever wrote the resource reads them.
func warningsOf(ps []strict.Problem) []string {
	var out []string
	for _, p := range ps {
		p.File, p.Line, p.Object = "", 0, strict.Object{}
		out = append(out, p.Error())
	}
	return out
}
