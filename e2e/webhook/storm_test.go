package webhook

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// TestStorm creates Pods of many images as fast as the API server takes them, while the registry is 20 ms away and
// answers 429 to a tenth of the requests. BOLTSEAL_STORM=PODS/IMAGES changes its size.
func TestStorm(t *testing.T) {
	pods, distinct := 400, 40
	if text := os.Getenv("BOLTSEAL_STORM"); text != "" {
		a, b, _ := strings.Cut(text, "/")
		var err1, err2 error
		pods, err1 = strconv.Atoi(a)
		distinct, err2 = strconv.Atoi(b)
		if err := errors.Join(err1, err2); err != nil || distinct < 1 || pods < distinct {
			t.Fatalf("BOLTSEAL_STORM=%q is not PODS/IMAGES", text)
		}
	}
	settled(t)
	ns := namespace(t, "prod")
	type picture struct {
		ref   string
		trust bool
	}
	pictures := make([]picture, distinct)
	for i := range pictures {
		if pictures[i].trust = i%10 != 0; pictures[i].trust {
			pictures[i].ref, _ = image(fmt.Sprint("storm-", i), signer)
		} else {
			pictures[i].ref, _ = image(fmt.Sprint("storm-", i))
		}
	}
	before := verified(t)
	registry.SetLatency(20 * time.Millisecond)
	t.Cleanup(func() { registry.SetLatency(0) })
	t.Cleanup(registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 429, RetryAfter: "0", Probability: 0.1}))

	const workers = 32
	took := make([]time.Duration, pods)
	var next, wrong atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range workers {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(pods); i = next.Add(1) - 1 {
				p := pictures[int(i)%distinct]
				start := time.Now()
				err := cluster.Client().Create(t.Context(), pod(ns, fmt.Sprint("storm-", i), p.ref))
				took[i] = time.Since(start)
				if why := wrongly(p.trust, err); why != "" && wrong.Add(1) <= 5 {
					t.Errorf("%s: %s: %v", p.ref, why, err)
				}
			}
		})
	}
	wg.Wait()
	all := time.Since(begin)
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d of %d verdicts are wrong", n, pods)
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[int(q*float64(pods-1))].Round(time.Millisecond) }
	after := verified(t)
	for name, n := range after {
		done := n - before[name]
		t.Logf("%s verified %d images", name, done)
		if done > distinct {
			t.Errorf("%s verified %d images of %d", name, done, distinct)
		}
	}
	t.Logf("%d Pods of %d images in %s: %.0f/s; p50 %s, p99 %s, longest %s", pods, distinct, all.Round(time.Millisecond),
		float64(pods)/all.Seconds(), at(0.5), at(0.99), at(1))
}

// wrongly says what is wrong with the answer to a Pod.
func wrongly(trust bool, err error) string {
	switch {
	case trust && err != nil:
		return "a trusted image was refused"
	case !trust && err == nil:
		return "an unsigned image was admitted"
	case !trust && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "nothing signed")):
		return "it was refused for another reason"
	}
	return ""
}

// verified is how many images each replica has verified so far.
func verified(t *testing.T) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, r := range standing {
		_, text, err := get(context.WithoutCancel(t.Context()), "http://"+r.metrics+"/metrics")
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for line := range strings.Lines(text) {
			if value, ok := strings.CutPrefix(strings.TrimSpace(line), "boltseal_verifications_total "); ok {
				f, err := strconv.ParseFloat(value, 64)
				if err != nil {
					t.Fatal(err)
				}
				out[r.name], found = int(f), true
			}
		}
		if !found {
			t.Fatalf("%s does not count verifications", r.name)
		}
	}
	return out
}
