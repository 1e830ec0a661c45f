package hub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/kube/served"
)

// known reports whether the hub cluster serves all kinds that say what is demanded.
// Who deletes a definition deletes its resources by the way, and what they demanded
// is then not known, rather than nothing: clusters keep what they have.
func (r *run) known(ctx context.Context) bool {
	if r.deleted.Swap(false) { // the API server may say so a moment after the resources went
		select {
		case <-ctx.Done():
			return false
		case <-time.After(served.Lag):
		}
	}
	why := ""
	kinds, err := served.Kinds(ctx, r.discovery, v1alpha1.GroupVersion)
	if err != nil {
		why = "whether all kinds of governance are still there could not be found out: " + err.Error()
	} else if lost := r.lost(kinds); len(lost) > 0 {
		why = fmt.Sprintf("the hub cluster does not know %s any more; apply the CustomResourceDefinitions (boltseal crds) and the resources again", strings.Join(lost, ", "))
	}
	if why != "" && why != r.unknown {
		r.o.Log.Error("no new requirements are published, and the last requirements still apply", "error", why)
	}
	if r.unknown = why; why != "" {
		r.deleted.Store(true) // what went with its kind is looked at with the same care
	}
	return why == ""
}

// lost are the kinds of governance that are not served.
func (r *run) lost(kinds map[string]bool) (lost []string) {
	for _, o := range watchedKinds() {
		gvks, _, err := r.scheme.ObjectKinds(o)
		if err != nil || len(gvks) != 1 || !kinds[gvks[0].Kind] {
			lost = append(lost, fmt.Sprintf("%T", o)[len("*v1alpha1."):])
		}
	}
	slices.Sort(lost)
	return lost
}
