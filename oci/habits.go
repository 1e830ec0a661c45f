package oci

import (
	"sync/atomic"
	"time"
)

const (
	// tagSchemaMemory is how long a registry without a referrers API is asked for the
	// tag first.
	tagSchemaMemory = time.Hour
	// habitMemory is the same for what may be a passing fault: an API that fails, a
	// filter or a HEAD that is refused.
	habitMemory = 10 * time.Minute
)

// habits are what a registry was seen to do otherwise than the specification says.
// They choose which question comes first, never what an answer means. They are of
// one host of one Registry, so no other Store learns of them. The zero value is a
// registry that is not known to have any.
type habits struct {
	api       atomic.Pointer[noAPI]
	plainList atomic.Int64 // Unix time until which lists are asked for without a filter
	get       atomic.Int64 // the same for manifests by GET without a HEAD before it
}

// noAPI is a registry whose lists are under tags.
type noAPI struct {
	why   error // the API's failure; nil where it is not there (404)
	until time.Time
}

func (h *habits) noAPI(now time.Time) *noAPI {
	if n := h.api.Load(); n != nil && now.Before(n.until) {
		return n
	}
	return nil
}

func (h *habits) hasAPI() {
	if h.api.Load() != nil {
		h.api.Store(nil)
	}
}

func (h *habits) lacksAPI(now time.Time, why error) {
	life := tagSchemaMemory
	if why != nil {
		life = habitMemory
	}
	h.api.Store(&noAPI{why, now.Add(life)})
}

func (h *habits) unfiltered(now time.Time) bool { return now.Unix() < h.plainList.Load() }

func (h *habits) refusesFilter(now time.Time) { h.plainList.Store(now.Add(habitMemory).Unix()) }

func (h *habits) getFirst(now time.Time) bool { return now.Unix() < h.get.Load() }

func (h *habits) refusesHead(now time.Time) { h.get.Store(now.Add(habitMemory).Unix()) }
