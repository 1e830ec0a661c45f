package compile_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

const repo = "team/app"

// world is a registry with images signed by a, by b, by both and by nobody, and
// by the tags that say so.
type world struct {
	reg        *testregistry.Registry
	a, b       *testca.Chain
	pemA, pemB []byte
}

func newWorld(t testing.TB, o testregistry.Options) *world {
	t.Helper()
	w := &world{reg: testregistry.New(t, o), a: chain(t), b: chain(t)}
	w.pemA, w.pemB = w.a.Root().PEM(), w.b.Root().PEM()
	for tag, chains := range map[string][]*testca.Chain{"a": {w.a}, "b": {w.b}, "both": {w.a, w.b}, "none": nil} {
		image := w.reg.PushImage(repo, tag, 0)
		for _, c := range chains {
			w.reg.Sign(repo, image, c, testca.SignOptions{SigningTime: now})
		}
	}
	return w
}

func (w *world) verify(t testing.TB, c *compile.Compiled, namespace, tag string) boltseal.Result {
	t.Helper()
	e := c.EngineFor(namespace)
	if e == nil {
		t.Fatalf("no engine for %q", namespace)
	}
	r, err := e.Verify(testwait.Context(t), w.reg.Ref(repo, tag))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// trusts says which of the tags a namespace's engine trusts.
func (w *world) trusts(t testing.TB, c *compile.Compiled, namespace string) string {
	t.Helper()
	var tags []string
	for _, tag := range []string{"a", "b", "both", "none"} {
		r := w.verify(t, c, namespace, tag)
		if r.Decision == boltseal.Unknown {
			t.Errorf("%s: %+v", tag, r.Reason)
		}
		if r.Decision == boltseal.Allow {
			tags = append(tags, tag)
		}
	}
	return strings.Join(tags, " ")
}

// TestExample: the configuration of the AKS document works as it stands.
func TestExample(t *testing.T) {
	t.Parallel()
	c, warnings := works(t, readExample(t))
	if warnings != "" {
		t.Errorf("warnings: %s", warnings)
	}
	w := newWorld(t, testregistry.Options{})
	if r := w.verify(t, c, "default", "none"); r.Decision != boltseal.Deny || r.Reason.Cause != boltseal.CauseNothingSigned || r.Store != "store-oras" {
		t.Errorf("%+v", r)
	}
	if r := w.verify(t, c, "default", "a"); r.Decision != boltseal.Deny || r.Reason.Cause != boltseal.CauseUntrustedSigner || r.Evidence[0].Verifier != "verifier-notary-inline" {
		t.Errorf("%+v", r)
	}
	// The same with our own root in the place of Ratify's trusts what that signed.
	text := readExample(t)
	i, j := strings.Index(text, "      -----BEGIN"), strings.Index(text, "\n---")
	c, _ = works(t, text[:i]+indent(6, w.pemA)+text[j+1:])
	if got := w.trusts(t, c, "default"); got != "a both" {
		t.Errorf("trusts %q", got)
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	all := policyDoc("ratify-policy", "default: all")
	base := kmp("roots", w.pemA) + store("oras", "") + verifier("notary", "roots")
	for _, c := range []struct {
		name, text string
		want       map[string]string // namespace → trusted tags
	}{
		{"cluster only", base, map[string]string{"": "a both", "team": "a both"}},
		{"a namespace's own Verifier", base + kmp("b", w.pemB) + verifier("team/notary", "b"), map[string]string{"team": "b both", "other": "a both", "": "a both"}},
		{"a namespace's own provider of the same name", base + kmp("team/roots", w.pemB) + verifier("team/notary", "roots"), map[string]string{"team": "b both", "other": "a both"}},
		{"a namespace's own provider does nothing to the cluster's Verifier", base + kmp("team/roots", w.pemB), map[string]string{"team": "a both", "other": "a both"}},
		{"the cluster's provider in a namespace's Verifier", base + verifier("team/notary", "roots"), map[string]string{"team": "a both"}},
		{"a provider of another namespace, by name", kmp("keys/b", w.pemB) + store("oras", "") + verifier("notary", "keys/b"), map[string]string{"": "b both"}},
		{"a namespace's Verifier, a provider of another namespace", base + kmp("keys/b", w.pemB) + verifier("team/notary", "keys/b"), map[string]string{"team": "b both", "": "a both"}},
		{"one that kubectl puts into default", certStore("b", w.pemB) + store("oras", "") + verifier("notary", "default/b"), map[string]string{"": "b both"}},
		{"two of one name, and each is meant", certStore("default/c", w.pemA) + certStore("gatekeeper-system/c", w.pemB) + store("oras", "") + verifier("notary", "gatekeeper-system/c") + verifier("team/v", "default/c"), map[string]string{"": "b both", "team": "a both"}},
		{"a name alone is that of the first place", certStore("gatekeeper-system/c", w.pemB) + certStore("default/c", w.pemA) + store("oras", "") + verifier("notary", "c"), map[string]string{"": "a both"}},
		{"a KeyManagementProvider wins over a CertificateStore", certStore("roots", w.pemB) + base, map[string]string{"": "a both"}},
		{"in any order", base + certStore("roots", w.pemB), map[string]string{"": "a both"}},
		{"two Verifiers, either suffices", base + kmp("b", w.pemB) + verifier("second", "b"), map[string]string{"": "a b both"}},
		{"two providers of one trust store", kmp("a", w.pemA) + kmp("b", w.pemB) + store("oras", "") + verifier("notary", "a", "b"), map[string]string{"": "a b both"}},
		{"two certificates of one provider", kmp("a", append(append([]byte{}, w.pemA...), w.pemB...)) + store("oras", "") + verifier("notary", "a"), map[string]string{"": "a b both"}},
		{"all must hold", base + all, map[string]string{"": "a", "team": "a"}},
		{"a Policy without a default means all", base + policyDoc("ratify-policy", ""), map[string]string{"": "a"}},
		{"any in words", base + policyDoc("ratify-policy", "default: any"), map[string]string{"": "a both"}},
		{"any for the type", base + policyDoc("ratify-policy", "application/vnd.cncf.notary.signature: any"), map[string]string{"": "a both"}},
		{"all for the type", base + policyDoc("ratify-policy", "default: any, application/vnd.cncf.notary.signature: all"), map[string]string{"": "a"}},
		{"a type that nobody attaches", base + policyDoc("ratify-policy", "default: any, example/sbom: any"), map[string]string{"": ""}},
		{"a namespace's own Policy", base + all + policyDoc("team/ratify-policy", "default: any"), map[string]string{"team": "a both", "other": "a"}},
		{"a namespace's stricter Policy", base + policyDoc("team/ratify-policy", "default: all"), map[string]string{"team": "a", "other": "a both"}},
		{"a namespace's own Store", base + store("team/oras", ""), map[string]string{"team": "a both"}},
		{"a namespace's own Store for something else", base + store("team/oras", "scopes: [example.com]"), map[string]string{"team": "", "other": "a both"}},
		{"type instead of name", strings.Replace(base, "name: notation", "name: whatever\n  type: notation", 1), map[string]string{"": "a both"}},
		{"trust stores by type", strings.Replace(base, "{certs: [roots]}", "{ca: {certs: [roots]}, signingAuthority: {certs: [roots]}}", 1), map[string]string{"": "a both"}},
		{"both shapes of trust stores", strings.Replace(base, "{certs: [roots]}", "{ca: {certs: [b]}, certs: [roots]}", 1) + kmp("b", w.pemB), map[string]string{"": "a b both"}},
		{"another scheme's trust store", strings.ReplaceAll(strings.Replace(base, "{certs: [roots]}", "{signingAuthority: {certs: [roots]}}", 1), "ca:certs", "signingAuthority:certs"), map[string]string{"": ""}},
		{"every artifact type", strings.Replace(base, "application/vnd.cncf.notary.signature", "\"*\"", 1), map[string]string{"": "a both"}},
		{"several artifact types", strings.Replace(base, "application/vnd.cncf.notary.signature", "example/x, application/vnd.cncf.notary.signature", 1), map[string]string{"": "a both"}},
		{"another artifact type", strings.Replace(base, "application/vnd.cncf.notary.signature", "example/x", 1), map[string]string{"": ""}},
		{"no artifact type means Notation's", strings.Replace(base, "  artifactTypes: application/vnd.cncf.notary.signature\n", "", 1), map[string]string{"": "a both"}},
		{"a List, as kubectl prints it", asList(base), map[string]string{"": "a both"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			compiled, _ := works(t, c.text)
			for ns, want := range c.want {
				if got := w.trusts(t, compiled, ns); got != want {
					t.Errorf("namespace %q trusts %q, want %q", ns, got, want)
				}
			}
		})
	}
}

// asList wraps documents as `kubectl get -o yaml` does.
func asList(docs string) string {
	var b strings.Builder
	b.WriteString("apiVersion: v1\nkind: List\nmetadata:\n  resourceVersion: \"\"\nitems:\n")
	for _, d := range strings.Split(strings.TrimPrefix(docs, "---\n"), "---\napi") {
		if !strings.HasPrefix(d, "api") {
			d = "api" + d
		}
		d = strings.Replace(d, "metadata:\n", "metadata:\n  creationTimestamp: \"2026-11-23T07:58:00Z\"\n  generation: 1\n  resourceVersion: \"4711\"\n  uid: 0b1c\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: \"{}\"\n", 1) +
			"status:\n  issuccess: true\n"
		b.WriteString("- " + strings.ReplaceAll(strings.TrimSpace(d), "\n", "\n  ") + "\n")
	}
	return b.String()
}

// TestOnlyNamespaces: without anything cluster-wide, other namespaces have no
// engine, and that is said.
func TestOnlyNamespaces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	c, warnings := works(t, kmp("team/roots", w.pemA)+store("team/oras", "")+verifier("team/notary", "roots"))
	if got := w.trusts(t, c, "team"); got != "a both" {
		t.Errorf("trusts %q", got)
	}
	if c.EngineFor("other") != nil || c.EngineFor("") != nil {
		t.Error("an engine out of nothing")
	}
	if want := "no cluster-wide Store: images are denied in namespaces that have none of their own"; warnings != want {
		t.Errorf("warnings %q", warnings)
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	base := kmp("roots", w.pemA) + verifier("notary", "roots")
	host := w.reg.Host
	for _, c := range []struct{ name, stores, want string }{
		{"the host before all", store("all", "") + store("host", "scopes: [\""+host+"\"]"), "host"},
		{"the path before the host", store("host", "scopes: [\""+host+"\"]") + store("path", "scopes: [\""+host+"/team\"]"), "path"},
		{"another path", store("host", "scopes: [\""+host+"\"]") + store("path", "scopes: [\""+host+"/tea\"]"), "host"},
		{"none", store("other", "scopes: [ghcr.io, \"*.example.com\"]"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			compiled, _ := works(t, base+c.stores)
			r := w.verify(t, compiled, "", "a")
			if r.Store != c.want || c.want != "" && r.Decision != boltseal.Allow || c.want == "" && r.Reason.Cause != boltseal.CauseNoStore {
				t.Errorf("store %q: %s %+v", r.Store, r.Decision, r.Reason)
			}
		})
	}
}

// TestTLS: a registry with a CA of its own, given in each of the ways.
func TestTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{TLS: true})
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(file, w.reg.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	ca, host := quoted(w.reg.CAPEM()), w.reg.Host
	for _, c := range []struct {
		name, parameters string
		want             boltseal.Decision
	}{
		{"file for a registry", `registries: [{host: "` + host + `", caFile: ` + file + `}]`, boltseal.Allow},
		{"inline for a registry", `registries: [{host: "` + host + `", caCert: ` + ca + `}]`, boltseal.Allow},
		{"file for all, the registry by name", `caFile: ` + file + `, registries: [{host: "` + host + `"}]`, boltseal.Allow},
		{"inline for all", `caCert: ` + ca + `, registries: [{host: "` + host + `"}]`, boltseal.Allow},
		{"a registry's own CA beside useHttp for the rest", `useHttp: true, registries: [{host: "` + host + `", caCert: ` + ca + `}]`, boltseal.Allow},
		{"another CA", `registries: [{host: "` + host + `", caCert: ` + quoted(w.pemA) + `}]`, boltseal.Unknown},
		{"the system's CAs", `registries: [{host: "` + host + `"}]`, boltseal.Unknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			compiled, _ := works(t, kmp("roots", w.pemA)+verifier("notary", "roots")+store("oras", c.parameters))
			if r := w.verify(t, compiled, "", "a"); r.Decision != c.want {
				t.Errorf("%s %+v", r.Decision, r.Reason)
			}
		})
	}
}

