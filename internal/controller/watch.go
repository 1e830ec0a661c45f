package controller

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// watchKind hands a kind's objects to the handler, and calls known once all that
// are there were handed over. A kind that the cluster does not know is looked for
// again and again. Where it may be absent it is taken to have no objects, once the
// cluster knows those kinds that may not: an API server that has just started may
// not list what it has.
func (c *Controller) watchKind(ctx context.Context, o client.Object, kind string, absent bool, h toolscache.ResourceEventHandler, known func()) {
	told := false
	count := sync.OnceFunc(known)
	for {
		ours := c.kinds.ours
		select {
		case <-ours:
			ours = nil
		default:
		}
		inf, err := c.cache.GetInformer(ctx, o, cache.BlockUntilSynced(false))
		var reg toolscache.ResourceEventHandlerRegistration
		if err == nil {
			reg, err = inf.AddEventHandler(h)
		}
		switch {
		case err == nil:
			c.kinds.wait(kind, "not all of them have been read")
			if toolscache.WaitForCacheSync(ctx.Done(), reg.HasSynced) {
				count()
			}
			return
		case ctx.Err() != nil:
			return
		case meta.IsNoMatchError(err):
			c.kinds.wait(kind, "the cluster does not know this kind: boltseal crds prints its definition")
			if absent && ours == nil {
				count()
			}
			if !told {
				c.o.Log.Warn("the cluster does not know a kind; apply the CustomResourceDefinitions (boltseal crds)", "kind", kind)
			}
		default:
			c.kinds.wait(kind, "it cannot be looked for")
			c.kinds.failed(err)
			if !told {
				c.o.Log.Warn("a kind cannot be watched yet, and is tried again", "kind", kind, "error", err.Error())
			}
		}
		told = true
		if !absent {
			ours = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-ours: // those that may not be absent are known now
		case <-time.After(retryKind):
		}
	}
}
