package service_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// BenchmarkWhileProvidersRefresh is the time of an answer that is known, beside so
// many providers that are fetched each second. The vault that they ask runs in the
// same process.
func BenchmarkWhileProvidersRefresh(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n, " providers"), func(b *testing.B) {
			h := testhouse.New(b, testhouse.Options{})
			c := newCloud(b)
			c.vault.Add("signing", testcloud.Version{Chain: h.Signer.X509()})
			text := vaultConfig(vaultSpec("1s"))
			one, rest := text[:strings.Index(text, "---")], text[strings.Index(text, "---"):]
			all := one
			for i := range n - 1 {
				all += "---\n" + strings.Replace(one, "{name: roots}", fmt.Sprintf("{name: roots-%d}", i), 1)
			}
			r := startWith(b, h, c.options(), all+rest)
			image, _ := h.Signed("mine", h.Signer)
			eventually(b, "it answers", func() bool {
				code, _ := r.ready()
				return code == 200 && r.gatekeeper(server.PathVerify, image)[0].trusted()
			})
			body, err := json.Marshal(map[string]any{"apiVersion": "externaldata.gatekeeper.sh/v1beta1", "kind": "ProviderRequest", "request": map[string]any{"keys": []string{image}}})
			if err != nil {
				b.Fatal(err)
			}
			before := len(c.Requests(vaultHost))
			took := make([]time.Duration, 0, 1<<16)
			b.ResetTimer()
			for b.Loop() {
				start := time.Now()
				resp, err := http.Post(r.base+server.PathVerify, "application/json", bytes.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				took = append(took, time.Since(start))
			}
			b.StopTimer()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			b.ReportMetric(float64(len(c.Requests(vaultHost))-before)/b.Elapsed().Seconds(), "fetches/s")
		})
	}
}
