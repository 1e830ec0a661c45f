package boltseal

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Cost is work that strangers can cause: whoever may push to a repository decides
// what a verification finds there.
type Cost struct {
	// Requests to registries, without tries that repeat one.
	Requests int64
	// Bytes of registries' answers.
	Bytes int64
	// PublicKeys are checks of one signature with one public key.
	PublicKeys int64
}

// Defaults of [Limits.Budget]. The dearest that an honest image costs is fifty
// signatures of fifty signers, each with a chain of four and a timestamp.
const (
	DefaultBudgetRequests   = 512
	DefaultBudgetBytes      = 32 << 20
	DefaultBudgetPublicKeys = 512
)

func (c Cost) withDefaults() Cost {
	if c.Requests <= 0 {
		c.Requests = DefaultBudgetRequests
	}
	if c.Bytes <= 0 {
		c.Bytes = DefaultBudgetBytes
	}
	if c.PublicKeys <= 0 {
		c.PublicKeys = DefaultBudgetPublicKeys
	}
	return c
}

// budget is what the verification of one manifest may still cost. Each manifest of
// an index has its own: what is found about one is shared by all images that have
// it, so it must not depend on what else an image has.
type budget struct {
	most                        Cost
	requests, bytes, publicKeys atomic.Int64
}

type budgetKey struct{}

// WithBudget returns a context for one verification that may cost so much; a field
// that is 0 means its default. An [Engine] makes one itself.
func WithBudget(ctx context.Context, most Cost) context.Context {
	return context.WithValue(ctx, budgetKey{}, &budget{most: most.withDefaults()})
}

// SpendBudget takes a cost from the budget of the verification that ctx belongs to;
// stores and verifiers call it before they do the work. The error wraps [ErrLimit]
// where that much is not left, and is nil where ctx belongs to no verification.
func SpendBudget(ctx context.Context, c Cost) error {
	b, _ := ctx.Value(budgetKey{}).(*budget)
	if b == nil {
		return nil
	}
	switch {
	case c.Requests > 0 && b.requests.Add(c.Requests) > b.most.Requests:
		return fmt.Errorf("%w: the verification of one image may ask registries %d times", ErrLimit, b.most.Requests)
	case c.Bytes > 0 && b.bytes.Add(c.Bytes) > b.most.Bytes:
		return fmt.Errorf("%w: the verification of one image may read %d bytes", ErrLimit, b.most.Bytes)
	case c.PublicKeys > 0 && b.publicKeys.Add(c.PublicKeys) > b.most.PublicKeys:
		return fmt.Errorf("%w: the verification of one image may check %d signatures with public keys, those of certificates included", ErrLimit, b.most.PublicKeys)
	}
	return nil
}

type keepKey struct{}

// kept are what is to be given back when the work on one signature ends.
type kept struct {
	mu    sync.Mutex
	give  []func()
	ended bool
}

// holdBudget returns a context for the work on one signature; done ends it.
func holdBudget(ctx context.Context) (_ context.Context, done func()) {
	k := &kept{}
	return context.WithValue(ctx, keepKey{}, k), func() {
		k.mu.Lock()
		give := k.give
		k.give, k.ended = nil, true
		k.mu.Unlock()
		for _, f := range give {
			f()
		}
	}
}

// KeepUntilDone has release called when the work that ctx belongs to does not use any
// more what it was given. It reports false where nothing says when that is.
func KeepUntilDone(ctx context.Context, release func()) bool {
	k, _ := ctx.Value(keepKey{}).(*kept)
	if k == nil {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return false
	}
	k.give = append(k.give, release)
	return true
}
