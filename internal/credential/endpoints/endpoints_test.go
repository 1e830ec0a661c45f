package endpoints

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	t.Parallel()
	l, problems := Parse([]string{"*.azurecr.io", "acme.registry.example.com"}, "azurecr.io")
	if len(problems) > 0 {
		t.Fatalf("%+v", problems)
	}
	for host, want := range map[string]bool{
		"acme.azurecr.io":           true,
		"a-c-m-e.azurecr.io":        true,
		"acme.registry.example.com": true,

		"registry.azurecr.io.evil.example":      false,
		"evilazurecr.io":                        false,
		"azurecr.io":                            false,
		".azurecr.io":                           false,
		"a.b.azurecr.io":                        false,
		"registry.azurecr.io:5000":              false,
		"registry.azurecr.io:443":               false,
		"REGISTRY.azurecr.io":                   false,
		"registry.AZURECR.IO":                   false,
		"registry.azurecr.io.":                  false,
		"user@registry.azurecr.io":              false,
		"evil.example#.azurecr.io":              false,
		"evil.example/.azurecr.io":              false,
		"evil.example?.azurecr.io":              false,
		`evil.example\.azurecr.io`:              false,
		"evil.example%2f.azurecr.io":            false,
		"*.azurecr.io":                          false,
		"registry.аzurecr.io":                   false, // Cyrillic
		"registry.xn--zurecr-3fg.io":            false,
		"xn--regstry-v2a.azurecr.io":            false,
		"reg\u0131stry.azurecr.io":              false,
		"registry\u3002azurecr.io":              false, // an ideographic full stop
		"registry.azurecr.io\n":                 false,
		" registry.azurecr.io":                  false,
		"registry.azurecr.io\x00":               false,
		"-registry.azurecr.io":                  false,
		"reg_istry.azurecr.io":                  false,
		"azurecr.io.registry":                   false,
		"":                                      false,
		"10.0.0.1":                              false,
		"x.registry.example.com":                false,
		"registry.example.com":                  false,
		strings.Repeat("a", 64) + ".azurecr.io": false,
	} {
		if got := l.Match(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
	if (List{}).Match("acme.azurecr.io") {
		t.Error("the zero list matches")
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"*": "*", "": "every host", "*.": "every host", "*.*": "every host", "*.io": "no host", "*.com": "no host", "io": "no host",
		"*.co.uk": "anybody", "co.uk": "anybody", "*.github.io": "anybody", "*.evil.*": "first label", "a*.azurecr.io": "first label", "a.*.azurecr.io": "first label",
		"https://acme.azurecr.io": "more than a host", "acme.azurecr.io/repo": "more than a host", "*.azurecr.io:5000": "port", "user@acme.azurecr.io": "no host",
		"Acme.azurecr.io": "lower case", "acme.azurecr.io.": "no host", ".azurecr.io": "no host", "10.0.0.1": "no host", "*.аzurecr.io": "no host", "*.xn--zurecr-3fg.io": "no host",
		"acme.azurecr.io evil.example": "no host", "localhost": "no host",
	} {
		l, problems := Parse([]string{"*.azurecr.io", text}, "azurecr.io")
		if len(problems) != 1 || problems[0].Index != 1 || !strings.Contains(problems[0].Message, says) {
			t.Errorf("%q: %+v", text, problems)
		}
		if l.Match("acme.azurecr.io") {
			t.Errorf("%q: the list is in use", text)
		}
	}
	if _, problems := Parse(slices.Repeat([]string{"acme.azurecr.io"}, Max+1)); len(problems) != 1 {
		t.Errorf("%+v", problems)
	}
	notFor := errors.New("not for it")
	if err := Refuse("azure", "evil.example\n", notFor); !errors.Is(err, notFor) || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}

// FuzzMatch: whatever matches is one plain label before the domain, or the very name.
func FuzzMatch(f *testing.F) {
	for _, host := range []string{"acme.azurecr.io", "azurecr.io", "registry.azurecr.io.evil.example", "evilazurecr.io", "a.b.azurecr.io", "acme.azurecr.io:443", "ACME.azurecr.io", "аcme.azurecr.io"} {
		f.Add(host, "*.azurecr.io")
	}
	f.Add("x.example.com", "x.example.com")
	f.Add("x.co.uk", "*.co.uk")
	f.Fuzz(func(t *testing.T, host, endpoint string) {
		l, problems := Parse([]string{endpoint}, "azurecr.io")
		if len(problems) > 0 {
			if l.Match(host) {
				t.Fatal("a list that was refused matches")
			}
			return
		}
		domain, wild := strings.CutPrefix(endpoint, "*.")
		if strings.Count(domain, ".") < 1 || strings.ContainsAny(domain, "*/:@?#%\\ \t\r\n") || domain != strings.ToLower(domain) {
			t.Fatalf("%q was taken", endpoint)
		}
		if !l.Match(host) {
			return
		}
		if !wild && host == endpoint {
			return
		}
		label, found := strings.CutSuffix(host, "."+domain)
		if !wild || !found || label == "" || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			t.Fatalf("%q matches %q", host, endpoint)
		}
	})
}
