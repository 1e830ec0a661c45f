package integrity

import (
	"strings"

	"github.com/boltseal/boltseal"
)

// Page says the ways out for images that something else fills in.
const Page = "docs/placeholders.md"

// marks are parts of names that no image has, and that programs replace.
var marks = []string{"{{", "}}", "${", "$(", "ko://", "<", "%(", "@@"}

// words are names that stand for an image which something else fills in: "auto" is
// that of Istio's injected gateways.
var words = []string{"auto", "placeholder", "replace-me", "replaceme", "replace_me", "changeme", "change-me", "todo", "tbd", "none", "image", "unset"}

// isPlaceholder reports whether a text is written where an image's name goes until
// something else puts the name there, as people and programs write it.
func isPlaceholder(image string) bool {
	text := strings.ToLower(strings.TrimSpace(image))
	if text == "" {
		return true
	}
	for _, m := range marks {
		if strings.Contains(text, m) {
			return true
		}
	}
	name, _, _ := strings.Cut(text, ":")
	for _, w := range words {
		if name == w {
			return true
		}
	}
	return false
}

// placeholderReason is what is said of an image that is not trusted: the reason, and of what seems
// to be a placeholder that it is one, with the ways out. It decides nothing.
func placeholderReason(c Context, img *Image, r *boltseal.Reason) *boltseal.Reason {
	if img.Found.Digest != "" || !isPlaceholder(img.Image) {
		return r
	}
	out := *r
	if c.Pod {
		out.Message = "it seems to be a placeholder, and nothing has put an image's name in its place: " + r.Message
		out.Remedy = "see whether what replaces it (a sidecar injector, an image trigger, a template) works and comes before this webhook: " + Page
		return &out
	}
	out.Message = "it seems to be a placeholder, in whose place something puts an image's name before a Pod is made: " + r.Message
	out.Remedy = "let the policy select Pods only (match.kinds: [Pod])"
	if strings.TrimSpace(img.Image) != "" {
		if _, err := boltseal.ParseReference(img.Image); err == nil {
			out.Remedy += ", or list it in the policy's excludedImages"
		}
	}
	out.Remedy += ": " + Page
	return &out
}

// leastName is how long a name must be for a warning to leave it out.
const leastName = 24

// withoutName is a reason's message without the image's name, which is said once already:
// the API server may cut a warning after 256 characters.
func withoutName(img *Image, message string) string {
	names := []string{img.Image}
	if ref, err := boltseal.ParseReference(img.Image); err == nil {
		names = append(names, ref.String(), ref.Name())
		if img.Found.Digest != "" {
			names = append([]string{ref.WithDigest(img.Found.Digest).String(), ref.Name() + "@" + img.Found.Digest.String()}, names...)
		}
	}
	for _, n := range names {
		if len(n) >= leastName {
			message = strings.ReplaceAll(message, n, "the image")
		}
	}
	return message
}
