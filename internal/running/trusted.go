package running

import (
	"cmp"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/answer/signers"
)

// Limits on what is told of images that are trusted. A set of signers that is longer
// is counted, and not told: a part of it would mislead.
const (
	maxTrustedBy    = 10
	maxTrustedFirst = 3
	maxSigners      = 4
	maxIssuers      = 8
	maxSigner       = 512 // bytes of a name
)

// trusted is whose signatures a policy's trusted images rest on.
type trusted struct {
	by        []v1alpha1.TrustedBy
	otherwise int32 // images that by does not count
}

// trustedBy groups each policy's trusted images by their signers.
func trustedBy(r *Result) map[string]trusted {
	type group struct {
		v1alpha1.TrustedBy
		images map[string]bool
	}
	groups := map[string]map[signers.Set]*group{}
	for _, f := range r.Findings {
		if f.Outcome != Trusted {
			continue
		}
		of := groups[f.Policy]
		if of == nil {
			of = map[signers.Set]*group{}
			groups[f.Policy] = of
		}
		g := of[f.signers]
		if g == nil {
			g = &group{images: map[string]bool{}}
			of[f.signers] = g
		}
		g.images[f.Image] = true
		g.Pods += int32(f.Pods)
		if len(g.First) < maxTrustedFirst {
			g.First = append(g.First, v1alpha1.TrustedImage{Namespace: f.Namespace, Image: f.Image, Pods: int32(f.Pods), Pod: f.First[0].Name})
		}
	}
	out := map[string]trusted{}
	for policy, of := range groups {
		var t trusted
		for set, g := range of {
			g.Images = int32(len(g.images))
			if g.Signers = setCertificates(set); len(g.Signers) == 0 {
				t.otherwise += g.Images
				continue
			}
			t.by = append(t.by, g.TrustedBy)
		}
		slices.SortFunc(t.by, func(a, b v1alpha1.TrustedBy) int {
			return cmp.Or(cmp.Compare(b.Pods, a.Pods), slices.CompareFunc(a.Signers, b.Signers, func(a, b v1alpha1.SigningCertificate) int {
				return strings.Compare(a.Fingerprint, b.Fingerprint)
			}))
		})
		for _, g := range t.by[min(maxTrustedBy, len(t.by)):] {
			t.otherwise += g.Images
		}
		t.by = t.by[:min(maxTrustedBy, len(t.by))]
		out[policy] = t
	}
	return out
}

// setCertificates are a set's, nil where they are too many to tell.
func setCertificates(set signers.Set) (out []v1alpha1.SigningCertificate) {
	all := set.All()
	if len(all) > maxSigners {
		return nil
	}
	for _, s := range all {
		if len(s.Issuers) > maxIssuers {
			return nil
		}
		c := v1alpha1.SigningCertificate{Subject: truncateText(s.Subject, maxSigner), Fingerprint: s.Fingerprint}
		for _, i := range s.Issuers {
			c.Issuers = append(c.Issuers, truncateText(i, maxSigner))
		}
		out = append(out, c)
	}
	return out
}
