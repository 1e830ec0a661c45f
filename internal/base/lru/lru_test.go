package lru_test

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/boltseal/boltseal/internal/base/lru"
)

func TestCacheStaysWithinItsBound(t *testing.T) {
	const most = 16 * 100
	c := lru.New[int, int](most)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(g)))
			for range 20_000 {
				k := r.IntN(5000)
				switch r.IntN(4) {
				case 0:
					c.Delete(k)
				case 1:
					if v, ok := c.Get(k); ok && v != k {
						t.Errorf("key %d holds %d", k, v)
					}
				default:
					c.Put(k, k, int64(r.IntN(20)))
				}
			}
		})
	}
	wg.Wait()
	if n, cost := c.Usage(); cost > most || n == 0 {
		t.Fatalf("%d entries cost %d, bound %d", n, cost, most)
	}
}

func TestCacheForgetsTheLeastRecent(t *testing.T) {
	c := lru.New[int, string](16 * 2)
	for i := range 1000 { // every shard is full now
		c.Put(i, "old", 1)
	}
	c.Put(-1, "kept", 1)
	for i := 1000; i < 3000; i++ {
		if _, ok := c.Get(-1); !ok {
			t.Fatalf("an entry in constant use was forgotten at %d", i)
		}
		c.Put(i, "new", 1)
	}
}

// TestUseCountsWithoutNews: what is used again and again while nothing is put is
// used, too, when something is.
func TestUseCountsWithoutNews(t *testing.T) {
	c := lru.NewWhole[int, int](10)
	for i := range 10 {
		c.Put(i, i, 1)
	}
	for range 3 {
		for _, k := range []int{0, 1, 2} {
			c.Get(k)
		}
	}
	for i := 10; i < 17; i++ {
		c.Put(i, i, 1)
	}
	for k := range 17 {
		if _, ok := c.Get(k); ok != (k < 3 || k >= 10) {
			t.Errorf("key %d is kept: %v", k, ok)
		}
	}
}

func TestReplacingReturnsTheCost(t *testing.T) {
	c := lru.New[string, int](16 * 10)
	for i := range 100 {
		c.Put("k", i, 7)
	}
	if v, ok := c.Get("k"); !ok || v != 99 {
		t.Fatalf("got %d, %v", v, ok)
	}
	if n, cost := c.Usage(); n != 1 || cost != 7 {
		t.Fatalf("%d entries cost %d", n, cost)
	}
	c.Put("k", 0, 1000) // too dear to keep: the old value must be gone too
	if _, ok := c.Get("k"); ok {
		t.Fatal("a value that was replaced is still answered")
	}
}

func TestDeleteFunc(t *testing.T) {
	c := lru.New[int, int](1 << 20)
	for i := range 100 {
		c.Put(i, i, 10)
	}
	c.DeleteFunc(func(k int) bool { return k%2 == 0 })
	if n, cost := c.Usage(); n != 50 || cost <= 0 {
		t.Errorf("%d entries of cost %d", n, cost)
	}
	for i := range 100 {
		if _, ok := c.Get(i); ok != (i%2 == 1) {
			t.Errorf("%d is there: %t", i, ok)
		}
	}
	c.DeleteFunc(func(int) bool { return true })
	if n, cost := c.Usage(); n != 0 || cost != 0 {
		t.Errorf("%d entries of cost %d", n, cost)
	}
}