// TestCertificateFiles: verificationCerts, from files and from directories as
// Kubernetes mounts them.
func TestCertificateFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	dir := t.TempDir()
	mounted := filepath.Join(dir, "mounted")
	data := filepath.Join(mounted, "..2026_11_23")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(filepath.Join(dir, "tree", "below"), 0o700))
	must(os.MkdirAll(data, 0o700))
	must(os.MkdirAll(filepath.Join(dir, "empty"), 0o700))
	must(os.WriteFile(filepath.Join(dir, "a.crt"), w.pemA, 0o600))
	must(os.WriteFile(filepath.Join(dir, "broken.crt"), []byte("hello"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "tree", "below", "b.pem"), w.pemB, 0o600))
	must(os.WriteFile(filepath.Join(data, "a.crt"), w.pemA, 0o600))
	must(os.Symlink("..2026_11_23", filepath.Join(mounted, "..data")))
	must(os.Symlink(filepath.Join("..data", "a.crt"), filepath.Join(mounted, "a.crt")))
	must(os.Symlink("tree", filepath.Join(dir, "link")))
	with := func(paths ...string) string {
		for i := range paths {
			paths[i] = filepath.Join(dir, paths[i])
		}
		return store("oras", "") + strings.Replace(verifier("notary"), "verificationCertStores: {certs: []}", "verificationCerts: ["+strings.Join(paths, ", ")+"]", 1)
	}
	for _, c := range []struct{ name, text, want string }{
		{"a file", with("a.crt"), "a both"},
		{"a directory with directories", with("tree"), "b both"},
		{"a link to a directory", with("link"), "b both"},
		{"as Kubernetes mounts it", with("mounted"), "a both"},
		{"several", with("a.crt", "tree"), "a b both"},
		{"verificationCertStores win", strings.Replace(with("a.crt"), "verificationCerts:", "verificationCertStores: {certs: [b]}\n    verificationCerts:", 1) + kmp("b", w.pemB), "b both"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			compiled, _ := works(t, c.text)
			if got := w.trusts(t, compiled, ""); got != c.want {
				t.Errorf("trusts %q, want %q", got, c.want)
			}
		})
	}
	ps := fails(t, with("a.crt", "missing", "broken.crt", "empty"))
	for i, want := range []string{"verificationCerts[1]: lstat ", "verificationCerts[2]: " + filepath.Join(dir, "broken.crt") + ": no certificate", "verificationCerts[3]: " + filepath.Join(dir, "empty") + " has no files"} {
		if len(ps) != 3 || !strings.Contains(ps[i].Error(), want) {
			t.Errorf("%v, want %q", ps, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	expired := testca.Test(t, testca.Options{Clock: clock, Root: testca.Spec{NotBefore: now.AddDate(-3, 0, 0), NotAfter: now.AddDate(-1, 0, 0)}})
	w := chain(t)
	for _, c := range []struct{ name, text, want string }{
		{"nothing", kmp("roots", w.Root().PEM()) + store("oras", "ttl: 10, cacheEnabled: true") + verifier("notary", "roots"), ""},
		{"an expired root", kmp("roots", expired.Root().PEM()) + store("oras", "") + verifier("notary", "roots"), "Verifier notary: spec.parameters.verificationCertStores: trust store ca:certs: the certificate \"CN=Boltseal Test Root CA,O=Boltseal Test,ST=WA,C=US\" expired on 2025-11-23"},
		{"Ratify's cache", kmp("roots", w.Root().PEM()) + store("oras", "localCachePath: /tmp/x, cosignEnabled: true") + verifier("notary", "roots"), "Store oras: spec.parameters.localCachePath: it has no effect: nothing is kept on disk\n"},
		{"Ratify's cosign", kmp("roots", w.Root().PEM()) + store("oras", "cosignEnabled: true") + verifier("notary", "roots"), "cosignEnabled: it has no effect: cosign signatures are not known here"},
		{"a CA for nothing", kmp("roots", w.Root().PEM()) + store("oras", "useHttp: true, caCert: "+quoted(w.Root().PEM())) + verifier("notary", "roots"), "caCert: it has no effect: useHttp speaks without TLS"},
		{"a CertificateStore for nothing", kmp("roots", w.Root().PEM()) + certStore("roots", w.Root().PEM()) + store("oras", "") + verifier("notary", "roots"), "CertificateStore default/roots: metadata.name: a Verifier that names roots means the KeyManagementProvider of this name, which wins"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, warnings := works(t, c.text)
			if !strings.Contains(warnings, c.want) || (c.want == "") != (warnings == "") {
				t.Errorf("%q, want %q", warnings, c.want)
			}
		})
	}
}

// TestDeps: what is handed in is used.
func TestDeps(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	text := kmp("roots", w.pemA) + verifier("notary", "roots")
	d := deps()
	var paths []string
	d.DockerConfig = func(path string) oci.CredentialSource {
		paths = append(paths, path)
		return nil
	}
	wrapped := 0
	d.Wrap = func(_ string, s boltseal.Store) boltseal.Store { wrapped++; return s }
	c, err := build(text+store("a", "authProvider: {name: dockerConfig, configPath: /x/config.json}")+store("b", "scopes: [ghcr.io]"), d)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if wrapped != 2 || strings.Join(paths, " ") != "/x/config.json " {
		t.Errorf("%d stores wrapped, docker configurations %q", wrapped, paths)
	}
	// A layout in place of all stores needs none.
	d.Layout = nobody{}
	if c, err = build(text, d); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r, err := c.EngineFor("any").Verify(t.Context(), w.reg.Ref(repo, "a"))
	if err != nil || r.Store != "oci-layout" || r.Reason.Cause != boltseal.CauseImageNotFound {
		t.Errorf("%+v, %v", r, err)
	}
}

// nobody is a store without images.
type nobody struct{ boltseal.Store }

func (nobody) Resolve(context.Context, boltseal.Reference) (d ocispec.Descriptor, err error) {
	return d, boltseal.ErrNotFound
}

// TestDecodeKeepsErrors: a Set of documents that are partly broken never becomes
// an engine.
func TestDecodeKeepsErrors(t *testing.T) {
	t.Parallel()
	w := chain(t)
	good := kmp("roots", w.Root().PEM()) + store("oras", "") + verifier("notary", "roots")
	for _, bad := range []string{"---\nkind: x\n", "---\n\tx\n", doc("Store", "other", "spec: {nmae: x}\n")} {
		set, err := compile.Decode([]compile.Source{{Name: "good", Data: []byte(good)}, {Name: "bad", Data: []byte(bad)}})
		if err == nil || !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), "bad:") {
			t.Errorf("%q: %v", bad, err)
		}
		if c, err := set.Compile(deps()); c != nil || err == nil {
			t.Errorf("%q: compiled", bad)
		}
	}
}
