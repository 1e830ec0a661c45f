package frame

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/boltseal/boltseal"
)

// SafeText replaces control characters: registries and certificates choose
// these texts, and a terminal must not obey them.
func SafeText(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '�'
		}
		return r
	}, s)
}

// ShortDigest returns as much of a digest as people compare, - for none.
func ShortDigest(d string) string {
	const keep = len("sha256:") + 12
	switch {
	case d == "":
		return "-"
	case len(d) > keep:
		return d[:keep]
	}
	return d
}

// VerdictWord is the word for a decision, and its colour.
func VerdictWord(d boltseal.Decision) (word, colour string) {
	switch d {
	case boltseal.Allow:
		return "trusted", Green
	case boltseal.Unknown:
		return "unknown", Yellow
	}
	return "not trusted", Red
}

// CountNoun returns a number and what it counts, such as "1 image" and "2 images".
func CountNoun(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// ShortImage cuts the digest of an image to what tells it from others.
func ShortImage(image string) string {
	for i := len(image) - 1; i >= 0; i-- {
		if image[i] == '@' {
			return image[:i+1] + ShortDigest(image[i+1:])
		}
	}
	return image
}

// OrDash stands where a table has nothing to say.
func OrDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
