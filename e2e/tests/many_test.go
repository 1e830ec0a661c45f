package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

const (
	manyProviders = 2000
	manyEdits     = 300
	workers       = 8
)

// metric reads one sample of a server's metrics.
func (s *server) metric(t testing.TB, name string) float64 {
	t.Helper()
	_, text, err := get(t.Context(), s.metrics+"/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

var heapAlloc = regexp.MustCompile(`# HeapAlloc = (\d+)`)

// memory is what a server holds after a garbage collection, and what the kernel
// counts, in MiB.
func (s *server) memory(t testing.TB) (heap, resident float64) {
	t.Helper()
	var text string
	for range 2 { // finalizers run after the first
		var err error
		if _, text, err = get(t.Context(), s.metrics+"/debug/pprof/heap?gc=1&debug=1"); err != nil {
			t.Fatal(err)
		}
	}
	m := heapAlloc.FindStringSubmatch(text)
	if m == nil {
		t.Fatal("the profile tells no size")
	}
	bytes, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.PID()))
	if err != nil {
		return bytes / (1 << 20), 0 // not Linux
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			if kb, err := strconv.ParseFloat(f[1], 64); err == nil {
				resident = kb / 1024
			}
		}
	}
	return bytes / (1 << 20), resident
}

// applyAll applies documents by several workers.
func applyAll(t testing.TB, n int, doc func(i int) string) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				errs[w] = cluster.Apply(t.Context(), doc(i))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func providersReady(t testing.TB, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d providers are in force", n), func() error {
		have := boltseal.metric(t, `boltseal_resources{kind="KeyManagementProvider",ready="true"}`)
		return want(have == float64(n), "%v are", have)
	})
}

// statusesWritten waits until every provider has a status of its present version.
func statusesWritten(t testing.TB) {
	t.Helper()
	eventually(t, "all statuses are written", func() error {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(object("KeyManagementProvider", "", "").GroupVersionKind())
		if err := cluster.Client().List(t.Context(), list); err != nil {
			return err
		}
		for _, u := range list.Items {
			if ok, _, _ := unstructured.NestedBool(u.Object, "status", "issuccess"); !ok {
				return fmt.Errorf("%s has %v", u.GetName(), u.Object["status"])
			}
		}
		return nil
	})
}

// TestThousandsOfProviders: with 2,000 of them an edit is live as with none, and
// memory does not grow with edits.
func TestThousandsOfProviders(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"))
	becomes(t, image, true)
	chains := make([]*testca.Chain, 40)
	for i := range chains {
		chains[i] = testca.Test(t, testca.Options{})
	}
	other := func(i, version int) string {
		return provider("", fmt.Sprintf("provider-%04d", i), chains[(i+version)%len(chains)])
	}

	// edits measures edits of the one provider that the verifier uses.
	edits := func(what string, n int) {
		t.Helper()
		cpu := boltseal.metric(t, "process_cpu_seconds_total")
		var times []time.Duration
		for i := range n {
			chain := house.Signer
			if i%2 == 0 {
				chain = house.Stranger
			}
			times = append(times, live(t, boltseal, provider("", "roots", chain), image, i%2 != 0))
		}
		cpu = boltseal.metric(t, "process_cpu_seconds_total") - cpu
		t.Logf("%s: from the write to the verdict: %s; %.1f ms of CPU per edit, asking included", what, quantiles(times), 1000*cpu/float64(n))
	}
	edits("with no other provider", 40)
	emptyHeap, emptyRSS := boltseal.memory(t)

	begin := time.Now()
	applyAll(t, manyProviders, func(i int) string { return other(i, 0) })
	created := time.Since(begin)
	providersReady(t, manyProviders+1)
	t.Logf("%d providers were created in %s, and in force %s later", manyProviders, created.Round(time.Millisecond), (time.Since(begin) - created).Round(time.Millisecond))
	edits(fmt.Sprintf("with %d providers whose statuses are being written", manyProviders), 10)
	statusesWritten(t)
	t.Logf("all statuses are written %s after the first was created", time.Since(begin).Round(time.Millisecond))
	edits(fmt.Sprintf("with %d providers", manyProviders), 40)

	heap, rss := boltseal.memory(t)
	for round := range 2 {
		applyAll(t, manyEdits, func(i int) string { return other(i, round+1) })
		edits("and after more edits", 20)
		statusesWritten(t)
	}
	heapAfter, rssAfter := boltseal.memory(t)
	t.Logf("heap: %.1f MiB with none, %.1f MiB with %d, %.1f MiB after %d edits; resident: %.0f, %.0f, %.0f MiB",
		emptyHeap, heap, manyProviders, heapAfter, 2*manyEdits+40, emptyRSS, rss, rssAfter)
	if heapAfter > heap*1.15+4 {
		t.Errorf("the heap grew from %.1f to %.1f MiB", heap, heapAfter)
	}
	if rssAfter > rss*1.3+32 {
		t.Errorf("resident memory grew from %.0f to %.0f MiB", rss, rssAfter)
	}

	// One verifier that trusts them all.
	names := []string{"roots"}
	for i := range manyProviders {
		names = append(names, fmt.Sprintf("provider-%04d", i))
	}
	apply(t, verifier("", "verifier", names...))
	stands(t, "Verifier", "", "verifier", true)
	edits(fmt.Sprintf("with a verifier that trusts all %d", manyProviders+1), 10)
	manyImages(t, house)
	apply(t, verifier("", "verifier", "roots"))

	if err := cluster.Client().DeleteAllOf(t.Context(), object("KeyManagementProvider", "", "")); err != nil {
		t.Fatal(err)
	}
	providersReady(t, 0)
	left, _ := boltseal.memory(t)
	t.Logf("heap after all were deleted: %.1f MiB", left)
	if left > emptyHeap+(heap-emptyHeap)/2 {
		t.Errorf("of %.1f MiB, %.1f are still there", heap, left)
	}
}

