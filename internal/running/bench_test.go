package running

import (
	"fmt"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
)

// BenchmarkSecondLook looks at 10,000 Pods with 2,000 images of which everything is
// known: what a pass costs when nothing has changed.
func BenchmarkSecondLook(b *testing.B) {
	v := NewInventory(nil)
	for i := range 10_000 {
		image := fmt.Sprintf("registry.example/team%02d/app%04d", i%50, i%2000)
		v.AddPod(podOf(fmt.Sprintf("namespace-%03d", i%100), fmt.Sprintf("app-%04d-7d9c6b5f4-%05d", i%2000, i), image+":v1", fmt.Sprintf("%s@sha256:%064x", image, i%2000)))
	}
	policy, problems := integrity.Compile("all", v1alpha1.ImageIntegrityPolicySpec{})
	if len(problems) > 0 {
		b.Fatal(problems)
	}
	engine := &boltseal.Engine{}
	snap := &snapshot.Snapshot{Engines: engines{cluster: engine}, Policies: integrity.NewSet([]*integrity.Policy{policy}), Memo: memo.New(memo.Options{})}
	j := NewJudge(JudgeOptions{})
	for _, u := range j.plan(b.Context(), snap, v).units {
		j.known[u] = verdict{decision: boltseal.Allow, until: time.Now().Add(time.Hour)}
	}
	b.ReportAllocs()
	for b.Loop() {
		p := j.plan(b.Context(), snap, v)
		if open := j.open(p); len(open) != 0 {
			b.Fatal(len(open))
		}
		if r := j.result(p); r.Images.Trusted != 2000 {
			b.Fatalf("%+v", r.Images)
		}
	}
}
