// Package lru is a cache bounded by cost (bytes, as its user counts them), safe for concurrent use.
package lru

import (
	"hash/maphash"
	"sync"
)

// defaultShards: enough that 32 goroutines seldom meet, few enough that the
// bound of each is still a useful size.
const defaultShards = 16

// Cache forgets what was used least recently once the sum of costs passes its
// bound. The zero value is not usable; see New.
type Cache[K comparable, V any] struct {
	seed  maphash.Seed
	shard []shard[K, V]
}

// shard finds entries by their keys' hash: a key is hashed once, and long ones
// stand in the entry alone. Of two keys with one hash the later is kept.
type shard[K comparable, V any] struct {
	mu         sync.Mutex
	entries    map[uint64]*entry[K, V]
	head       entry[K, V] // ring; head.next is the most recent
	cost, most int64
	puts       uint32
}

type entry[K comparable, V any] struct {
	prev, next *entry[K, V]
	key        K
	value      V
	cost       int64
	hash       uint64
	moved      uint32 // shard.puts when it was last moved to the front
}

// New makes a cache whose entries' costs add up to at most most. An entry that
// costs more than a sixteenth of it is not kept.
func New[K comparable, V any](most int64) *Cache[K, V] { return newSharded[K, V](most, defaultShards) }

// NewWhole makes a cache for few and large entries: one may cost as much as the
// whole cache.
func NewWhole[K comparable, V any](most int64) *Cache[K, V] { return newSharded[K, V](most, 1) }

func newSharded[K comparable, V any](most int64, shards int) *Cache[K, V] {
	c := &Cache[K, V]{seed: maphash.MakeSeed(), shard: make([]shard[K, V], shards)}
	for i := range c.shard {
		s := &c.shard[i]
		s.entries = make(map[uint64]*entry[K, V])
		s.most = most / int64(shards)
		s.head.prev, s.head.next = &s.head, &s.head
	}
	return c
}

func (c *Cache[K, V]) of(k K) (*shard[K, V], uint64) {
	h := maphash.Comparable(c.seed, k)
	return &c.shard[h%uint64(len(c.shard))], h
}

// Get returns what Put stored under k, if it is still there.
func (c *Cache[K, V]) Get(k K) (V, bool) {
	s, h := c.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[h]
	if !ok || e.key != k {
		var zero V
		return zero, false
	}
	// What was used since the last Put stands before all else already, and in which
	// order does not matter: not moving it spares the neighbours' cache lines.
	if e.moved != s.puts {
		s.unlink(e)
		s.link(e)
	}
	return e.value, true
}

// Put stores v under k, replacing what was there.
func (c *Cache[K, V]) Put(k K, v V, cost int64) {
	s, h := c.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[h]; ok {
		s.drop(e)
	}
	if cost > s.most {
		return
	}
	e := &entry[K, V]{key: k, value: v, cost: cost, hash: h}
	s.entries[h] = e
	s.puts++
	s.link(e)
	s.cost += cost
	for s.cost > s.most {
		s.drop(s.head.prev)
	}
}

// Delete forgets k.
func (c *Cache[K, V]) Delete(k K) {
	s, h := c.of(k)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.entries[h]; ok && e.key == k {
		s.drop(e)
	}
}

// DeleteFunc forgets every key that gone reports true for. gone must not use the
// cache.
func (c *Cache[K, V]) DeleteFunc(gone func(K) bool) {
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		for _, e := range s.entries {
			if gone(e.key) {
				s.drop(e)
			}
		}
		s.mu.Unlock()
	}
}

// Usage returns the number of entries and the sum of their costs.
func (c *Cache[K, V]) Usage() (entries int, cost int64) {
	for i := range c.shard {
		s := &c.shard[i]
		s.mu.Lock()
		entries += len(s.entries)
		cost += s.cost
		s.mu.Unlock()
	}
	return entries, cost
}

func (s *shard[K, V]) link(e *entry[K, V]) {
	e.prev, e.next = &s.head, s.head.next
	e.prev.next, e.next.prev = e, e
	e.moved = s.puts
}

func (s *shard[K, V]) unlink(e *entry[K, V]) {
	e.prev.next, e.next.prev = e.next, e.prev
}

func (s *shard[K, V]) drop(e *entry[K, V]) {
	s.unlink(e)
	delete(s.entries, e.hash)
	s.cost -= e.cost
}
