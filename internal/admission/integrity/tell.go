package integrity

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/boltseal/boltseal"
)

// Limits on what is told, in bytes. The API server cuts warnings to 256
// characters each once they come to more than 4,096 together.
const (
	MaxMessage  = 8 << 10
	MaxWarning  = 1 << 10
	MaxWarnings = 4000
)

// Limits on the parts of a message, in bytes. A block with five policies' names
// stays below MaxMessage, so that at least one image is always told of.
const (
	maxWhere  = 150
	maxImage  = 512
	maxFound  = 2 << 10
	maxRemedy = 512
	maxPolicy = 320 // NAMESPACE/NAME
	maxID     = 64
	maxNamed  = 5 // policies named in a message
	reserve   = 40
)

// writeMessages writes the messages: image by image, and of each what every group has to say.
func writeMessages(v *Verdict, c Context, judges []judge) {
	var denials, warned, dry, exempt []string
	images, failing, unknown, untrusted, unpinned := len(v.Images), 0, 0, false, false
	for i := range images {
		before, warnedBefore, judged := len(denials), len(warned), false
		for g := range judges {
			img, f := &judges[g].images[i], &judges[g].findings[i]
			if len(f.not.deny) > 0 {
				denials = append(denials, imageBlock(img, placeholderReason(c, img, &f.reason), f.not.deny))
				open := img.Found.Decision == boltseal.Unknown && f.since.IsZero()
				judged, untrusted = judged || !open, untrusted || !open
			}
			if len(f.unpinned.deny) > 0 {
				denials, unpinned, judged = append(denials, imageBlock(img, f.unpinnedReason(c), f.unpinned.deny)), true, true
			}
			if f.differs != "" {
				denials, unpinned, judged = append(denials, imagePlace(img)+": "+f.differ()), true, true
			}
			if len(f.not.dryrun) > 0 {
				dry = append(dry, imageBlock(img, placeholderReason(c, img, &f.reason), f.not.dryrun))
			}
			if len(f.unpinned.dryrun) > 0 {
				dry = append(dry, imageBlock(img, f.unpinnedReason(c), f.unpinned.dryrun))
			}
			for _, e := range f.exempt {
				exempt = append(exempt, exemptionText(c, img, f, e))
			}
			for _, w := range imageWarnings(c, img, f) {
				if !slices.Contains(warned[warnedBefore:], w) {
					warned = append(warned, w)
				}
			}
		}
		if len(denials) > before {
			failing++
			if !judged {
				unknown++
			}
		}
	}
	if len(denials) > 0 {
		v.Message = denialMessage(c, missingWords(untrusted, unpinned), denials, failing, unknown, images)
	}
	v.Warnings, v.NotPinned = boundWarnings(warned), notPinned(v, judges)
	v.Audit = auditOf(v, c, dry, exempt)
}

// imageWarnings are what whoever applies the object is told of one image.
func imageWarnings(c Context, img *Image, f *finding) (out []string) {
	if len(f.not.warn) > 0 {
		out = append(out, imageWarning(img, placeholderReason(c, img, &f.reason), f.not.warn))
	}
	if len(f.unpinned.warn) > 0 {
		out = append(out, imageWarning(img, f.unpinnedReason(c), f.unpinned.warn))
	}
	if len(f.allowed) > 0 {
		out = append(out, fmt.Sprintf("%s admits it without a check: %s: %s", policyNames(f.allowed), oneLine(withoutName(img, f.reason.Message), maxFound), imagePlace(img)))
	}
	for _, e := range f.exempt {
		out = append(out, exemptionText(c, img, f, e))
	}
	if !f.since.IsZero() {
		out = append(out, fmt.Sprintf("%s was decided from evidence in memory, since its registry does not answer; it last did %s ago", imagePlace(img), c.Now.Sub(f.since).Round(time.Second)))
	}
	if f.tag {
		out = append(out, fmt.Sprintf("%s is a tag, and the node may pull something else than was verified (%s)", imagePlace(img), f.digest))
	}
	return out
}

// missingWords says what the images of a denial are not.
func missingWords(untrusted, unpinned bool) string {
	switch {
	case !unpinned:
		return "not trusted"
	case !untrusted:
		return "not pinned"
	}
	return "not trusted or not pinned"
}

