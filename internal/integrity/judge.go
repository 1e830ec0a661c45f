package integrity

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

// Limits on what is told. The API server cuts warnings to 256 characters each
// once they come to more than 4,096 together.
const (
	MaxMessage  = 8 << 10
	MaxWarning  = 1 << 10
	MaxWarnings = 4000
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
	// Recall decides from memory, as the registry would have answered at most
	// maxAge ago; since is when it did. Nil means that nothing is remembered.
	Recall func(maxAge time.Duration) (f Found, since time.Time)
}

// Outcome is what one image came to, under all policies that apply to it.
type Outcome struct {
	Excluded bool // by every policy that matches
	Trusted  bool
	Found    Found
	// Since is set where it is from memory: when the registry last answered.
	Since time.Time
	// Pin reports whether the digest is to be written into a Pod.
	Pin bool
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
	Images   []Outcome // one for each image, in order
}

// Context is what the judge must know of the object besides its images.
type Context struct {
	// Pod is true for a Pod, whose tags can be pinned.
	Pod bool
	// Decision is the name of this decision, for messages.
	Decision string
	// Now is the time.
	Now time.Time
}

// Judge holds the images against the policies that the object was selected by.
// It uses nothing but its arguments and what Recall answers.
func Judge(policies []*Policy, images []Image, c Context) Verdict {
	j := &judge{c: c, images: images, findings: make([]finding, len(images))}
	v := Verdict{Allowed: true, Images: make([]Outcome, len(images))}
	for i := range images {
		v.Images[i] = Outcome{Excluded: true, Trusted: true, Found: images[i].Found}
	}
	for _, p := range policies {
		a := Applied{Policy: p.name, Action: p.action}
		for i := range images {
			if p.Excludes(images[i].Image) {
				continue
			}
			o := &v.Images[i]
			o.Excluded = false
			if !j.satisfies(p, i, o) {
				a.Fails++
				o.Trusted = false
			}
		}
		if a.Fails > 0 && p.action == v1alpha1.Deny {
			v.Allowed = false
		}
		v.Applied = append(v.Applied, a)
	}
	j.tell(&v)
	return v
}

type judge struct {
	c        Context
	images   []Image
	findings []finding
}

// finding is what there is to say about one image.
type finding struct {
	reason  boltseal.Reason
	deny    []string // names of policies that it fails, by their action
	warn    []string
	dryrun  []string
	allowed []string // policies that let it pass although it could not be judged
	since   time.Time
	tag     bool // a tag stands that a node may resolve to something else
}

// satisfies reports whether the image satisfies the policy, and notes what to say.
func (j *judge) satisfies(p *Policy, i int, o *Outcome) bool {
	img, f := &j.images[i], &j.findings[i]
	r := img.Found
	if r.Decision == boltseal.Unknown && r.Reason.Cause == boltseal.CauseUnavailable {
		switch p.unavailable {
		case v1alpha1.UnavailableAllow:
			f.allowed = append(f.allowed, p.name)
			f.reason = r.Reason
			return true
		case v1alpha1.UnavailableLastKnownGood:
			if img.Recall == nil {
				break
			}
			if again, since := img.Recall(p.maxAge); again.Decision != boltseal.Unknown {
				r = again
				f.since, o.Since, o.Found = since, since, again
			}
		}
	}
	if r.Decision == boltseal.Allow {
		if !img.Pinned {
			f.tag = f.tag || j.c.Pod || !p.resolveTags // Pods made of a template are pinned when they come
			o.Pin = o.Pin || (j.c.Pod && p.resolveTags)
		}
		return true
	}
	f.reason = r.Reason
	switch p.action {
	case v1alpha1.Warn:
		f.warn = append(f.warn, p.name)
	case v1alpha1.DryRun:
		f.dryrun = append(f.dryrun, p.name)
	default:
		f.deny = append(f.deny, p.name)
	}
	return false
}

