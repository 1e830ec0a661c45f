package notation

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// TestPluginsAreNamed: a signature that asks for a plugin is rejected with the
// plugin's name, where that can be read.
func TestPluginsAreNamed(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	const key = "io.cncf.notary.verificationPlugin"
	for _, c := range []struct {
		name  string
		attrs []testca.Attribute
		says  string
	}{
		{"its name", []testca.Attribute{{Key: key, Critical: true, Value: "com.example.plugin"}}, `"com.example.plugin"`},
		{"beside another attribute", []testca.Attribute{{Key: "a.example.first", Critical: true, Value: "x"}, {Key: key, Critical: true, Value: "com.example.plugin"}}, `"com.example.plugin"`},
		{"no text", []testca.Attribute{{Key: key, Critical: true, Value: 5}}, key},
		{"long", []testca.Attribute{{Key: key, Critical: true, Value: strings.Repeat("a", 5000)}}, strings.Repeat("a", 90)},
		{"control characters", []testca.Attribute{{Key: key, Critical: true, Value: "a\x1b[31m"}}, `a\x1b[31m`},
		{"none", []testca.Attribute{{Key: "a.example.first", Critical: true, Value: "x"}}, `"a.example.first"`},
	} {
		for _, f := range []testca.Format{testca.JWS, testca.COSE} {
			ev := must(trusting(t, chain).Verify(t.Context(), subject(t), candidate(sign(t, chain, testca.SignOptions{Attributes: c.attrs, Format: f}))))(t)
			if ev.Outcome != boltseal.Rejected || ev.Reason.Cause != boltseal.CauseUnsupported || !strings.Contains(ev.Reason.Message, c.says) || len(ev.Reason.Message) > 400 || ev.Reason.Remedy == "" {
				t.Errorf("%s, %v: %v, %+v", c.name, f, ev.Outcome, ev.Reason)
			}
		}
	}
}

// TestScopesAreWholeRepositories: where a scope is the beginning of an image's
// repository, the reason says that it does not cover it.
func TestScopesAreWholeRepositories(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	name := subject(t).Reference.Name()
	parent := name[:strings.LastIndexByte(name, '/')]
	for _, c := range []struct {
		scopes []string
		says   string
	}{
		{[]string{"a.example/other", parent}, "the scope " + parent + " is that one repository"},
		{[]string{name + "/below"}, "no trust policy of notation covers " + name},
		{[]string{name + "-other"}, "no trust policy of notation covers " + name},
	} {
		if !strings.Contains(parent, "/") {
			t.Fatal(parent)
		}
		ev := must(trusting(t, chain, scopes(c.scopes...)).Verify(t.Context(), subject(t), candidate(sign(t, chain, testca.SignOptions{}))))(t)
		if ev.Outcome != boltseal.Rejected || ev.Reason.Cause != boltseal.CauseNoTrustPolicy || !strings.Contains(ev.Reason.Message, c.says) || strings.Contains(ev.Reason.Message, "that one repository") != strings.Contains(c.says, "that one") {
			t.Errorf("%v: %v, %+v", c.scopes, ev.Outcome, ev.Reason)
		}
	}
	for in, says := range map[string]string{"https://a.example/b": "leave https:// out, and write a.example/b", "http://a.example/b/": "write a.example/b as", "docker://a.example/b": "leave docker:// out", "oci://a.example/b": "leave oci:// out"} {
		if _, err := NewTrustPolicy(document(statementOf(scopes(in)))); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", in, err)
		}
	}
}
