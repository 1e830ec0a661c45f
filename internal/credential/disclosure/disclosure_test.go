package disclosure_test

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/credential/disclosure"
)

func TestWhereCredentialsMayBeShown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		way  disclosure.Way
		says string // "" = it is shown
	}{
		{disclosure.Way{}, ""},
		{disclosure.Way{Diverts: "useHttp", Elsewhere: "evil.example"}, ""}, // administrators decide for themselves
		{disclosure.Way{Namespace: "team"}, ""},
		{disclosure.Way{Namespace: "team", Diverts: "caCert"}, "the Secret is not shown where a namespace sets caCert"},
		{disclosure.Way{Namespace: "team", Elsewhere: "evil.example"}, "the Secret does not say that it is for evil.example"},
		{disclosure.Way{Namespace: "team", Diverts: "caCert", Elsewhere: "evil.example"}, "sets caCert"},
	} {
		r := disclosure.Of(c.way, "the Secret")
		if (r == nil) != (c.says == "") || r != nil && (!strings.HasPrefix(r.Why, c.says) && !strings.Contains(r.Why, c.says) || r.Field != c.way.Diverts) {
			t.Errorf("%+v: %+v, want %q", c.way, r, c.says)
		}
	}
}