// manyImages verifies distinct signed images, BOLTSEAL_MANY_IMAGES of them.
func manyImages(t *testing.T, house *testhouse.House) {
	t.Helper()
	n := 500
	if text := os.Getenv("BOLTSEAL_MANY_IMAGES"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	images := make([]string, n)
	for i := range images {
		images[i], _ = house.Signed(fmt.Sprint("many-", i), house.Signer)
	}
	cpu, begin := boltseal.metric(t, "process_cpu_seconds_total"), time.Now()
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += workers {
				ok, text, err := boltseal.verdict(images[i])
				if errs[w] = err; err == nil && !ok {
					errs[w] = fmt.Errorf("%s: %s", images[i], text)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	cpu = boltseal.metric(t, "process_cpu_seconds_total") - cpu
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	heap, rss := boltseal.memory(t)
	t.Logf("%d distinct signed images beside %d providers, %d at a time: %.0f/s, %.2f ms of CPU each; heap %.1f MiB, resident %.0f MiB",
		n, manyProviders+1, workers, float64(n)/took.Seconds(), 1000*cpu/float64(n), heap, rss)
}

// TestNamespacesChurn: namespaces with resources of their own that come and go
// leave nothing behind.
func TestNamespacesChurn(t *testing.T) {
	clean(t)
	house := testhouse.New(t, testhouse.Options{})
	image, _ := house.Signed("signed", house.Signer)
	apply(t, provider("", "roots", house.Signer), store(""), verifier("", "verifier", "roots"))
	becomes(t, image, true)
	spaces := make([]string, 10)
	for i := range spaces {
		spaces[i] = namespace(t, nil)
	}
	churn := func() {
		for _, ns := range spaces {
			docs := []string{provider(ns, "own", house.Stranger), store(ns), verifier(ns, "verifier", "own"), document("ImageIntegrityPolicy", ns, "own", "onUnavailable: {action: lastKnownGood}")}
			apply(t, docs...)
			becomes(t, "["+ns+"]"+image, false)
			if err := cluster.Delete(context.WithoutCancel(t.Context()), docs...); err != nil {
				t.Fatal(err)
			}
			becomes(t, "["+ns+"]"+image, true)
		}
	}
	churn()
	before, _ := boltseal.memory(t)
	for range 4 {
		churn()
	}
	after, _ := boltseal.memory(t)
	t.Logf("heap: %.1f MiB, and %.1f MiB after 40 namespaces' resources came and went", before, after)
	if after > before*1.15+4 {
		t.Errorf("the heap grew from %.1f to %.1f MiB", before, after)
	}
	becomes(t, image, true)
}
