package compile_test

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/policy"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// asking is a Policy with more parameters, "" for none.
func asking(name, parameters string) string {
	return policyDoc(name, "default: any") + indent(4, []byte(parameters))
}

// TestMultiArch: what a Policy demands of images of several platforms is what its
// namespace's engine asks for.
func TestMultiArch(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	signed, unsigned := w.reg.PushImage(repo, "", 0), w.reg.PushImage(repo, "", 0)
	w.reg.Sign(repo, signed, w.a, testca.SignOptions{SigningTime: now})
	index := w.reg.PushIndex(repo, "index", signed, unsigned) // linux/amd64, linux/arm64
	w.reg.Sign(repo, index, w.a, testca.SignOptions{SigningTime: now})
	w.reg.PushIndex(repo, "below", []ocispec.Descriptor{signed}...)
	base := kmp("roots", w.pemA) + store("oras", "") + verifier("notary", "roots")
	for _, tt := range []struct{ parameters, index, below string }{
		{"", "trusted", "not trusted"},
		{"multiArch: named\n", "trusted", "not trusted"},
		{"multiArch: platforms\n", "not trusted", "trusted"},
		{"multiArch: platforms\nplatforms: [linux/amd64]\n", "trusted", "trusted"},
		{"multiArch: platforms\nplatforms: [linux/amd64, linux/arm64/v8]\n", "not trusted", "trusted"},
		{"multiArch: platforms\nplatforms: [linux/arm64]\n", "not trusted", "not trusted"},
		{"multiArch: either\nplatforms: [linux/arm64]\n", "trusted", "not trusted"},
		{"multiArch: either\n", "trusted", "trusted"},
		{"multiArch: all\n", "not trusted", "not trusted"},
	} {
		c, _ := works(t, base+asking("ratify-policy", tt.parameters))
		if got := w.verify(t, c, "", "index").Decision.String(); got != tt.index {
			t.Errorf("%q: index: %s", tt.parameters, got)
		}
		if got := w.verify(t, c, "", "below").Decision.String(); got != tt.below {
			t.Errorf("%q: below: %s", tt.parameters, got)
		}
		if got := w.trusts(t, c, ""); !strings.Contains(got, "a") {
			t.Errorf("%q: images of one platform: %s", tt.parameters, got)
		}
	}
	// A namespace's Policy is its own, and recorded as it is.
	c, _ := works(t, base+asking("team/ratify-policy", "multiArch: platforms\nplatforms: [linux/amd64]\n"))
	o, ok := policy.OptionsOf(c.EngineFor("team").Policy())
	if !ok || o.MultiArch != boltseal.EachPlatform || len(o.Platforms) != 1 || o.Platforms[0].String() != "linux/amd64" {
		t.Errorf("%+v", o)
	}
	if o, ok := policy.OptionsOf(c.EngineFor("").Policy()); !ok || o.MultiArch != "" && o.MultiArch != boltseal.Named {
		t.Errorf("%+v", o)
	}
}

func TestMultiArchMessages(t *testing.T) {
	t.Parallel()
	base := kmp("roots", chain(t).Root().PEM()) + store("oras", "") + verifier("notary", "roots")
	for parameters, want := range map[string]string{
		"multiArch: platform\n":                                          `Policy ratify-policy: spec.parameters.multiArch: platform is not named, platforms, either, all (did you mean "platforms"?)`,
		"multiArch: \"\"\n":                                              "spec.parameters.multiArch: ",
		"multiarch: all\n":                                               `spec.parameters.multiarch: unknown field (did you mean "multiArch"?)`,
		"platforms: [linux/amd64]\n":                                     `spec.parameters.platforms: platforms are listed, and multiArch is "named"`,
		"multiArch: all\nplatforms: [linux/amd64]\n":                     `spec.parameters.platforms: platforms are listed, and multiArch is "all"`,
		"multiArch: platforms\nplatforms: []\n":                          "spec.parameters.platforms: it is empty: list the platforms",
		"multiArch: platforms\nplatforms: [linux/amd64, linux/x86_64]\n": `spec.parameters.platforms[1]: the platform "linux/x86_64": no architecture is called "x86_64"; known: 386, amd64`,
		"multiArch: platforms\nplatforms: [amd64]\n":                     `spec.parameters.platforms[0]: the platform "amd64" is not OS/ARCHITECTURE`,
		"multiArch: either\nplatforms: [linux/amd64, linux/amd64]\n":     "spec.parameters.platforms[1]: linux/amd64 is listed twice",
		"multiArch: either\nplatforms: linux/amd64\n":                    "spec.parameters.platforms: must be a list",
	} {
		ps := fails(t, base+asking("ratify-policy", parameters))
		if len(ps) != 1 || !strings.Contains(ps[0].Error(), want) {
			t.Errorf("%q: %v", parameters, ps)
		}
	}
	// In a cluster, a Policy that is not understood denies.
	r := compile.DecodeObject([]byte(`{"apiVersion":"config.ratify.deislabs.io/v1beta1","kind":"Policy","metadata":{"name":"ratify-policy"},"spec":{"type":"config-policy","parameters":{"multiArch":"some"}}}`))
	cluster := compile.NewCluster(compile.ClusterOptions{}, []compile.Entry{{Current: r}})
	_, standing := cluster.Compile(deps(), nil)
	if st := standing[r.Key()]; st.OK() || st.Serving != compile.ServingStandIn {
		t.Errorf("%+v", st)
	}
}
