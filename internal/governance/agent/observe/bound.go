package observe

import (
	"encoding/json"
	"slices"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// Bound cuts a report to at most MaxReportBytes of JSON: first the images
// that are trusted, then the components of each demand, then whom trusted images rest
// on, then the messages. States and counts stay whole.
func Bound(c v1alpha1.ClusterReportContent) v1alpha1.ClusterReportContent {
	if contentSize(c) <= MaxReportBytes {
		return c
	}
	// What is trusted is told before it is cut: whom it rests on, and then how much.
	for _, most := range []int{1, 0} {
		c.Demands = slices.Clone(c.Demands)
		for i := range c.Demands {
			d := &c.Demands[i]
			d.TrustedBy = slices.Clone(d.TrustedBy)
			for j := range d.TrustedBy {
				d.TrustedBy[j].First = d.TrustedBy[j].First[:min(most, len(d.TrustedBy[j].First))]
			}
		}
		if contentSize(c) <= MaxReportBytes {
			return c
		}
	}
	for _, most := range []int{50, 20, 10, 5, 2, 1, 0} {
		c.Demands = slices.Clone(c.Demands)
		for i := range c.Demands {
			d := &c.Demands[i]
			nameFirst(d, most)
		}
		if contentSize(c) <= MaxReportBytes {
			return c
		}
	}
	for _, most := range []int{5, 2, 0} {
		for i := range c.Demands {
			d := &c.Demands[i]
			for len(d.TrustedBy) > most {
				last := len(d.TrustedBy) - 1
				d.TrustedOtherwise += d.TrustedBy[last].Images
				d.TrustedBy = d.TrustedBy[:last]
			}
		}
		if contentSize(c) <= MaxReportBytes {
			return c
		}
	}
	for _, most := range []int{256, 64, 0} {
		for i := range c.Demands {
			d := &c.Demands[i]
			d.Message, d.Reason = truncateText(d.Message, most), truncateText(d.Reason, 64)
		}
		if contentSize(c) <= MaxReportBytes {
			return c
		}
	}
	return c
}

// nameFirst keeps the first components of a demand, and counts those of the others
// that are exempt: nothing else would tell that they run.
func nameFirst(d *v1alpha1.DemandReport, most int) {
	for _, c := range d.Components[min(most, len(d.Components)):] {
		if c.State == v1alpha1.Exempt {
			d.ExemptOtherwise++
		}
	}
	d.Components = d.Components[:min(most, len(d.Components))]
}

func contentSize(c v1alpha1.ClusterReportContent) int {
	b, err := json.Marshal(c)
	if err != nil {
		return 0 // there is nothing in it that cannot be encoded
	}
	return len(b)
}
