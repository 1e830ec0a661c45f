package tests

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// providerOf is a KeyManagementProvider with the roots of several chains.
func providerOf(name string, chains ...*testca.Chain) string {
	var pem strings.Builder
	for _, c := range chains {
		pem.Write(c.Root().PEM())
	}
	return document("KeyManagementProvider", "", name, "type: inline\n  parameters:\n    value: |\n      "+strings.ReplaceAll(strings.TrimSpace(pem.String()), "\n", "\n      "))
}

// live applies an edit, and measures the time from before the write until the
// verdict on an image is what it makes it.
func live(t testing.TB, s *server, edit, image string, trusted bool) time.Duration {
	t.Helper()
	begin := time.Now()
	apply(t, edit)
	eventually(t, fmt.Sprintf("%s is trusted: %t", image, trusted), func() error {
		got, text, err := s.verdict(image)
		if err != nil {
			t.Fatal(err)
		}
		return want(got == trusted, "%t: %s", got, text)
	})
	return time.Since(begin)
}

// quantiles are what of many times is reported.
func quantiles(times []time.Duration) string {
	slices.Sort(times)
	return fmt.Sprintf("p50 %s, p95 %s, most %s", times[len(times)/2].Round(100*time.Microsecond), times[len(times)*95/100].Round(100*time.Microsecond), times[len(times)-1].Round(100*time.Microsecond))
}

// TestEditsUnderLoad: a hundred edits of every kind go live while images are asked
// for without a pause. No request fails, and no verdict is another than both the
// configuration before and the one after give.
func TestEditsUnderLoad(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	always, _ := house.Signed("always", house.Signer)
	never, _ := house.Signed("never")
	flips, _ := house.Signed("flips", house.Stranger)
	ns, team := namespace(t, nil), namespace(t, nil)
	apply(t, providerOf("roots", house.Signer), store(""), verifier("", "verifier", "roots"), document("ImageIntegrityPolicy", "", "all", "match: {namespaces: ["+ns+"]}"),
		providerOf("unused", house.Signer), provider(team, "own", house.Signer), verifier(team, "verifier", "own"))
	becomes(t, always, true)
	becomes(t, "["+team+"]"+always, true)
	admission(t, ns, never, false)

	var count rounds
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for _, ask := range []func() (bool, string, error){
		func() (bool, string, error) { return boltseal.verdict(always) },
		func() (bool, string, error) { return boltseal.verdict("[" + team + "]" + always) },
		func() (bool, string, error) { ok, text, err := boltseal.verdict(never); return !ok, text, err },
		func() (bool, string, error) { ok, text := boltseal.admits(t, ns, always); return ok, text, nil },
		func() (bool, string, error) { ok, text := boltseal.admits(t, ns, never); return !ok, text, nil },
	} {
		wg.Go(func() {
			for ctx.Err() == nil {
				count.asked.Add(1)
				if right, text, err := ask(); err != nil || !right {
					count.failed.Add(1)
					t.Errorf("a wrong answer or none: %s %v", text, err)
				}
				time.Sleep(time.Millisecond) // waits: the pace of those who ask
			}
		})
	}
	// Edits between the flips, none of which changes a verdict.
	harmless := []func(i int) string{
		func(i int) string { return providerOf("unused", []*testca.Chain{house.Signer, house.Stranger}[i%2]) },
		func(i int) string {
			return document("Store", "", "store", fmt.Sprintf("name: oras\n  parameters: {useHttp: true, ttl: %d}", i))
		},
		func(i int) string {
			return strings.Replace(verifier("", "verifier", "roots"), "name: all", fmt.Sprint("name: all-", i), 1)
		},
		func(int) string {
			return document("Policy", "", "ratify-policy", "type: config-policy\n  parameters: {artifactVerificationPolicies: {default: any}}")
		},
		func(i int) string {
			return strings.Replace(verifier(team, "verifier", "own"), "name: all", fmt.Sprint("name: all-", i), 1)
		},
		func(i int) string {
			return document("ImageIntegrityPolicy", "", "all", fmt.Sprintf("match: {namespaces: [%s, other-%d]}", ns, i))
		},
		func(i int) string {
			return document("Verifier", "", fmt.Sprint("waiting-", i%3), "name: notation\n  artifactTypes: example/x\n  parameters: {nonsense: 1}")
		},
	}
	var times []time.Duration
	for i := range 50 {
		chains := []*testca.Chain{house.Signer}
		if i%2 == 0 {
			chains = append(chains, house.Stranger)
		}
		times = append(times, live(t, boltseal, providerOf("roots", chains...), flips, i%2 == 0))
		apply(t, harmless[i%len(harmless)](i))
	}
	stop()
	wg.Wait()
	t.Logf("100 edits, %s; from the write to the verdict: %s", &count, quantiles(times))
	if count.asked.Load() < 100 {
		t.Error("hardly anything was asked")
	}
}
