package plain_test

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal/internal/base/plain"
)

// quotes is what plain.JSON stands in for.
func quotes(s string) bool {
	b, err := jsontext.AppendQuote(nil, s)
	return err == nil && string(b) == `"`+s+`"` && strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

func TestEveryByteAtEveryPlace(t *testing.T) {
	t.Parallel()
	for n := 1; n <= 17; n++ {
		for at := range n {
			for c := range 256 {
				b := []byte(strings.Repeat("a", n))
				b[at] = byte(c)
				if got, want := plain.JSON(string(b)), quotes(string(b)); got != want {
					t.Fatalf("%q: %v, want %v", b, got, want)
				}
			}
		}
	}
	if !plain.JSON("") {
		t.Error("nothing is plain")
	}
}

func FuzzJSON(f *testing.F) {
	f.Add("registry.example/team/app@sha256:0123")
	f.Add("\x7f\x80\x1f\x20\"\\")
	f.Fuzz(func(t *testing.T, s string) {
		if plain.JSON(s) != quotes(s) {
			t.Errorf("%q: %v", s, plain.JSON(s))
		}
	})
}

func BenchmarkJSON(b *testing.B) {
	s := "registry.example/team/app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for b.Loop() {
		plain.JSON(s)
	}
}
