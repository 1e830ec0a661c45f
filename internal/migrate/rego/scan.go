package rego

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kind is a token's.
type kind uint8

const (
	end kind = iota
	name
	number
	textToken
	sign
)

// token is a word of the language. line says that it begins a line.
type token struct {
	kind kind
	s    string // of text: what it holds
	line bool
}

// signs of two characters; all others are one.
var signs = []string{":=", "==", "!=", "<=", ">="}

// scanTokens takes a text apart. What it does not know is left out.
func scanTokens(s string) (out []token) {
	line := true
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '\n':
			line = true
			i++
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case c == '#':
			for i < len(s) && s[i] != '\n' {
				i++
			}
		case c == '"' || c == '`':
			t, n := quotedText(s[i:])
			out = append(out, token{textToken, t, line})
			line, i = false, i+n
		case c >= '0' && c <= '9':
			n := i
			for n < len(s) && (s[n] >= '0' && s[n] <= '9' || s[n] == '.' && n+1 < len(s) && s[n+1] >= '0' && s[n+1] <= '9') {
				n++
			}
			out = append(out, token{number, s[i:n], line})
			line, i = false, n
		case c == '_' || c >= utf8.RuneSelf || unicode.IsLetter(rune(c)):
			n := i
			for n < len(s) {
				r, size := utf8.DecodeRuneInString(s[n:])
				if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
					break
				}
				n += size
			}
			if n == i { // no letter
				_, size := utf8.DecodeRuneInString(s[i:])
				i += size
				continue
			}
			out = append(out, token{name, s[i:n], line})
			line, i = false, n
		default:
			n := 1
			for _, two := range signs {
				if strings.HasPrefix(s[i:], two) {
					n = 2
				}
			}
			out = append(out, token{sign, s[i : i+n], line})
			line, i = false, i+n
		}
		if len(out) > maxTokens {
			return out[:maxTokens]
		}
	}
	return out
}

// quotedText reads a text, and says how long it is with its quotes.
func quotedText(s string) (t string, n int) {
	for n = 1; n < len(s); n++ {
		switch {
		case s[n] == s[0]:
			if s[0] == '`' {
				return s[1:n], n + 1
			}
			if t, err := strconv.Unquote(s[:n+1]); err == nil {
				return t, n + 1
			}
			return s[1:n], n + 1
		case s[0] == '"' && s[n] == '\\':
			n++
		case s[0] == '"' && s[n] == '\n':
			return s[1:n], n
		}
	}
	return s[1:min(n, len(s))], min(n, len(s))
}
