package cli

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/boltseal/boltseal"
)

// printable replaces control characters: registries and certificates choose
// these texts, and a terminal must not obey them.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '�'
		}
		return r
	}, s)
}

func shortDigest(d string) string {
	const keep = len("sha256:") + 12
	switch {
	case d == "":
		return "-"
	case len(d) > keep:
		return d[:keep]
	}
	return d
}

// verdict is the word for a decision, and its colour.
func verdict(d boltseal.Decision) (word, colour string) {
	switch d {
	case boltseal.Allow:
		return "trusted", green
	case boltseal.Unknown:
		return "unknown", yellow
	}
	return "not trusted", red
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// shortImage cuts the digest of an image to what tells it from others.
func shortImage(image string) string {
	for i := len(image) - 1; i >= 0; i-- {
		if image[i] == '@' {
			return image[:i+1] + shortDigest(image[i+1:])
		}
	}
	return image
}

// dash stands where a table has nothing to say.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
