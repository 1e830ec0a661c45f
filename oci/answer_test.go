package oci

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/boltseal/boltseal/internal/test/weight"
)

func TestTextOfStrangers(t *testing.T) {
	t.Parallel()
	const secret = "hunter2hunter2"
	for in, want := range map[string]string{
		"Your authorization token has expired. Reauthenticate and try again.": "Your authorization token has expired. Reauthenticate and try again.",
		"a\r\nb\tc\x1b[31md\x00":                              "a b c [31md",
		"left\u202eright\u200b":                               "leftright",
		"bad \xff bytes":                                      "bad bytes",
		"password " + secret + " is wrong":                    "password … is wrong",
		"you sent Authorization: Bearer abc.def":              "you sent Authorization: …",
		"you sent basic dXNlcjpwYXNzd29yZA==":                 "you sent …",
		"token=abcdefghijklmnop":                              "…",
		"see https://x.example/y?sig=abcdefghijklmnop now":    "see https://x.example/y… now",
		"JWT eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc is old": "JWT … is old",
		"no manifest sha256:" + strings.Repeat("0", 64):       "no manifest sha256:" + strings.Repeat("0", 64),
		strings.Repeat("ab ", 300):                            strings.Repeat("ab ", 100) + "…",
	} {
		if got := cleanText(in, []string{secret, "", "x"}); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzTextOfStrangers(f *testing.F) {
	f.Add("Bearer abc", "abc")
	f.Add("a\u202e\xff", "s3cret")
	f.Fuzz(func(t *testing.T, text, secret string) {
		weight.Bound{Floor: 16 << 10, Times: 16}.Check(t, len(text), func() { _ = cleanText(text, []string{secret}) })
		got := cleanText(text, []string{secret})
		if len(got) > maxErrorText+len("…") || !utf8.ValidString(got) || strings.IndexFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
			t.Errorf("%q", got)
		}
	})
}
