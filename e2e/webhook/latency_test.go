package webhook

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// TestLatency creates Pods in turn where Boltseal is asked and where it is not, and prints what it costs, seen from
// the one who creates and from the API server. The figures depend on the machine, so none fails the test.
func TestLatency(t *testing.T) {
	const rounds = 400
	settled(t)
	signed, _ := image("signed", signer)
	asked, not := namespace(t, "prod"), system
	took := map[string][]time.Duration{}
	before := histograms(t)
	for i := range rounds {
		for _, ns := range []string{asked, not} {
			begin := time.Now()
			if err := cluster.Client().Create(t.Context(), pod(ns, fmt.Sprintf("%s-%d", asked, i), signed)); err != nil {
				t.Fatal(err)
			}
			took[ns] = append(took[ns], time.Since(begin))
		}
	}
	after := histograms(t)
	for _, ns := range []string{not, asked} {
		d := took[ns]
		slices.Sort(d)
		t.Logf("create, %-24s p50 %s, p99 %s", ns+":", d[len(d)/2], d[len(d)*99/100])
	}
	for _, name := range []string{"pin.boltseal.dev", "validate.boltseal.dev"} {
		n := after[name]["+Inf"] - before[name]["+Inf"]
		within := func(le string) float64 { return 100 * (after[name][le] - before[name][le]) / n }
		t.Logf("%s, seen from the API server: of %d, %.1f%% within 5 ms, %.1f%% within 25 ms, mean %.2f ms", name, int(n), within("0.005"), within("0.025"), 1000*(after[name]["sum"]-before[name]["sum"])/n)
		if n < rounds {
			t.Errorf("%s was asked %d times", name, int(n))
		}
	}
}

// histograms reads how long the API server has waited for each webhook: the counts up to each bound, and the sum.
func histograms(t *testing.T) map[string]map[string]float64 {
	t.Helper()
	hc, err := rest.HTTPClientFor(cluster.Config())
	if err != nil {
		t.Fatal(err)
	}
	resp, err := hc.Get(cluster.Config().Host + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(resp.Body)
		t.Fatalf("%s: %s", resp.Status, b)
	}
	out := map[string]map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line, ok := strings.CutPrefix(lines.Text(), "apiserver_admission_webhook_admission_duration_seconds_")
		if !ok || !strings.Contains(line, `operation="CREATE"`) {
			continue
		}
		name, key := label(line, "name"), label(line, "le")
		if strings.HasPrefix(line, "sum{") {
			key = "sum"
		}
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			t.Fatal(line)
		}
		if out[name] == nil {
			out[name] = map[string]float64{}
		}
		out[name][key] += v
	}
	return out
}

func label(line, name string) string {
	_, rest, _ := strings.Cut(line, name+`="`)
	v, _, _ := strings.Cut(rest, `"`)
	return v
}
