package whatif

import (
	"fmt"
	"slices"
	"strings"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/compliance"
)

// ReasonRevoked is why an image would be denied whose signer is trusted no more.
const ReasonRevoked = "revoked"

// Certificate is one that signs, or that issued one that does.
type Certificate struct {
	// Fingerprint is sha256: and hexadecimal digits in lower case. "" means that the
	// Subject alone is known.
	Fingerprint string
	// Subject as RFC 4514 has it.
	Subject string
}

// matchesRevoked reports whether a signature by c falls with one of the certificates, and
// whether that is certain: of those that issued c, the names alone are known.
func matchesRevoked(c *integrityv1.SigningCertificate, revoked []Certificate) (falls, certain bool) {
	for _, r := range revoked {
		switch {
		case r.Fingerprint != "" && r.Fingerprint == c.Fingerprint, r.Fingerprint == "" && r.Subject == c.Subject:
			return true, true
		case r.Subject != "" && slices.Contains(c.Issuers, r.Subject):
			falls = true
			certain = certain || r.Fingerprint == ""
		}
	}
	return falls, certain
}

// revoked finds trusted images that would be denied without the certificates, by the
// rules that are in force after the change.
func (r *Result) revoked(cluster string, report *v1alpha1.ClusterReport, rules []rule, revoked []Certificate) {
	if len(revoked) == 0 {
		return
	}
	type named struct{ namespace, image, assignment string }
	known := map[named]bool{}
	for _, n := range rules {
		at := slices.IndexFunc(report.Report.Demands, func(d v1alpha1.DemandReport) bool { return d.Name == n.demand.Name })
		if at < 0 {
			r.Gaps = append(r.Gaps, Gap{cluster, n.demand.Assignment, "it has not reported on this assignment yet, and so not whose signatures its images rest on"})
			continue
		}
		d := &report.Report.Demands[at]
		if len(d.TrustedBy) == 0 && d.TrustedOtherwise == 0 && d.Pods > d.Violations+d.Unknown+d.Exempt {
			r.Gaps = append(r.Gaps, Gap{cluster, n.demand.Assignment, "its report does not say whose signatures trusted images rest on: Gatekeeper's does not, nor that of an older agent"})
			continue
		}
		if d.TrustedOtherwise > 0 {
			r.Gaps = append(r.Gaps, Gap{cluster, n.demand.Assignment, fmt.Sprintf("%d trusted images rest on signatures that its report does not name", d.TrustedOtherwise)})
		}
		for i := range d.TrustedBy {
			t := &d.TrustedBy[i]
			doubt, falls := fallsWith(t, revoked)
			if !falls {
				continue
			}
			var pods int32
			for _, im := range t.First {
				pods += im.Pods
				c := v1alpha1.Component{Namespace: im.Namespace, Image: im.Image, Pods: im.Pods, Pod: im.Pod, State: v1alpha1.NonCompliant}
				denied, unsure := n.denies(&c)
				key := named{im.Namespace, im.Image, n.demand.Assignment}
				if !denied || known[key] {
					continue
				}
				known[key] = true
				if unsure == "" {
					unsure = doubt
				}
				r.Denied = append(r.Denied, Denied{Cluster: cluster, Namespace: im.Namespace, Image: im.Image, Pods: im.Pods, Pod: im.Pod,
					Assignment: n.demand.Assignment, Reference: compliance.Reference(*n.demand), Reason: ReasonRevoked,
					Message: "its trust rests on a signature by " + subjectList(t), Signer: subjectList(t), Certain: unsure == "", Doubt: unsure})
			}
			if pods < t.Pods {
				r.Gaps = append(r.Gaps, Gap{cluster, n.demand.Assignment, fmt.Sprintf("%d more Pods, of %d images in all, rest on signatures by %s; its report names the first", t.Pods-pods, t.Images, subjectList(t))})
			}
		}
	}
}

// fallsWith tells whether images that are trusted for t would not be, and what is not
// certain about that.
func fallsWith(t *integrityv1.TrustedBy, revoked []Certificate) (doubt string, falls bool) {
	left := 0
	for i := range t.Signers {
		gone, certain := matchesRevoked(&t.Signers[i], revoked)
		switch {
		case !gone:
			left++
		case !certain:
			doubt = "its signer was issued by a CA of this name, and reports do not contain whether by this certificate of it"
		}
		falls = falls || gone
	}
	if falls && left > 0 {
		doubt = "another signature of it is valid, which is enough unless the Policy requires all, or signatures of each platform"
	}
	return doubt, falls
}

func subjectList(t *integrityv1.TrustedBy) string {
	var names []string
	for i := range t.Signers {
		names = append(names, t.Signers[i].Subject)
	}
	return strings.Join(names, " and ")
}
