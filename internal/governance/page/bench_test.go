package page_test

import (
	"bytes"
	"testing"

	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/governance/page/sample"
)

// BenchmarkPage is of 100 clusters, of which every eighth reports 100 images that are not
// trusted in each of its assignments.
func BenchmarkPage(b *testing.B) {
	in := sample.Fleet(100, 100)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			page.New(in)
		}
	})
	s := page.New(in)
	for name, q := range map[string]page.Query{"overview": {}, "assignment": {Assignment: "all-watch"}, "cluster": {Cluster: "lon1"}, "namespace": {Cluster: "lon1", Namespace: "shop"}} {
		b.Run(name, func(b *testing.B) {
			var out bytes.Buffer
			for b.Loop() {
				out.Reset()
				if err := s.Write(&out, q); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(out.Len()), "bytes")
		})
	}
}
