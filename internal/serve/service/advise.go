package service

import (
	"context"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/controller"
)

const (
	// adviseAwait is how long what a change names is waited for: what was written just
	// before may not be known here yet. Whoever deletes does not write what names it.
	adviseAwait       = 300 * time.Millisecond
	adviseAwaitDelete = 100 * time.Millisecond
)

// advisedKinds are the kinds that advice is given on: the resources that are watched, and
// those of more.
func advisedKinds(more []schema.GroupVersionKind) []schema.GroupVersionKind {
	return slices.Concat(controller.Kinds(), more)
}

// advise says what whoever changes a resource should know.
func (s *Service) advise(ctx context.Context, c admission.Change, proven bool) []string {
	switch {
	case c.Group == v1beta1.GroupVersion.Group, c.Group == integrityv1.GroupVersion.Group:
		return s.adviseCluster(ctx, c, proven)
	case c.Operation == admission.Delete || s.o.Advise == nil || !slices.ContainsFunc(s.o.Advised, func(k schema.GroupVersionKind) bool { return k.Group == c.Group && k.Kind == c.Kind }):
		return nil
	}
	var out []string
	s.alone(ctx, func() {
		docs, err := strict.Documents("", c.Object)
		if err == nil && len(docs) == 1 { // what cannot be read is refused by its schema
			out = warningsOf(s.o.Advise(docs[0]))
		}
	})
	return out
}

func (s *Service) adviseCluster(ctx context.Context, c admission.Change, proven bool) []string {
	await := adviseAwait
	if c.Operation == admission.Delete {
		await = adviseAwaitDelete
	}
	ctx, cancel := context.WithTimeout(ctx, await)
	defer cancel()
	var o compile.ClusterOptions
	if s.o.Cluster != nil {
		o = s.o.Cluster.options()
	}
	var a compile.Advice
	for {
		var entries []compile.Entry
		var moved <-chan struct{}
		if s.cluster != nil {
			entries, moved = s.cluster.Resources()
		}
		done := s.alone(ctx, func() {
			a = compile.Advise(o, entries, compile.Change{Next: compile.DecodeObject(c.Object), Deleted: c.Operation == admission.Delete, Proven: proven}, s.deps(false))
		})
		if done && len(a.Others) > 0 && moved != nil {
			select {
			case <-moved:
				continue
			case <-ctx.Done():
			}
		}
		return append(warningsOf(a.Own), warningsOf(a.Others)...)
	}
}

// alone looks at a change when no other is looked at, and then leaves the processor to
// others for as long as that took: edits cost half of one at most. It reports false
// where it was not in time.
func (s *Service) alone(ctx context.Context, look func()) bool {
	select {
	case s.advising <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	begun := s.o.Clock()
	defer func() { time.AfterFunc(s.o.Clock().Sub(begun), func() { <-s.advising }) }()
	look()
	return true
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
