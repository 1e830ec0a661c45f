package oci

import (
	"net/http"
	"strings"
)

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

// parseChallenge reads one challenge and returns what follows it.
func parseChallenge(s string) (c challenge, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t,")
	scheme, s := token(s)
	if scheme == "" {
		return c, "", false
	}
	c.scheme = strings.ToLower(scheme)
	for {
		s = strings.TrimLeft(s, " \t,")
		name, after := token(s)
		after = strings.TrimLeft(after, " \t")
		if name == "" || !strings.HasPrefix(after, "=") {
			return c, s, true // the next challenge starts here, or nothing
		}
		after = strings.TrimLeft(after[1:], " \t")
		value, after, ok := value(after)
		if !ok {
			return c, "", false
		}
		switch strings.ToLower(name) {
		case "realm":
			c.realm = value
		case "service":
			c.service = value
		}
		s = after
	}
}

func token(s string) (tok, rest string) {
	i := 0
	for i < len(s) && (s[i] >= 'a' && s[i] <= 'z' || s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) >= 0) {
		i++
	}
	return s[:i], s[i:]
}

func value(s string) (v, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		v, rest = token(s)
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

// nextLink returns the target of the rel="next" link of an answer, "" for none
// (RFC 8288).
func nextLink(h http.Header) string {
	for _, line := range h.Values("Link") {
		if len(line) > maxChallengeLength {
			continue
		}
		for line != "" {
			start := strings.IndexByte(line, '<')
			end := strings.IndexByte(line, '>')
			if start < 0 || end < start {
				break
			}
			target := line[start+1 : end]
			params, rest, _ := strings.Cut(line[end+1:], ",")
			for _, p := range strings.Split(params, ";") {
				name, v, _ := strings.Cut(strings.TrimSpace(p), "=")
				if strings.EqualFold(strings.TrimSpace(name), "rel") && strings.EqualFold(strings.Trim(strings.TrimSpace(v), `"`), "next") {
					return target
				}
			}
			line = rest
		}
	}
	return ""
}
