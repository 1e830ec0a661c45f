package timing_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/tracing/timing"
)

// told counts what an observer is told of.
type told struct {
	began []boltseal.Step
	ended []boltseal.Ending
}

type mark struct{}

func (o *told) Begin(ctx context.Context, s boltseal.Step) (context.Context, func(boltseal.Ending)) {
	o.began = append(o.began, s)
	return context.WithValue(ctx, mark{}, true), func(e boltseal.Ending) { o.ended = append(o.ended, e) }
}

// TestStepsSideBySideCountOnce: a stage's time is that in which something was under
// way, not the sum of all that was.
func TestStepsSideBySideCountOnce(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	pass := func(d time.Duration) { now = now.Add(d) }
	next := &told{}
	r := timing.NewRecorder(func() time.Time { return now }, next)
	begin := func(s boltseal.Stage, host string) func(boltseal.Ending) {
		ctx, end := r.Begin(t.Context(), boltseal.Step{Stage: s, Host: host})
		if ctx.Value(mark{}) == nil {
			t.Error("the next observer's context is lost")
		}
		return end
	}
	one := begin(boltseal.StageFetch, "r")
	pass(time.Second)
	two := begin(boltseal.StageFetch, "r")
	pass(time.Second)
	one(boltseal.Ending{})
	pass(time.Second)
	two(boltseal.Ending{Err: errors.New("late")})
	pass(time.Second)
	quick, slow := begin(boltseal.StageRequest, "quick"), begin(boltseal.StageRequest, "slow")
	pass(time.Second)
	quick(boltseal.Ending{Status: 200})
	pass(time.Second)
	got := r.Times()
	if got.Stages[boltseal.StageFetch] != 3*time.Second || got.Stages[boltseal.StageRequest] != 2*time.Second {
		t.Errorf("%v", got.Stages)
	}
	if want := (timing.Request{Host: "slow", Took: 2 * time.Second}); got.Slowest != want {
		t.Errorf("what is under way: %+v", got.Slowest)
	}
	slow(boltseal.Ending{Status: 503})
	long := begin(boltseal.StageRequest, strings.Repeat("h", 1000))
	pass(time.Hour)
	long(boltseal.Ending{})
	if got := r.Times().Slowest; len(got.Host) > 300 || got.Took != time.Hour {
		t.Errorf("%+v", got)
	}
	if len(next.began) != 5 || len(next.ended) != 5 || next.ended[1].Err == nil || next.ended[2].Status != 200 {
		t.Errorf("%+v", next)
	}
}