// tell writes the messages.
func (j *judge) tell(v *Verdict) {
	var denials []string
	var warned, dry []string
	for i := range j.images {
		img, f := &j.images[i], &j.findings[i]
		if len(f.deny) > 0 {
			denials = append(denials, block(img, f, f.deny))
		}
		if len(f.warn) > 0 {
			warned = append(warned, block(img, f, f.warn))
		}
		if len(f.dryrun) > 0 {
			dry = append(dry, block(img, f, f.dryrun))
		}
		if len(f.allowed) > 0 {
			warned = append(warned, fmt.Sprintf("%s: image %s was not judged, and %s lets it pass: %s", img.Where, img.Image, policyNames(f.allowed), f.reason.Message))
		}
		if !f.since.IsZero() {
			warned = append(warned, fmt.Sprintf("%s: image %s was judged from memory, since its registry does not answer; it did %s ago", img.Where, img.Image, j.c.Now.Sub(f.since).Round(time.Second)))
		}
		if f.tag {
			warned = append(warned, fmt.Sprintf("%s: image %s is a tag, and the node may pull something else than was verified (%s)", img.Where, img.Image, v.Images[i].Found.Digest))
		}
	}
	if len(denials) > 0 {
		v.Message = j.message(denials)
	}
	v.Warnings = bounded(warned)
	v.Audit = j.audit(v, dry)
}

func (j *judge) message(denials []string) string {
	var b strings.Builder
	if n := len(j.images); len(denials) == 1 && n == 1 {
		b.WriteString("the image is not trusted")
	} else {
		fmt.Fprintf(&b, "%d of %d images are not trusted", len(denials), n)
	}
	if j.c.Decision != "" {
		b.WriteString(" (decision " + j.c.Decision + ")")
	}
	for i, d := range denials {
		if b.Len()+len(d) > MaxMessage {
			fmt.Fprintf(&b, "\n- and %d more", len(denials)-i)
			break
		}
		b.WriteString("\n- " + d)
	}
	return b.String()
}

// block is one image's part of a message.
func block(img *Image, f *finding, policies []string) string {
	s := fmt.Sprintf("%s: image %s: %s; demanded by %s", img.Where, img.Image, f.reason.Message, policyNames(policies))
	if f.reason.Remedy != "" {
		s += ". What to do: " + f.reason.Remedy
	}
	return s
}

// maxNamed bounds how many policies a message names.
const maxNamed = 5

func policyNames(names []string) string {
	word := "policy "
	if len(names) > 1 {
		word = "policies "
	}
	more := ""
	if len(names) > maxNamed {
		more = fmt.Sprintf(" and %d more", len(names)-maxNamed)
		names = names[:maxNamed]
	}
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = `"` + n + `"`
	}
	return word + strings.Join(quoted, ", ") + more
}

// bounded keeps warnings within what the API server hands on whole.
func bounded(warnings []string) []string {
	total := 0
	for i, w := range warnings {
		if len(w) > MaxWarning {
			w = strings.ToValidUTF8(w[:MaxWarning-3], "") + "…"
			warnings[i] = w
		}
		if total += len(w); total > MaxWarnings-40 {
			return append(slices.Clip(warnings[:i]), fmt.Sprintf("and %d more warnings", len(warnings)-i))
		}
	}
	return warnings
}

// audit is what goes into the API server's audit log.
func (j *judge) audit(v *Verdict, dry []string) map[string]string {
	m := map[string]string{}
	if j.c.Decision != "" {
		m["decision"] = j.c.Decision
	}
	if len(dry) > 0 {
		m["dryrun"] = clip(strings.Join(dry, "\n"), MaxMessage)
	}
	var matched []string
	for _, a := range v.Applied {
		matched = append(matched, a.Policy+"="+string(a.Action))
	}
	if len(matched) > 0 {
		m["policies"] = clip(strings.Join(matched, ","), MaxWarning)
	}
	return m
}

func clip(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-3], "") + "…"
}