// denialMessage is why an object is not admitted; not is what its images are not, denials
// are the parts, failing is how many of its images they are about, and unknown how
// many of these could not be judged.
func denialMessage(c Context, not string, denials []string, failing, unknown, images int) string {
	var b strings.Builder
	switch bad := failing - unknown; {
	case images == 1 && unknown == 1:
		b.WriteString("the image could not be checked")
	case images == 1:
		b.WriteString("the image is " + not)
	case unknown == 0:
		fmt.Fprintf(&b, "%d of %d images are %s", bad, images, not)
	case bad == 0:
		fmt.Fprintf(&b, "%d of %d images could not be checked", unknown, images)
	default:
		fmt.Fprintf(&b, "%d of %d images are %s, and %d could not be checked", bad, images, not, unknown)
	}
	if c.Decision != "" {
		b.WriteString(" (decision " + oneLine(c.Decision, maxID) + ")")
	}
	for i, d := range denials {
		if b.Len()+len(d)+reserve > MaxMessage {
			fmt.Fprintf(&b, "\n- and %d more", len(denials)-i)
			break
		}
		b.WriteString("\n- " + d)
	}
	return b.String()
}

func imagePlace(img *Image) string {
	return oneLine(img.Where, maxWhere) + ": image " + oneLine(img.Image, maxImage)
}

// imageBlock is one image's part of a message.
func imageBlock(img *Image, r *boltseal.Reason, policies []string) string {
	s := imagePlace(img) + ": " + oneLine(r.Message, maxFound) + "; required by " + policyNames(policies)
	if r.Remedy != "" {
		s += ". What to do: " + oneLine(r.Remedy, maxRemedy)
	}
	return s
}

// imageWarning is block for who reads its beginning only: the cause comes before the names.
func imageWarning(img *Image, r *boltseal.Reason, policies []string) string {
	s := oneLine(withoutName(img, r.Message), maxFound) + ": " + imagePlace(img) + "; required by " + policyNames(policies)
	if r.Remedy != "" {
		s += ". What to do: " + oneLine(r.Remedy, maxRemedy)
	}
	return s
}

// exemptionText says by which exemption an image is let in, until when, and what is
// wrong with it. The end comes before what is long.
func exemptionText(c Context, img *Image, f *finding, e Exempted) string {
	what, found := "is not trusted", &f.reason
	switch {
	case e.Unpinned:
		what, found = "is not pinned", f.unpinnedReason(c)
	case img.Found.Decision == boltseal.Unknown:
		what = "could not be checked"
	}
	s := fmt.Sprintf("%s %s, and is exempt %s from policy %q by exemption %q (%s)", imagePlace(img), what, e.Exemption.Until(),
		oneLine(e.Policy, maxPolicy), oneLine(e.Exemption.Name, maxPolicy), e.Exemption.Category)
	if e.Exemption.Reason != "" {
		s += " because: " + oneLine(e.Exemption.Reason, maxExemptionReason)
	}
	return s + ". Found: " + oneLine(found.Message, maxFound)
}

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
		quoted[i] = `"` + oneLine(n, maxPolicy) + `"`
	}
	return word + strings.Join(quoted, ", ") + more
}

// boundWarnings keeps warnings within what the API server hands on whole.
func boundWarnings(warnings []string) []string {
	total := 0
	for i, w := range warnings {
		w = truncateText(w, MaxWarning)
		warnings[i] = w
		if total += len(w); total > MaxWarnings-reserve {
			return append(slices.Clip(warnings[:i]), fmt.Sprintf("and %d more warnings", len(warnings)-i))
		}
	}
	return warnings
}

// auditOf is what goes into the API server's audit log.
func auditOf(v *Verdict, c Context, dry, exempt []string) map[string]string {
	m := map[string]string{}
	if c.Decision != "" {
		m["decision"] = oneLine(c.Decision, maxID)
	}
	if len(dry) > 0 {
		m["dryrun"] = truncateText(strings.Join(dry, "\n"), MaxMessage)
	}
	if len(exempt) > 0 {
		m["exempt"] = truncateText(strings.Join(exempt, "\n"), MaxMessage)
	}
	var matched []string
	for _, a := range v.Applied {
		matched = append(matched, a.Policy+"="+string(a.Action))
	}
	if len(matched) > 0 {
		m["policies"] = oneLine(strings.Join(matched, ","), MaxWarning)
	}
	return m
}

// oneLine replaces what a terminal might obey, and cuts what is too long:
// whoever writes objects, registries and certificates chooses these texts. The
// API server drops a warning with a control character in it without a word.
func oneLine(s string, most int) string {
	return truncateText(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}, truncateText(s, most)), most)
}

func truncateText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len("…")], "") + "…"
}
