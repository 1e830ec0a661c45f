// Package sample makes a fleet of clusters as a hub sees it, for the page's tests, measurements and pictures.
package sample

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal"
	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
	"github.com/boltseal/boltseal/internal/governance/definition"
	"github.com/boltseal/boltseal/internal/governance/overview"
	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/governance/resolve"
	"github.com/boltseal/boltseal/internal/governance/whatif"
)

// Now is the time in the fleet.
func Now() time.Time { return time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC) }

const (
	silentOne = 3 // never reported
	silentTwo = 6 // not for a day
	pods      = 40
)

// Fleet returns so many clusters, with components images that are not trusted in every
// eighth of them, two assignments and two exemptions. Two clusters are silent.
func Fleet(clusters, components int) page.Input {
	in := page.Input{Now: Now(), Exemptions: sampleExemptions()}
	in.Assignments = sampleAssignments()
	library := definition.BuiltIns()
	r := resolve.New(resolve.Input{Library: library, Assignments: in.Assignments, Exemptions: in.Exemptions, Clock: Now})
	for i := range clusters {
		c := sampleCluster(i)
		bundle := v1alpha1.ClusterBundle{ObjectMeta: metav1.ObjectMeta{Name: c.Name, Generation: 1}, Spec: r.ForCluster(&c).Bundle}
		status := compliance.Input{Cluster: &c, ID: c.Spec.Scope + "/" + c.Name, Bundle: &bundle, Clock: Now}
		if i != silentOne {
			report := reportOf(i, components, bundle)
			status.Report = &report
			in.Reports = append(in.Reports, report)
		}
		c.Status = compliance.ForCluster(status)
		in.Clusters, in.Bundles = append(in.Clusters, c), append(in.Bundles, bundle)
	}
	for i := range in.Assignments {
		a := &in.Assignments[i]
		now := compliance.ForAssignment(a.Name, in.Clusters, nil, nil, Now)
		before := &v1alpha1.Compliance{Trend: sampleTrend(now.Clusters, i)}
		a.Status.Compliance = compliance.ForAssignment(a.Name, in.Clusters, nil, before, Now)
	}
	for _, e := range in.Exemptions {
		in.Changes = append(in.Changes, page.Change{Name: "end-" + e.Name, Title: "the exemption " + e.Name + " ends", Exemption: e.Name, Assignment: e.Spec.PolicyAssignmentID,
			Look: func() (whatif.Result, error) { return withoutExemption(in.Input, in.Exemptions, e.Name, library), nil }})
	}
	return in
}

func withoutExemption(in overview.Input, all []v1alpha1.PolicyExemption, name string, library resolve.Library) whatif.Result {
	before := whatif.State{Library: library, Assignments: in.Assignments, Exemptions: all, At: Now()}
	after := before
	after.Exemptions = nil
	for _, e := range all {
		if e.Name != name {
			after.Exemptions = append(after.Exemptions, e)
		}
	}
	return whatif.Look(whatif.Input{Before: before, After: after, Clusters: in.Clusters, Reports: in.Reports, Now: Now()})
}

func sampleAssignments() []v1alpha1.PolicyAssignment {
	effect := func(e string) map[string]v1alpha1.ParameterValue {
		out := map[string]v1alpha1.ParameterValue{}
		v := v1alpha1.ParameterValue{}
		v.Value.Raw = []byte(`"` + e + `"`)
		out["effect"] = v
		return out
	}
	return []v1alpha1.PolicyAssignment{
		{ObjectMeta: metav1.ObjectMeta{Name: "all-watch"}, Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", PolicyDefinitionID: "image-integrity", Parameters: effect("Audit"),
			Description: "Every cluster reports which of its images nobody whom we trust has signed."}},
		{ObjectMeta: metav1.ObjectMeta{Name: "production-denies"}, Spec: v1alpha1.PolicyAssignmentSpec{Scope: "/emea/production", PolicyDefinitionID: "image-integrity", Parameters: effect("Deny"),
			Description: "In production only trusted images may start.", NonComplianceMessages: []v1alpha1.NonComplianceMessage{{Message: "Have the release pipeline sign the image, or ask platform-security@example.com for an exemption."}}}},
	}
}

func sampleExemptions() []v1alpha1.PolicyExemption {
	end := func(d time.Duration) *metav1.Time { t := metav1.NewTime(Now().Add(d)); return &t }
	return []v1alpha1.PolicyExemption{
		{ObjectMeta: metav1.ObjectMeta{Name: "legacy-billing"}, Spec: v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: "production-denies", ExemptionCategory: "Waiver", ExpiresOn: end(12 * 24 * time.Hour),
			Description: "Billing moves to the new pipeline in December.", Within: &v1alpha1.ExemptionWithin{Namespaces: []string{"billing"}}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "vendor-agent"}, Spec: v1alpha1.PolicyExemptionSpec{PolicyAssignmentID: "all-watch", ExemptionCategory: "Mitigated",
			Description: "The vendor's agent is scanned and mirrored.", Within: &v1alpha1.ExemptionWithin{Images: []string{"mirror.example/vendor/*"}}}},
	}
}

