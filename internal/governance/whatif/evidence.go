package whatif

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// evidence is what a cluster reports of images, each namespace and image once.
func (r *Result) evidence(cluster string, report *v1alpha1.ClusterReport) []v1alpha1.Component {
	var out []v1alpha1.Component
	at := map[[2]string]int{}
	for i := range report.Report.Demands {
		d := &report.Report.Demands[i]
		for _, c := range d.Components {
			key := [2]string{c.Namespace, c.Image}
			i, ok := at[key]
			switch {
			case !ok:
				at[key] = len(out)
				out = append(out, c)
			case out[i].State == v1alpha1.Unknown && c.State != v1alpha1.Unknown:
				out[i] = c
			case out[i].Pods < c.Pods:
				out[i].Pods = c.Pods
			}
		}
		r.notNamed(cluster, d)
	}
	return out
}

// notNamed tells of what a report counts and does not name, and of what it does not
// even count.
func (r *Result) notNamed(cluster string, d *v1alpha1.DemandReport) {
	tell := func(format string, args ...any) {
		g := Gap{Cluster: cluster, Message: fmt.Sprintf(format, args...)}
		if !slices.Contains(r.Gaps, g) {
			r.Gaps = append(r.Gaps, g)
		}
	}
	named := map[v1alpha1.ComplianceState]int32{}
	for _, c := range d.Components {
		named[c.State] += c.Pods
	}
	if d.State != v1alpha1.Exempt && d.State != v1alpha1.NonCompliant && d.State != v1alpha1.Compliant && d.State != "" && d.Unknown == 0 {
		tell("it has not checked its images for %s: %s", d.Name, strings.TrimRight(d.Message, "."))
	}
	if more := d.Violations - named[v1alpha1.NonCompliant]; more > 0 {
		tell("%d more Pods run images that are not trusted than its report names", more)
	}
	if more := d.Unknown - named[v1alpha1.Unknown]; more > 0 {
		tell("%d more Pods run images that could not be checked than its report names", more)
	}
	switch more := d.Exempt - named[v1alpha1.Exempt]; {
	case more > 0:
		tell("%d more Pods run exempt images than its report names", more)
	case d.ExemptOtherwise > 0:
		tell("%d more images are exempt than its report names", d.ExemptOtherwise)
	}
}

// unseen tells of what Gatekeeper does not look at: it leaves out the namespaces and
// images that are exempt, so that nothing is known of them. Workloads it cannot leave
// out. old is the demand before the change, nil where there was none.
func (r *Result) unseen(cluster string, engine v1alpha1.Engine, old, next *v1alpha1.Demand) {
	if engine != v1alpha1.EngineGatekeeper || old == nil {
		return
	}
	kept := map[string]bool{}
	for i := range next.Exemptions {
		kept[exemptionText(&next.Exemptions[i])] = true
	}
	for i := range old.Exemptions {
		e := &old.Exemptions[i]
		if e.Within == nil || len(e.Within.Workloads) > 0 || kept[exemptionText(e)] {
			continue
		}
		r.Gaps = append(r.Gaps, Gap{cluster, next.Assignment, fmt.Sprintf("Gatekeeper does not check what is exempt, so that nothing is known of what exemption %s covers (%s); run 'boltseal audit' in that cluster",
			e.Name, strings.Join(slices.Concat(e.Within.Namespaces, e.Within.Images), ", "))})
	}
}

// exemptionText is the same for exemptions of the same things. When they end does
// not count: what is over is not among a demand's exemptions.
func exemptionText(e *v1alpha1.BundleExemption) string {
	text, err := marshalKey(e.Within)
	if err != nil {
		return e.Name + " " + err.Error()
	}
	return e.Name + " " + text
}
