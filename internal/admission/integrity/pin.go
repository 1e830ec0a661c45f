package integrity

import (
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
)

// pinsPods reports whether Pods, of whatever template, come to be pinned for the policy.
func (p *Policy) pinsPods() bool {
	return p.resolveTags && (len(p.kinds) == 0 || slices.Contains(p.kinds, "Pod"))
}

// pins reports whether the policy demands a digest in place of the image's tag.
func (j *judge) pins(p *Policy, img *Image) bool { return j.c.Pod && p.resolveTags && !img.Pinned }

// runs reports whether what a node runs is what was verified, the digest, as far as
// the policy demands it. It notes what to say, and what to write into a Pod.
//
// What pins may be skipped: it may come too late, or be asked by nobody. So a policy
// that demands the digest is not satisfied without it, whoever did not write it.
func (j *judge) runs(p *Policy, img *Image, verified digest.Digest, f *finding, o *Outcome) bool {
	switch {
	case img.Pinned:
		return true
	case j.pins(p, img):
		o.Pin = verified
		return false
	}
	f.tag = f.tag || j.c.Pod || !p.pinsPods() // Pods made of a template are pinned when they come
	return true
}

// unpinnedReason says why an image that is trusted does not satisfy a policy.
func (f *finding) unpinnedReason(c Context) *boltseal.Reason {
	r := &boltseal.Reason{Cause: boltseal.CauseUnpinned,
		Message: fmt.Sprintf("it is trusted, but nothing replaced its tag by the digest that was verified (%s), so a node may pull something else", f.digest)}
	if c.PinAsked {
		r.Remedy = "try again, for the digest is known now; a warning of /admission/mutate says why it was not written at once. " +
			"If it stays so, another webhook takes it out again, or /admission/mutate does not answer in time: name the image by its digest"
	} else {
		r.Remedy = "try again. If it stays so, no webhook of the cluster asks /admission/mutate (this replica was never asked): add the one that `boltseal webhook print` prints, " +
			"or name the image by its digest. With resolveTags: false in the policy tags are admitted, with a warning, and a node may then run what nobody verified"
	}
	return r
}

// differ says that two namesakes are trusted, and what to do.
func (f *finding) differ() string {
	return fmt.Sprintf("its tag named %s when it was verified for the cluster's policies, and for %s when it was for the namespace's own. "+
		"What to do: try again, or name the image by its digest", f.differs, f.digest)
}

// denyDiffering denies what the policies of two groups hold for trusted, and each for
// another image: nobody verified for both what a node would pull. Only policies that
// deny have a say in it, so that one that a namespace tries out changes nothing.
func denyDiffering(v *Verdict, judges []judge) {
	for i := range v.Images {
		first := -1
		for g := range judges {
			f := &judges[g].findings[i]
			if judges[g].images[i].Pinned || !f.held {
				continue
			}
			if first < 0 {
				first = g
			} else if other := judges[first].findings[i].digest; other != f.digest {
				f.differs = other
				v.Allowed = false
			}
		}
	}
}

// notPinned are what whoever applies an object is told where images were to be
// pinned and could not be.
func notPinned(v *Verdict, judges []judge) (out []string) {
	for i := range v.Images {
		for g := range judges {
			img, f := &judges[g].images[i], &judges[g].findings[i]
			if f.pins && v.Images[i].Pin == "" && img.Found.Decision == boltseal.Unknown {
				out = append(out, imagePlace(img)+" keeps its tag, since its digest could not be verified: "+oneLine(f.reason.Message, maxFound))
				break
			}
		}
	}
	return boundWarnings(out)
}
