package credential

import (
	"fmt"
	"strings"
	"testing"
)

// TestNamesWithStars: as kubelets read them, * stands for a part of one label, and
// what names the registry itself counts first.
func TestNamesWithStars(t *testing.T) {
	t.Parallel()
	var entries []string
	for _, name := range []string{"*.acme.example", "reg-*.acme.example", "*.acme.example/team", "one.acme.example", "*.ports.example:5000", "*.*.deep.example", "[.bad.example"} {
		entries = append(entries, fmt.Sprintf("%q: {\"auth\": %q}", name, auth(strings.NewReplacer(":", "+").Replace(name), "secret")))
	}
	a, err := ParseAuths([]byte("{\"auths\": {"+strings.Join(entries, ",")+"}}"), false)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ host, repository, user string }{
		{"x.acme.example", "app", "*.acme.example"},
		{"x.acme.example", "team/app", "*.acme.example/team"},
		{"x.acme.example", "teams/app", "*.acme.example"},
		{"reg-1.acme.example", "app", "reg-*.acme.example"},
		{"one.acme.example", "team/app", "one.acme.example"},
		{"x.ports.example:5000", "app", "*.ports.example+5000"},
		{"a.b.deep.example", "app", "*.*.deep.example"},
		{"acme.example", "app", ""},
		{"a.b.acme.example", "app", ""},
		{"x.acme.example.evil.example", "app", ""},
		{"x.evilacme.example", "app", ""},
		{"x.acme.example:5000", "app", ""},
		{"x.ports.example", "app", ""},
		{"a.deep.example", "app", ""},
		{"b.bad.example", "app", ""},
	} {
		if got, err := a.Credential(c.host, c.repository); err != nil || got.Username != c.user {
			t.Errorf("%s/%s: %q %v, want %q", c.host, c.repository, got.Username, err, c.user)
		}
	}
}
