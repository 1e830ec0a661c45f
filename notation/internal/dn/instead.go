package dn

import (
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Instead returns what somebody probably meant by a name that Parse refuses, as
// Parse reads it: with commas for the slashes, lines or semicolons between parts,
// with escapes for quotes, for commas that stand bare and for hexadecimal, without a
// label such as "subject=" before it. "" where there is no telling. Its cost is
// bounded by MaxLength.
func Instead(s string) string {
	if len(s) > MaxLength || !utf8.ValidString(s) {
		return ""
	}
	s = straightenQuotes(s)
	s = removeLabel(trimValue(s))
	var out []string
	for _, p := range splitParts(s) {
		value, ok := plainValue(p.value)
		if !ok {
			return ""
		}
		out = append(out, p.typ+"="+escapeValue(value))
	}
	text := strings.Join(out, ", ")
	if _, err := Parse(text); len(out) == 0 || len(out) > MaxAttributes || err != nil {
		return ""
	}
	return text
}

// straightenQuotes replaces what word processors and web pages make of quotes and spaces.
func straightenQuotes(s string) string {
	return strings.NewReplacer("“", `"`, "”", `"`, "„", `"`, "‟", `"`, "«", `"`, "»", `"`, "\u00a0", " ", "\u202f", " ", "\ufeff", "", "\u200b", "",
		"，", ",", "＝", "=", "；", ";", "\r\n", "\n", "\r", "\n", "\t", " ").Replace(s)
}

var labels = []string{"subject", "subject name", "subject dn", "dn", "distinguished name", "owner", "rfc2253", "rfc4514"}

// removeLabel takes a label off that programs write before a name.
func removeLabel(s string) string {
	for _, l := range labels {
		if len(s) <= len(l) || !strings.EqualFold(s[:len(l)], l) {
			continue
		}
		rest := strings.TrimLeft(s[len(l):], " ")
		if rest == "" || rest[0] != '=' && rest[0] != ':' {
			continue
		}
		if rest = trimValue(rest[1:]); beginsWithType(rest) || strings.HasPrefix(rest, "/") {
			return rest
		}
	}
	return s
}

// part is one attribute as it is written.
type part struct{ typ, value string }

// splitParts takes a name apart where a separator is followed by a type that is known.
func splitParts(s string) (out []part) {
	separators := ",;+\n"
	if rest, ok := strings.CutPrefix(s, "/"); ok {
		s, separators = rest, "/"
	}
	quoted, escaped, from := false, false, 0
	cut := func(to int) bool {
		typ, value, ok := strings.Cut(s[from:to], "=")
		name := typeOf(strings.TrimSpace(typ))
		if strings.TrimSpace(s[from:to]) == "" {
			return true
		}
		out = append(out, part{name, trimValue(value)})
		return ok && name != ""
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case escaped:
			escaped = false
		case c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case !quoted && strings.IndexByte(separators, c) >= 0 && (beginsWithType(s[i+1:]) || strings.TrimSpace(s[i+1:]) == ""):
			if !cut(i) {
				return nil
			}
			from = i + 1
		}
	}
	if quoted || escaped || !cut(len(s)) {
		return nil
	}
	return out
}

// trimValue takes spaces off a value that are not part of it: a space after a backslash
// is.
func trimValue(s string) string {
	t := strings.TrimSpace(s)
	if bare := strings.TrimRight(t, `\`); (len(t)-len(bare))%2 == 1 && strings.HasPrefix(s[strings.Index(s, t)+len(t):], " ") {
		t += " "
	}
	return t
}

// maxType is longer than the name of any type, with spaces around it.
const maxType = 80

// beginsWithType reports whether s begins with a type that is known, and "=".
func beginsWithType(s string) bool {
	typ, _, ok := strings.Cut(s[:min(len(s), maxType)], "=")
	return ok && typeOf(strings.TrimSpace(typ)) != ""
}

// plainValue reads a value: in quotes (RFC 2253), in hexadecimal, or with escapes,
// those of openssl (\xC3) too.
func plainValue(s string) (string, bool) {
	if strings.HasPrefix(s, "#") {
		return fromHex(s[1:])
	}
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		digits := s[i+1:]
		skip := 0
		if digits[0] == 'x' || digits[0] == 'X' {
			digits, skip = digits[1:], 1
		}
		if len(digits) >= 2 {
			if raw, err := hex.DecodeString(digits[:2]); err == nil {
				b.Write(raw)
				i += 2 + skip
				continue
			}
		}
		i++
		b.WriteByte(s[i])
	}
	out := b.String()
	return out, out == strings.ToValidUTF8(out, "") && !strings.ContainsFunc(out, unicode.IsControl)
}

// fromHex reads the BER of one text.
func fromHex(digits string) (string, bool) {
	raw, err := hex.DecodeString(strings.TrimSpace(digits))
	if err != nil {
		return "", false
	}
	var value any
	if rest, err := asn1.Unmarshal(raw, &value); err != nil || len(rest) > 0 {
		return "", false
	}
	text, ok := value.(string)
	return text, ok && !strings.ContainsFunc(text, unicode.IsControl)
}
