package observe

import (
	"encoding/json"
	"slices"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// Bound cuts a report to at most MaxReportBytes of JSON: first the components of
// each demand, then the messages. States and counts stay whole.
func Bound(c v1alpha1.ClusterReportContent) v1alpha1.ClusterReportContent {
	if size(c) <= MaxReportBytes {
		return c
	}
	for _, most := range []int{50, 20, 10, 5, 2, 1, 0} {
		c.Demands = slices.Clone(c.Demands)
		for i := range c.Demands {
			d := &c.Demands[i]
			d.Components = d.Components[:min(most, len(d.Components))]
		}
		if size(c) <= MaxReportBytes {
			return c
		}
	}
	for _, most := range []int{256, 64, 0} {
		for i := range c.Demands {
			d := &c.Demands[i]
			d.Message, d.Reason = clip(d.Message, most), clip(d.Reason, 64)
		}
		if size(c) <= MaxReportBytes {
			return c
		}
	}
	return c
}

func size(c v1alpha1.ClusterReportContent) int {
	b, err := json.Marshal(c)
	if err != nil {
		return 0 // there is nothing in it that cannot be encoded
	}
	return len(b)
}
