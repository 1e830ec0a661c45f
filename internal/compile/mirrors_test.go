package compile_test

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// TestMirrors: what is fetched at a mirror is judged by the name in the Pod.
func TestMirrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	scoped := func(scope string) string {
		return strings.Replace(verifier("notary", "roots"), `registryScopes: ["*"]`, `registryScopes: ["`+scope+`"]`, 1)
	}
	mirror := `mirrors: [{source: registry.example/team, endpoints: ["` + w.reg.Host + `"], only: true}]`
	name := "registry.example/team/" + repo
	for _, c := range []struct {
		name, scope string
		want        boltseal.Decision
	}{
		{"the scope names what the Pod names", name, boltseal.Allow},
		{"the scope names the mirror", w.reg.Host + "/" + repo, boltseal.Deny},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			compiled, _ := works(t, kmp("roots", w.pemA)+scoped(c.scope)+store("oras", mirror))
			r, err := compiled.EngineFor("").Verify(t.Context(), name+":a")
			if err != nil || r.Decision != c.want || r.Reference.Registry != "registry.example" {
				t.Errorf("%v %s %+v", err, r.Decision, r.Reason)
			}
		})
	}
	ps := fails(t, kmp("roots", w.pemA)+verifier("notary", "roots")+store("oras", `mirrors: [{source: "https://ghcr.io", endpoints: [mirror.example]}]`))
	if got := ps.Error(); !strings.Contains(got, `spec.parameters.mirrors: "https://ghcr.io" is no place of images`) {
		t.Error(got)
	}
	ps = fails(t, kmp("roots", w.pemA)+verifier("notary", "roots")+store("oras", `mirrors: [{source: ghcr.io, endpoint: [mirror.example]}]`))
	if got := ps.Error(); !strings.Contains(got, `did you mean "endpoints"?`) {
		t.Error(got)
	}
}
