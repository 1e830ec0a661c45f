package oci

import "strings"

// challenge is what a registry asks for (RFC 9110, section 11; distribution
// token authentication).
type challenge struct {
	scheme  string // "basic" or "bearer", lower case
	realm   string
	service string
}

// Limits on a challenge.
const (
	maxChallengeHeaders = 4
	maxChallengeLength  = 4096
)

// parseChallenges picks the challenge to answer: Bearer before Basic. ok is
// false where there is none that we know.
func parseChallenges(headers []string) (best challenge, ok bool) {
	for i, h := range headers {
		if i == maxChallengeHeaders || len(h) > maxChallengeLength {
			break
		}
		for h != "" {
			var c challenge
			var valid bool
			if c, h, valid = parseChallenge(h); !valid {
				break
			}
			if c.scheme == "bearer" && best.scheme != "bearer" || c.scheme == "basic" && best.scheme == "" {
				best = c
			}
		}
	}
	return best, best.scheme != ""
}

// parseChallenge reads one challenge and returns what follows it. One that
// states a parameter twice is not valid.
func parseChallenge(s string) (c challenge, rest string, ok bool) {
	scheme, s := readToken(strings.TrimLeft(s, " \t,"))
	if scheme == "" {
		return c, "", false
	}
	c.scheme = strings.ToLower(scheme)
	if after, ok := skipToken68(s); ok {
		return challenge{scheme: c.scheme}, after, true
	}
	var realm, service bool
	for {
		s = strings.TrimLeft(s, " \t,")
		name, after := readToken(s)
		after = strings.TrimLeft(after, " \t")
		if name == "" || !strings.HasPrefix(after, "=") {
			return c, s, true // the next challenge starts here, or nothing
		}
		value, after, ok := readValue(strings.TrimLeft(after[1:], " \t"))
		if !ok {
			return c, "", false
		}
		switch strings.ToLower(name) {
		case "realm":
			ok, c.realm, realm = !realm, value, true
		case "service":
			ok, c.service, service = !service, value, true
		}
		if !ok {
			return c, "", false
		}
		s = after
	}
}

// skipToken68 skips what some schemes have in place of parameters (RFC 9110,
// section 11.2).
func skipToken68(s string) (rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	i := 0
	for i < len(s) && (isAlphanumeric(s[i]) || strings.IndexByte("-._~+/", s[i]) >= 0) {
		i++
	}
	after := strings.TrimLeft(s[i:], "=")
	after = strings.TrimLeft(after, " \t")
	// A name that a "," follows would be a token68 too, and is the next scheme
	// where this one has no parameters; nobody challenges like that.
	if i == 0 || after != "" && after[0] != ',' {
		return s, false
	}
	return after, true
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// readToken reads a token and value a token or a quoted string (RFC 9110, section 5.6).
func readToken(s string) (tok, rest string) {
	i := 0
	for i < len(s) && (isAlphanumeric(s[i]) || strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) >= 0) {
		i++
	}
	return s[:i], s[i:]
}

func readValue(s string) (v, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		v, rest = readToken(s)
		return v, rest, v != ""
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", "", false
}