func sampleCluster(i int) v1alpha1.Cluster {
	places := []string{"ams", "fra", "lon", "par", "sin", "nyc", "sfo", "waw"}
	stage := []string{"/emea/production", "/emea/test"}[i%2]
	return v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s%d", places[i%len(places)], i/len(places)+1)}, Spec: v1alpha1.ClusterSpec{Scope: stage, Location: "eu-" + places[i%len(places)]}}
}

func reportOf(i, components int, b v1alpha1.ClusterBundle) v1alpha1.ClusterReport {
	at := metav1.NewTime(Now().Add(-time.Duration(20+i) * time.Second))
	if i == silentTwo {
		at = metav1.NewTime(Now().Add(-26 * time.Hour))
	}
	out := v1alpha1.ClusterReport{ObjectMeta: metav1.ObjectMeta{Name: b.Name}, Report: v1alpha1.ClusterReportContent{At: &at, BundleGeneration: 1, Version: "v1.4.0", Engine: v1alpha1.EngineBoltseal, Pods: pods,
		AddOn: v1alpha1.AddOnReport{State: v1alpha1.AddOnInstalled}}}
	for _, d := range b.Spec.Demands {
		trusted := int32(pods)
		r := v1alpha1.DemandReport{Name: d.Name, State: v1alpha1.Compliant, Pods: pods, TrustedBy: sampleSigners()}
		if i%8 == 2 {
			for n := range components {
				c := sampleComponent(n)
				if len(d.Exemptions) > 0 && c.Namespace == "billing" && d.Assignment == "production-denies" {
					c.State = v1alpha1.Exempt
					r.Exempt += c.Pods
				} else {
					r.Violations += c.Pods
				}
				trusted -= c.Pods
				r.Components = append(r.Components, c)
			}
			r.State = v1alpha1.NonCompliant
		}
		trusted = max(0, trusted)
		r.Trusted = &trusted
		out.Report.Demands = append(out.Report.Demands, r)
	}
	return out
}

func sampleSigners() []integrity.TrustedBy {
	return []integrity.TrustedBy{{Signers: []integrity.SigningCertificate{{Subject: "CN=release pipeline,O=Example,C=NL"}}, Images: 18, Pods: 27},
		{Signers: []integrity.SigningCertificate{{Subject: "CN=base images,O=Example,C=NL"}}, Images: 6, Pods: 9}}
}

func sampleComponent(n int) v1alpha1.Component {
	kinds := []struct {
		namespace, image, message, signer string
		reason                            boltseal.Cause
	}{
		{"shop", "registry.example/shop/cart", "nothing signed: no signature refers to this image", "", boltseal.CauseNothingSigned},
		{"shop", "registry.example/shop/search", "the signature's certificate leads to no trusted root", "CN=old pipeline,O=Example,C=NL", boltseal.CauseUntrustedSigner},
		{"billing", "registry.example/billing/invoices", "nothing signed: no signature refers to this image", "", boltseal.CauseNothingSigned},
		{"monitoring", "docker.io/acme/exporter", "the signature expired on 2026-11-01T00:00:00Z", "CN=acme,O=Acme", boltseal.CauseSignatureExpired},
	}
	k := kinds[n%len(kinds)]
	if n >= len(kinds) {
		k.image += fmt.Sprint("-", n/len(kinds))
	}
	first := metav1.NewTime(Now().Add(-time.Duration(2+7*n%400) * 24 * time.Hour))
	return v1alpha1.Component{Namespace: k.namespace, Image: k.image + "@sha256:" + strings.Repeat(fmt.Sprintf("%02x", 0x3d+n%100), 32), Pods: 2, Pod: k.namespace + "-7c9f-x2x",
		State: v1alpha1.NonCompliant, Reason: string(k.reason), Message: k.message, Signer: k.signer, FirstSeen: first, LastSeen: metav1.NewTime(Now())}
}

// sampleTrend is of sixty days, in which most came to sign.
func sampleTrend(clusters int32, assignment int) (out []v1alpha1.TrendPoint) {
	for day := range int32(60) {
		not := min(clusters, max(clusters/8+1, clusters*(50-day)/60+day%3))
		unknown := min(clusters-not, day%7/5*2+1)
		compliant := clusters - not - unknown
		p := v1alpha1.TrendPoint{At: metav1.NewTime(Now().Add(-time.Duration(60-day) * 24 * time.Hour)), State: v1alpha1.NonCompliant, Clusters: clusters, Compliant: &compliant, NonCompliant: not, Unknown: &unknown,
			CompliantPercent: compliance.Counts{Compliant: compliant, NonCompliant: not}.KnownPercent()}
		if day > 20+int32(assignment)*9 && day < 23+int32(assignment)*9 { // the hub was new then
			p.State, p.CompliantPercent, p.NonCompliant = v1alpha1.Unknown, "", 0
			*p.Compliant, *p.Unknown = 0, clusters
		}
		out = append(out, p)
	}
	return out
}
