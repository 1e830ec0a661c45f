package whatif

import (
	"strings"
	"testing"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

const leaf = "sha256:aa"

// TestRevoked: which trusted images a certificate's end would deny, and what the
// reports do not tell of that.
func TestRevoked(t *testing.T) {
	t.Parallel()
	by := func(fingerprint, subject string, issuers ...string) integrityv1.SigningCertificate {
		return integrityv1.SigningCertificate{Fingerprint: fingerprint, Subject: subject, Issuers: issuers}
	}
	one := by(leaf, "CN=signer", "CN=CA")
	two := by("sha256:bb", "CN=other", "CN=CA 2")
	group := func(pods int32, signers ...integrityv1.SigningCertificate) integrityv1.TrustedBy {
		return integrityv1.TrustedBy{Signers: signers, Images: 1, Pods: pods, First: []integrityv1.TrustedImage{{Namespace: "shop", Image: image, Pods: 2, Pod: "p"}}}
	}
	denying := assigned(effect, deny)
	for name, c := range map[string]struct {
		trusted     []integrityv1.TrustedBy
		otherwise   int32
		assignments []v1alpha1.PolicyAssignment
		revoked     Certificate
		denied      int
		doubt, gap  string
	}{
		"its signer":            {trusted: []integrityv1.TrustedBy{group(2, one)}, revoked: Certificate{Fingerprint: leaf, Subject: "CN=signer"}, denied: 1},
		"its signer's name":     {trusted: []integrityv1.TrustedBy{group(2, one)}, revoked: Certificate{Subject: "CN=signer"}, denied: 1},
		"another of its name":   {trusted: []integrityv1.TrustedBy{group(2, one)}, revoked: Certificate{Fingerprint: "sha256:cc", Subject: "CN=signer"}},
		"its CA's name":         {trusted: []integrityv1.TrustedBy{group(2, one)}, revoked: Certificate{Subject: "CN=CA"}, denied: 1},
		"a CA of that name":     {trusted: []integrityv1.TrustedBy{group(2, one)}, revoked: Certificate{Fingerprint: "sha256:dd", Subject: "CN=CA"}, denied: 1, doubt: "issued by a CA of this name"},
		"another's CA":          {trusted: []integrityv1.TrustedBy{group(2, one)}, revoked: Certificate{Subject: "CN=CA 2"}},
		"one of two signers":    {trusted: []integrityv1.TrustedBy{group(2, one, two)}, revoked: Certificate{Fingerprint: leaf}, denied: 1, doubt: "another signature of it is valid"},
		"more than are named":   {trusted: []integrityv1.TrustedBy{group(9, one)}, revoked: Certificate{Fingerprint: leaf}, denied: 1, gap: "7 more Pods"},
		"signers that are left": {trusted: []integrityv1.TrustedBy{group(2, two)}, otherwise: 4, revoked: Certificate{Fingerprint: leaf}, gap: "4 trusted images rest on signatures that its report does not name"},
		"a report without":      {revoked: Certificate{Fingerprint: leaf}, gap: "does not say whose signatures"},
		"nothing denies":        {trusted: []integrityv1.TrustedBy{group(2, one)}, assignments: assigned(), revoked: Certificate{Fingerprint: leaf}},
		"an excluded image":     {trusted: []integrityv1.TrustedBy{group(2, one)}, assignments: assigned(effect, deny, "excludedImages", `["registry.example/*"]`), revoked: Certificate{Fingerprint: leaf}},
		"an excluded namespace": {trusted: []integrityv1.TrustedBy{group(2, one)}, assignments: assigned(effect, deny, "excludedNamespaces", `["shop"]`), revoked: Certificate{Fingerprint: leaf}},
	} {
		if c.assignments == nil {
			c.assignments = denying
		}
		in := input(c.assignments, c.assignments, v1alpha1.Compliant)
		for i := range in.Reports[0].Report.Demands {
			d := &in.Reports[0].Report.Demands[i]
			d.Components, d.Violations, d.Pods, d.TrustedBy, d.TrustedOtherwise = nil, 0, 9, c.trusted, c.otherwise
		}
		in.Revoked = []Certificate{c.revoked}
		r := Look(in)
		if len(r.Denied) != c.denied || len(r.Problems) > 0 || c.gap == "" && len(r.Gaps) > 0 || c.gap != "" && !gap(r, c.gap) {
			t.Errorf("%s: %+v", name, r)
			continue
		}
		if c.denied == 0 {
			continue
		}
		if d := r.Denied[0]; d.Certain != (c.doubt == "") || !strings.Contains(d.Doubt, c.doubt) || d.Reason != ReasonRevoked || !strings.Contains(d.Signer, "CN=signer") || d.Image != image || d.Pods != 2 {
			t.Errorf("%s: %+v", name, d)
		}
	}
	in := input(denying, denying, v1alpha1.Compliant)
	in.Revoked, in.Reports = []Certificate{{Fingerprint: leaf}}, nil
	if r := Look(in); !gap(r, "has not reported") {
		t.Errorf("%+v", r)
	}
}
