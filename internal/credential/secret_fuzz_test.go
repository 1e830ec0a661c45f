package credential

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzParseAuths: what a Secret holds reaches no other host than the entry's, and no
// error.
func FuzzParseAuths(f *testing.F) {
	for _, s := range []string{`{"auths":{"r.example":{"auth":"` + auth("user", "hunter2hunter2") + `"}}}`, `{"r.example/a":{"username":"user","password":"hunter2hunter2"}}`,
		`{"auths":{"https://index.docker.io/v1/":{"identitytoken":"hunter2hunter2"}}}`, `{"auths":{"*.example":{"auth":"` + auth("user", "hunter2hunter2") + `"}}}`, `{"credsStore":"x"}`, `{"auths":[]}`, `{`, ``, `null`} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, legacy bool) {
		weight.Bound{Floor: 64 << 10, Times: 64}.Check(t, len(b), func() { _, _ = ParseAuths(b, legacy) })
		a, err := ParseAuths(b, legacy)
		if err != nil {
			if strings.Contains(err.Error(), "hunter2hunter2") {
				t.Errorf("a secret is in the error: %v", err)
			}
			return
		}
		if c, err := a.Credential("nobody-wrote-this.example", "app"); err == nil && !c.Anonymous() && !strings.Contains(strings.ToLower(string(b)), "nobody-wrote-this.example") && !strings.Contains(string(b), `\u`) && !strings.Contains(string(b), "*") {
			t.Errorf("a credential for a host that has no entry: %+v", c)
		}
		if _, err := a.Credential("r.example", "a/b"); err != nil && strings.Contains(err.Error(), "hunter2hunter2") {
			t.Errorf("a secret is in the error: %v", err)
		}
	})
}
