package memo

import (
	"context"
	"fmt"
	"runtime"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/fair"
)

// turnsAtATime is how much work that only uses processors is done at a time: one
// processor fewer than there are, so that what is known need not wait for it.
func turnsAtATime() int { return max(runtime.GOMAXPROCS(0)-1, 1) }

// turn waits until work that only uses a processor may be done.
func (m *Memo) turn(ctx context.Context) (done func(), err error) { return slotOf(ctx, m.turns) }

func slotOf(ctx context.Context, slots *fair.Slots) (done func(), err error) {
	if err := slots.Take(ctx, boltseal.AskerOf(ctx)); err != nil {
		return nil, fmt.Errorf("%w: the verification was cut off before it ended: %w", boltseal.ErrUnavailable, err)
	}
	return slots.Give, nil
}
