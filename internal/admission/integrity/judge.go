package integrity

import (
	"cmp"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

// Found is what was found about one image. The zero value is a denial.
type Found struct {
	Decision boltseal.Decision
	Reason   boltseal.Reason
	Digest   digest.Digest // of the image's manifest; "" where it could not be resolved
}

// Image is one image of an object, with what was found.
type Image struct {
	Where  string // `container "app"`
	Image  string // as it stands in the object
	Pinned bool   // it names a digest
	Found  Found
	// Remembered is what memory knows of it, where its registry is out: one for each of
	// [RecallAges]. None means that nothing is remembered.
	Remembered []Remembered
}

// Remembered is what a registry answered before it was out.
type Remembered struct {
	MaxAge time.Duration // it was asked for with: an answer may be this old
	Found  Found
	Since  time.Time // when the registry last answered; zero = nobody knows
}

// RecallAges are how old an answer may be that is given from memory where the image's
// registry is out: one of each policy that wants it and does not exclude the image,
// each once, in ascending order.
func RecallAges(policies []*Policy, image string) (ages []time.Duration) {
	for _, p := range policies {
		if p.Recalls() && !p.Excludes(image) {
			ages = append(ages, p.maxAge)
		}
	}
	slices.Sort(ages)
	return slices.Compact(ages)
}

// remembered is what memory knows for a policy, nil where it knows nothing.
func (i *Image) remembered(maxAge time.Duration) (at int, r *Remembered) {
	for at := range i.Remembered {
		if i.Remembered[at].MaxAge == maxAge {
			return at, &i.Remembered[at]
		}
	}
	return -1, nil
}

// Outcome is what one image came to, under all policies that apply to it.
type Outcome struct {
	Excluded bool // by every policy that matches
	Trusted  bool // by every policy that looks at it, and at least one does
	Found    Found
	// Recalled is set where Found is from memory: the number in Remembered, from 1.
	Recalled int
	// Since is set with it: when the registry last answered.
	Since time.Time
	// Pin is the digest to be written into a Pod, "" where none is. That of the
	// cluster's policies comes before that of a namespace's own.
	Pin digest.Digest
	// Unpinned reports whether it is trusted and all the same does not satisfy a
	// policy, which demands the digest that was verified in a Pod.
	Unpinned bool
	// Group is the number of the group that Found is of.
	Group int
	// Exempt are the policies that it does not satisfy and is exempt from. An image
	// with any is not Trusted.
	Exempt []Exempted
}

// Exempted is a policy that an image does not satisfy, and the exemption that
// lets it pass all the same.
type Exempted struct {
	Policy    string
	Exemption *Exemption
	// Unpinned is set where the image is trusted, and does not have the digest that
	// the policy demands.
	Unpinned bool
}

// String writes POLICY/EXEMPTION and until when.
func (e Exempted) String() string {
	return e.Policy + "/" + e.Exemption.Name + " " + e.Exemption.Until()
}

// Applied is a policy that matched, and what it came to.
type Applied struct {
	Policy string
	Action v1alpha1.EnforcementAction
	Fails  int // images that do not satisfy it
}

// Verdict is what becomes of the object. The zero value does not admit it.
type Verdict struct {
	Allowed  bool
	Message  string            // why it is not admitted
	Warnings []string          // for whoever applies it
	Audit    map[string]string // for the audit log
	Applied  []Applied
	// NotPinned says of each image that was to be pinned and could not be judged why.
	NotPinned []string
	Images    []Outcome // one for each image, in order
}

// Context is what the judge must know of the object besides its images.
type Context struct {
	// Pod is true for a Pod, whose tags can be pinned.
	Pod bool
	// PinAsked is true where this server was ever asked to pin images, and false where
	// the cluster may have no webhook that asks. It changes what is told, no verdict.
	PinAsked bool
	// Decision is the name of this decision, for messages.
	Decision string
	// Now is the time.
	Now time.Time
	// Subject is what exemptions are compared with. The zero value is under none but
	// those of images.
	Subject Subject
}

// Group is policies that an object was selected by, and what was found about its
// images for them.
type Group struct {
	Policies []*Policy
	Images   []Image
}

// JudgeAll holds the images against the policies that the object was selected by, in
// groups that do not ask the same verifiers. It is pure: it uses nothing but its
// arguments, and asks nobody. Every group must have the same images, in order; they may
// differ in what was found. The object must satisfy all policies of all groups.
func JudgeAll(c Context, groups ...Group) Verdict {
	v := Verdict{Allowed: true}
	judges := make([]judge, len(groups))
	for g := range groups {
		judges[g] = judge{c: c, images: groups[g].Images, findings: make([]finding, len(groups[g].Images))}
		outcomes := judges[g].hold(groups[g].Policies, &v)
		for i := range outcomes {
			outcomes[i].Group = g
			if g > 0 {
				outcomes[i] = bothOutcomes(v.Images[i], outcomes[i])
			}
		}
		v.Images = outcomes
	}
	denyDiffering(&v, judges)
	writeMessages(&v, c, judges)
	return v
}

// bothOutcomes is what an image came to that must satisfy two groups. What is told of it
// is what keeps it out, where anything does. What one group wants written into a Pod
// does not depend on what it came to in the other: validation judges by both what
// stands there then.
func bothOutcomes(a, b Outcome) Outcome {
	o := a
	if a.Excluded || a.Trusted && !b.Trusted && !b.Excluded {
		o = b
	}
	o.Excluded = a.Excluded && b.Excluded
	o.Trusted = (a.Trusted || a.Excluded) && (b.Trusted || b.Excluded) && !o.Excluded
	o.Exempt = append(slices.Clip(a.Exempt), b.Exempt...)
	o.Pin, o.Unpinned = cmp.Or(a.Pin, b.Pin), a.Unpinned || b.Unpinned
	return o
}

// judge judges by one group.
type judge struct {
	c        Context
	images   []Image
	findings []finding
}

// hold holds the images against the policies, and adds to the verdict what became
// of them.
func (j *judge) hold(policies []*Policy, v *Verdict) []Outcome {
	outcomes := make([]Outcome, len(j.images))
	for i := range j.images {
		outcomes[i] = Outcome{Excluded: true, Found: j.images[i].Found}
	}
	for _, p := range policies {
		a := Applied{Policy: p.name, Action: p.action}
		for i := range j.images {
			if p.Excludes(j.images[i].Image) {
				continue
			}
			o := &outcomes[i]
			passes, trusted := j.satisfies(p, i, o)
			if !passes {
				a.Fails++
			}
			o.Trusted = trusted && (o.Excluded || o.Trusted)
			o.Excluded = false
		}
		if a.Fails > 0 && p.denies() {
			v.Allowed = false
		}
		v.Applied = append(v.Applied, a)
	}
	for i := range outcomes {
		j.findings[i].digest = outcomes[i].Found.Digest
	}
	return outcomes
}

// finding is what there is to say about one image.
type finding struct {
	reason   boltseal.Reason
	not      byAction // names of policies that do not hold it for trusted
	unpinned byAction // names of policies that demand the digest in place of its tag
	allowed  []string // policies that let it pass although it could not be judged
	exempt   []Exempted
	since    time.Time
	tag      bool          // a tag stands that a node may resolve to something else
	pins     bool          // some policy demands a digest in place of its tag
	held     bool          // a policy that denies holds it for trusted
	differs  digest.Digest // what a policy of another group holds for trusted in its place
	digest   digest.Digest
}

// byAction are names of policies by what they do.
type byAction struct{ deny, warn, dryrun []string }

func (b *byAction) add(p *Policy) {
	switch p.action {
	case v1alpha1.Warn:
		b.warn = append(b.warn, p.name)
	case v1alpha1.DryRun:
		b.dryrun = append(b.dryrun, p.name)
	default:
		b.deny = append(b.deny, p.name)
	}
}

// denies reports whether an object that fails the policy is not admitted: unless
// the policy says otherwise in so many words.
func (p *Policy) denies() bool { return p.action != v1alpha1.Warn && p.action != v1alpha1.DryRun }

// satisfies reports whether the image satisfies the policy, and whether because
// it is trusted, and notes what to say.
func (j *judge) satisfies(p *Policy, i int, o *Outcome) (passes, trusted bool) {
	img, f := &j.images[i], &j.findings[i]
	r := img.Found
	f.pins = f.pins || j.pins(p, img)
	if r.Decision == boltseal.Unknown && r.Reason.Cause.Outage() {
		switch p.unavailable {
		case v1alpha1.UnavailableAllow:
			f.allowed = append(f.allowed, p.name)
			f.reason = r.Reason
			return true, false
		case v1alpha1.UnavailableLastKnownGood:
			at, again := img.remembered(p.maxAge)
			if again == nil || again.Found.Decision == boltseal.Unknown {
				break
			}
			// Whoever remembers keeps to maxAge; a yes that is older counts for nothing.
			if again.Found.Decision == boltseal.Allow && (again.Since.IsZero() || j.c.Now.Sub(again.Since) > p.maxAge) {
				break
			}
			r = again.Found
			f.since, o.Since, o.Found, o.Recalled = again.Since, again.Since, r, at+1
		}
	}
	if r.Decision == boltseal.Allow {
		f.held = f.held || p.denies()
		if j.runs(p, img, r.Digest, f, o) {
			return true, true
		}
	} else {
		f.reason = r.Reason
	}
	// Where it could not be judged either answer would let it pass, so not knowing
	// which changes nothing.
	if e := p.ExemptionOf(j.c.Subject, img.Image, j.c.Now); e != nil {
		x := Exempted{p.name, e, r.Decision == boltseal.Allow}
		f.exempt, o.Exempt = append(f.exempt, x), append(o.Exempt, x)
		return true, false
	}
	if r.Decision == boltseal.Allow {
		f.unpinned.add(p)
		o.Unpinned = true
		return false, true
	}
	f.not.add(p)
	return false, false
}
