package compile_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/policy"
)

// TestNodes: a Policy that asks for what Nodes run demands what they run now, and
// allows nothing by not knowing it.
func TestNodes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	signed, unsigned := w.reg.PushImage(repo, "plain", 0), w.reg.PushImage(repo, "", 1)
	w.reg.Sign(repo, signed, w.a, testca.SignOptions{SigningTime: now})
	w.reg.PushIndex(repo, "below", signed, unsigned) // linux/amd64, linux/arm64
	index := w.reg.PushIndex(repo, "both", signed, unsigned, unsigned)
	w.reg.Sign(repo, index, w.a, testca.SignOptions{SigningTime: now})
	k := newKube(t)
	k.apply(kmp("roots", w.pemA) + store("oras", "") + verifier("notary", "roots"))
	under := func(n *compile.Nodes) (*compile.Compiled, *compile.Standing) {
		k.deps.Nodes = n
		c, standing := k.compile()
		t.Cleanup(c.Close)
		return c, standing[compile.Key{Kind: "Policy", Name: "ratify-policy"}]
	}
	wants := func() bool {
		return compile.NewCluster(k.o, slices.Collect(maps.Values(k.entries))).WantsNodes()
	}
	amd := compile.NewNodes([]string{"linux/amd64"})
	for _, tt := range []struct {
		nodes       *compile.Nodes
		parameters  string
		below, both string
		warns       string
	}{
		{amd, "multiArch: platforms\nplatforms: [nodes]\n", "trusted", "trusted", ""},
		{compile.NewNodes([]string{"linux/amd64", "linux/arm64"}), "multiArch: platforms\nplatforms: [nodes]\n", "not trusted", "not trusted", ""},
		{amd, "multiArch: platforms\nplatforms: [nodes, linux/arm64]\n", "not trusted", "not trusted", ""},
		{compile.NewNodes([]string{"linux/s390x"}), "multiArch: platforms\nplatforms: [linux/amd64, nodes]\n", "trusted", "not trusted", ""}, // the third of "both" is for s390x
		{compile.NewNodes([]string{"linux/arm64"}), "multiArch: either\nplatforms: [nodes]\n", "not trusted", "trusted", ""},
		{compile.NewNodes(nil), "multiArch: platforms\nplatforms: [nodes]\n", "not trusted", "not trusted", "no Node yet: every manifest"},
		{compile.NewNodes([]string{"linux/amd64", "/"}), "multiArch: platforms\nplatforms: [nodes]\n", "not trusted", "not trusted", `say "/", which is no platform`},
		{compile.NewNodes([]string{"linux/arm/v7", "linux/amd64"}), "multiArch: platforms\nplatforms: [nodes]\n", "not trusted", "not trusted", `say "linux/arm/v7"`},
		{&compile.Nodes{Unread: "forbidden"}, "multiArch: platforms\nplatforms: [nodes]\n", "unknown", "unknown", "forbidden: an image of several platforms is unknown"},
		{&compile.Nodes{Unread: "forbidden"}, "multiArch: either\nplatforms: [nodes, linux/amd64]\n", "unknown", "trusted", "forbidden"},
		{nil, "multiArch: platforms\nplatforms: [nodes]\n", "unknown", "unknown", "there is no cluster here"},
	} {
		k.apply(asking("ratify-policy", tt.parameters))
		c, st := under(tt.nodes)
		if !st.OK() || len(st.Warnings) > 1 || (len(st.Warnings) == 1) != (tt.warns != "") || tt.warns != "" && !strings.Contains(st.Warnings[0].Error(), tt.warns) {
			t.Errorf("%+v: %q: %v %v", tt.nodes, tt.parameters, st.Problems, st.Warnings)
		}
		for tag, want := range map[string]string{"below": tt.below, "both": tt.both, "plain": "trusted"} {
			r := w.verify(t, c, "", tag)
			if r.Decision.String() != want {
				t.Errorf("%+v: %q: %s: %s: %s", tt.nodes, tt.parameters, tag, r.Decision, r.Reason.Message)
			}
			if want == "unknown" && (r.Reason.Cause != boltseal.CauseUnavailable || !strings.Contains(r.Reason.Message, "which of the image's platforms matter is not known") || !strings.Contains(r.Reason.Remedy, "list platforms")) {
				t.Errorf("%+v", r.Reason)
			}
		}
	}

	// What Nodes run is a part of what engines are kept by, and the order in which
	// they are listed is not; those who do not ask keep theirs.
	k.apply(asking("ratify-policy", "multiArch: platforms\nplatforms: [nodes]\n") + asking("team/ratify-policy", "multiArch: all\n"))
	two := func(a, b string) *compile.Compiled {
		c, _ := under(compile.NewNodes([]string{a, b}))
		return c
	}
	was := two("linux/amd64", "linux/arm64")
	if now := two("linux/arm64", "linux/amd64"); now.EngineFor("") != was.EngineFor("") {
		t.Error("another order is another engine")
	}
	now := two("linux/amd64", "linux/s390x")
	if now.EngineFor("") == was.EngineFor("") || now.EngineFor("team") != was.EngineFor("team") {
		t.Error("the engine of a Policy that asks for Nodes outlives them, or another does not")
	}
	o, _ := policy.OptionsOf(now.EngineFor("").Policy())
	if !slices.Equal(o.Platforms, []boltseal.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "s390x"}}) {
		t.Errorf("%+v", o)
	}
	if !wants() {
		t.Error("nobody wants Nodes")
	}
	k.apply(asking("ratify-policy", "multiArch: platforms\n"))
	k.compile()
	if wants() {
		t.Error("somebody wants Nodes")
	}
}

func TestNodesMessages(t *testing.T) {
	t.Parallel()
	base := kmp("roots", chain(t).Root().PEM()) + store("oras", "") + verifier("notary", "roots")
	for parameters, want := range map[string]string{
		"multiArch: platforms\nplatforms: [nodes, nodes]\n": "spec.parameters.platforms[1]: nodes is listed twice",
		"platforms: [nodes]\n":                              `spec.parameters.platforms: platforms are listed, and multiArch is "named"`,
		"multiArch: all\nplatforms: [nodes]\n":              `spec.parameters.platforms: platforms are listed, and multiArch is "all"`,
		"multiArch: either\nplatforms: [node]\n":            "is not OS/ARCHITECTURE or OS/ARCHITECTURE/VARIANT, such as linux/amd64 or linux/arm64/v8, and not nodes",
	} {
		ps := fails(t, base+asking("ratify-policy", parameters))
		if len(ps) != 1 || !strings.Contains(ps[0].Error(), want) {
			t.Errorf("%q: %v", parameters, ps)
		}
	}
}
