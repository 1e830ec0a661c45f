package nearest

import "testing"

func TestWord(t *testing.T) {
	fields := []string{"override", "level", "verifyTimestamp", "trustStores", "registryScopes"}
	for in, want := range map[string]string{
		"overide": "override", "Level": "level", "levle": "level", "trustStore": "trustStores",
		"registryscopes": "registryScopes", "colour": "", "": "", "x": "",
	} {
		if got := Word(in, fields); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestOtherWords: what differs by a word in the middle is no slip.
func TestOtherWords(t *testing.T) {
	for in, candidate := range map[string]string{"notationEnabled": "cosignEnabled", "clientCertFile": "clientTokenFile", "spec.template.spec": "spec.selector.spec"} {
		if got := Word(in, []string{candidate}); got != "" {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

func FuzzWord(f *testing.F) {
	f.Add("overide", "override")
	f.Fuzz(func(t *testing.T, a, b string) {
		if len(a) > maxLength || len(b) > maxLength {
			if Word(a, []string{b}) != "" {
				t.Fatal("a word over the limit was found")
			}
			return
		}
		if d := editDistance(a, b); d != editDistance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Fatalf("distance %d", d)
		}
	})
}
