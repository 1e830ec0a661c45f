package oci

import (
	"errors"
	"net/http"
	"strings"
)

// Limits on the links of an answer.
const (
	maxLinkHeaders = 16
	maxLinkLength  = 8 << 10
)

var errLink = errors.New("the header Link cannot be read")

// nextLink returns the target of the rel="next" link of an answer, "" for none
// (RFC 8288, section 3). What cannot be read is an error, as it may have held
// such a link.
func nextLink(h http.Header) (string, error) {
	lines := h.Values("Link")
	if len(lines) > maxLinkHeaders {
		return "", errLink
	}
	for _, s := range lines {
		if len(s) > maxLinkLength {
			return "", errLink
		}
		for s = strings.TrimLeft(s, " \t,"); s != ""; s = strings.TrimLeft(s, " \t,") {
			var target string
			var next, ok bool
			if target, next, s, ok = parseLink(s); !ok {
				return "", errLink
			}
			if next && target == "" {
				return "", errLink
			}
			if next {
				return target, nil
			}
		}
	}
	return "", nil
}

// parseLink reads one link, and returns what follows it.
func parseLink(s string) (target string, next bool, rest string, ok bool) {
	if !strings.HasPrefix(s, "<") {
		return "", false, "", false
	}
	target, s, ok = strings.Cut(s[1:], ">")
	if !ok {
		return "", false, "", false
	}
	related := false
	for {
		s = strings.TrimLeft(s, " \t")
		if s == "" || s[0] == ',' {
			return strings.TrimSpace(target), next, s, true
		}
		if s[0] != ';' {
			return "", false, "", false
		}
		name, after := readToken(strings.TrimLeft(s[1:], " \t"))
		after = strings.TrimLeft(after, " \t")
		if !strings.HasPrefix(after, "=") {
			s = after // a parameter without a value, or an empty one
			continue
		}
		var v string
		if v, s, ok = readValue(strings.TrimLeft(after[1:], " \t")); !ok || name == "" {
			return "", false, "", false
		}
		// Of several, the first counts.
		if strings.EqualFold(name, "rel") && !related {
			related = true
			for kind := range strings.FieldsSeq(strings.Trim(v, "'")) { // some write the other quotes
				next = next || strings.EqualFold(kind, "next")
			}
		}
	}
}
