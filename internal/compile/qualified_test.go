package compile_test

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// TestNamespaceOfAName: a name with a namespace means what is there, in files as in a
// cluster; a namesake in another namespace, or of the whole cluster, does not answer.
func TestNamespaceOfAName(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	for _, c := range []struct{ name, provider, names, hint string }{ // hint "" = it is meant
		{"the same", certStore("gatekeeper-system/certs", w.pemA), "gatekeeper-system/certs", ""},
		{"another namespace", certStore("default/certs", w.pemA), "gatekeeper-system/certs", "is another one: name that if it is meant"},
		{"a namespace that is named by its name alone", certStore("boltseal-system/certs", w.pemA), "gatekeeper-system/certs", "is another one"},
		{"a namespace of nobody's", certStore("elsewhere/certs", w.pemA), "gatekeeper-system/certs", "; elsewhere/certs is another one"},
		{"of the whole cluster", kmp("certs", w.pemA), "gatekeeper-system/certs", "; certs is another one"},
		{"of a namespace, by its name alone", kmp("team/certs", w.pemA), "certs", "; team/certs is another one"},
		{"of a namespace", kmp("team/certs", w.pemA), "team/certs", ""},
		{"of another namespace", kmp("team/certs", w.pemA), "default/certs", "; team/certs is another one"},
		{"no namespace", kmp("certs", w.pemA), "/certs", ""},
		{"one that cannot be read", strings.Replace(certStore("default/certs", w.pemA), "provider: inline", "provider: inlin", 1), "gatekeeper-system/certs", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := c.provider + store("s", "") + verifier("v", c.names)
			k := newKube(t)
			k.o.CertificateStores = compile.CertificateStores("")
			k.apply(text)
			inCluster, standing := k.compile()
			if c.hint == "" && c.name != "no namespace" && c.name != "one that cannot be read" {
				compiled, _ := works(t, text)
				for where, got := range map[string]*compile.Compiled{"a cluster": inCluster, "files": compiled} {
					if trusted := w.trusts(t, got, ""); trusted != "a both" {
						t.Errorf("%s: %q", where, trusted)
					}
				}
				return
			}
			says := "the KeyManagementProvider or CertificateStore " + c.names + ", which is not there" + c.hint
			if !strings.HasPrefix(c.hint, ";") {
				says = "the KeyManagementProvider or CertificateStore " + c.names + ", which is not there"
			}
			if ps := fails(t, text); !strings.Contains(ps.Error(), says) || !strings.Contains(ps.Error(), c.hint) {
				t.Errorf("%v, want %s", ps, says)
			}
			st := standing[compile.Key{Kind: "Verifier", Name: "v"}]
			if !strings.Contains(st.Problems.Error(), says) || !strings.Contains(st.Problems.Error(), c.hint) {
				t.Errorf("%v, want %s", st.Problems, says)
			}
			if r := w.verify(t, inCluster, "", "a"); r.Decision != boltseal.Deny {
				t.Errorf("%s %+v", r.Decision, r.Reason)
			}
		})
	}
}

// TestFilesMeanWhatAClusterMeans: documents that a cluster takes are taken from files,
// and come to the same.
func TestFilesMeanWhatAClusterMeans(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	for name, text := range map[string]string{
		"two of one name":        certStore("default/c", w.pemA) + certStore("gatekeeper-system/c", w.pemB) + verifier("v", "c") + store("s", ""),
		"by both names":          certStore("default/c", w.pemA) + certStore("gatekeeper-system/c", w.pemB) + verifier("v", "default/c", "gatekeeper-system/c") + store("s", ""),
		"one of each kind":       kmp("c", w.pemB) + certStore("default/c", w.pemA) + certStore("team/c", w.pemA) + kmp("team/c", w.pemB) + verifier("v", "c") + verifier("team/v", "team/c") + store("s", ""),
		"beside a namesake":      kmp("c", w.pemB) + certStore("default/c", w.pemA) + verifier("v", "default/c") + store("s", ""),
		"Boltseal's own wins":    certStore("default/c", w.pemA) + certStore("boltseal-system/c", w.pemB) + verifier("v", "c") + store("s", ""),
		"a namespace of its own": kmp("team/c", w.pemA) + certStore("default/c", w.pemB) + verifier("team/v", "c") + verifier("v", "c") + store("s", "") + store("team/s", ""),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, _ := works(t, text)
			k := newKube(t)
			k.o.CertificateStores = compile.CertificateStores("")
			k.apply(text)
			cluster, _ := k.compile()
			for _, ns := range []string{"", "team"} {
				if a, b := w.trusts(t, files, ns), w.trusts(t, cluster, ns); a != b || a == "" {
					t.Errorf("namespace %q: files trust %q, the cluster %q", ns, a, b)
				}
			}
		})
	}
}
