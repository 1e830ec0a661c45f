package controller

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal/internal/compile"
)

// table holds every resource of the cluster, decoded, as it is and as it last
// worked. It is safe for concurrent use.
type table struct {
	mu    sync.Mutex
	rows  map[compile.Key]*row
	moved chan struct{} // closed by the next change; nil = nobody waits
}

type row struct {
	uid        types.UID
	generation int64
	current    *compile.Resource
	good       *compile.Resource
	gone       bool // it was deleted, and stays in force until its kind is known to be there
	goneAt     time.Time
}

func newTable() *table { return &table{rows: map[compile.Key]*row{}} }

// observe takes a version of a resource in, and reports whether anything in it
// changed that counts: the API server numbers the versions of a spec.
func (t *table) observe(u *unstructured.Unstructured) (changed bool, err error) {
	key := keyOf(u)
	t.mu.Lock()
	old := t.rows[key]
	if old != nil {
		copied := *old
		old = &copied
	}
	t.mu.Unlock()
	if old != nil && !old.gone && old.uid == u.GetUID() && old.generation == u.GetGeneration() {
		return false, nil
	}
	data, err := json.Marshal(u.Object)
	if err != nil {
		return false, fmt.Errorf("%s: %w", key, err)
	}
	r := &row{uid: u.GetUID(), generation: u.GetGeneration(), current: compile.DecodeObject(data)}
	t.mu.Lock()
	defer t.mu.Unlock()
	// What was deleted and made again is something else, and nothing of it is good yet.
	if old = t.rows[key]; old != nil {
		if old.uid == r.uid {
			r.good = old.good
		}
		old.drop(r.good)
	}
	t.rows[key] = r
	t.tell()
	return true, nil
}

// tell tells whoever waits that something changed. The caller holds mu.
func (t *table) tell() {
	if t.moved != nil {
		close(t.moved)
		t.moved = nil
	}
}

// present are all resources that were not deleted, and a channel that is closed when
// that is no longer so.
func (t *table) present() (entries []compile.Entry, moved <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries = make([]compile.Entry, 0, len(t.rows))
	for _, r := range t.rows {
		if !r.gone {
			entries = append(entries, compile.Entry{Current: r.current})
		}
	}
	if t.moved == nil {
		t.moved = make(chan struct{})
	}
	return entries, t.moved
}

// drop closes what is not kept.
func (r *row) drop(kept *compile.Resource) {
	for _, res := range []*compile.Resource{r.current, r.good} {
		if res != nil && res != kept {
			res.Close()
		}
	}
}

// mark notes that a resource was deleted, and reports whether it was there.
func (t *table) mark(key compile.Key, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r, ok := t.rows[key]
	if ok {
		r.gone, r.goneAt = true, now
		t.tell()
	}
	return ok
}

// marked are the resources that were deleted and are still in force. fresh reports
// whether there are more, of kinds that are to wait, which were deleted after since.
func (t *table) marked(since time.Time, waits func(kind string) bool) (out keysByKind, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out = keysByKind{}
	for key, r := range t.rows {
		switch {
		case !r.gone:
		case waits(key.Kind) && r.goneAt.After(since):
			fresh = true
		default:
			out[key.Kind] = append(out[key.Kind], key)
		}
	}
	return out, fresh
}

// has reports whether there are resources of a kind, last whether all of them were
// deleted.
func (t *table) has(kind string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key := range t.rows {
		if key.Kind == kind {
			return true
		}
	}
	return false
}

func (t *table) last(kind string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, r := range t.rows {
		if key.Kind == kind && !r.gone {
			return false
		}
	}
	return true
}

// sweep takes those of the resources out that are still deleted, and reports whether
// any was.
func (t *table) sweep(keys []compile.Key) (any bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, key := range keys {
		if r, ok := t.rows[key]; ok && r.gone {
			delete(t.rows, key)
			r.drop(nil)
			any = true
		}
	}
	return any
}

// version is which version of a resource an answer is about.
type version struct {
	uid        types.UID
	generation int64
}

// entries returns all resources, and their versions.
func (t *table) entries() ([]compile.Entry, map[compile.Key]version) {
	t.mu.Lock()
	defer t.mu.Unlock()
	entries := make([]compile.Entry, 0, len(t.rows))
	versions := make(map[compile.Key]version, len(t.rows))
	for k, r := range t.rows {
		entries = append(entries, compile.Entry{Current: r.current, Good: r.good})
		versions[k] = version{r.uid, r.generation}
	}
	return entries, versions
}

// settle notes which of the resources that were compiled work.
func (t *table) settle(entries []compile.Entry, standing map[compile.Key]*compile.Standing) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		key := e.Current.Key()
		r, st := t.rows[key], standing[key]
		if r == nil || r.current != e.Current || st == nil || !st.OK() {
			continue
		}
		if r.good != nil && r.good != r.current {
			r.good.Close()
		}
		r.good = r.current
	}
}

func keyOf(u *unstructured.Unstructured) compile.Key {
	return compile.Key{Kind: u.GetKind(), Namespace: u.GetNamespace(), Name: u.GetName()}
}
