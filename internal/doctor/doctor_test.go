package doctor

import (
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

func config(chain *testca.Chain, level string, scopes ...string) []compile.Source {
	text := fmt.Sprintf(`apiVersion: config.ratify.deislabs.io/v1beta1
kind: KeyManagementProvider
metadata: {name: roots}
spec:
  type: inline
  parameters:
    value: |
      %s
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Store
metadata: {name: store}
spec: {name: oras}
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Verifier
metadata: {name: notation}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores: {ca: {release: [roots]}}
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
      - name: all
        registryScopes: ["%s"]
        signatureVerification: {level: %s}
        trustStores: ["ca:release"]
        trustedIdentities: ["*"]
`, strings.ReplaceAll(strings.TrimSpace(string(chain.Root().PEM())), "\n", "\n      "), strings.Join(scopes, `", "`), level)
	return []compile.Source{{Name: "c.yaml", Data: []byte(text)}}
}

func deps() compile.Deps {
	return compile.Deps{DockerConfig: func(string) oci.CredentialSource { return nil }}
}

func find(t *testing.T, fs []Finding, area string, level Level, words ...string) {
	t.Helper()
	for _, f := range fs {
		text := f.Subject + " " + f.Message + " " + f.Remedy
		if f.Area != area || f.Level != level {
			continue
		}
		all := true
		for _, w := range words {
			all = all && strings.Contains(text, w)
		}
		if all {
			if (f.Remedy == "") != (level == OK) {
				t.Errorf("remedy of %+v", f)
			}
			return
		}
	}
	t.Errorf("no finding %s %s with %q in %+v", area, level, words, fs)
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	at := func(from, to time.Duration) *testca.Chain {
		return testca.Test(t, testca.Options{Root: testca.Spec{NotBefore: now.Add(from), NotAfter: now.Add(to)},
			Leaf: testca.Spec{NotBefore: now.Add(from), NotAfter: now.Add(to)}})
	}
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		chain *testca.Chain
		level Level
		words []string
	}{
		{at(-year, year), OK, []string{"KeyManagementProvider roots", "1 certificate, good until 2027-05-01"}},
		{at(-year, -time.Hour), Problem, []string{"expired on 2026-04-30", "provide its successor"}},
		{at(-year, 24*time.Hour), Warning, []string{"expires on 2026-05-02"}},
		{at(time.Hour, year), Problem, []string{"is valid from 2026-05-01 only", "clock"}},
	} {
		fs := Files(t.Context(), config(tt.chain, "strict", "*"), deps(), Options{Clock: func() time.Time { return now }})
		find(t, fs, AreaCertificates, tt.level, tt.words...)
	}
}

func TestStatements(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	for level, word := range map[string]string{"audit": "(level audit)", "permissive": "(level permissive)"} {
		find(t, Files(t.Context(), config(chain, level, "*"), deps(), Options{}), AreaTrustPolicy, Warning, word, `Verifier notation, "all"`, "choose level strict")
	}
	find(t, Files(t.Context(), config(chain, "strict, override: {revocation: skip}", "*"), deps(), Options{}), AreaTrustPolicy, Warning, "at level strict, with 1 check overridden")
	skip := config(chain, "skip", "*")
	skip[0].Data = []byte(strings.NewReplacer(`        trustStores: ["ca:release"]`+"\n", "", `        trustedIdentities: ["*"]`+"\n", "").Replace(string(skip[0].Data)))
	find(t, Files(t.Context(), skip, deps(), Options{}), AreaTrustPolicy, Warning, "every image of * is trusted, signed or not")
	fs := Files(t.Context(), config(chain, "strict", "*"), deps(), Options{})
	find(t, fs, AreaTrustPolicy, OK, "* at level strict")
	find(t, fs, AreaRegistries, Warning, "no registry was asked", "--image")
	if Worst(fs) != Warning || Worst(nil) != OK || Worst([]Finding{{}}) != Problem {
		t.Error("the worst is not the worst")
	}
}

func TestRegistries(t *testing.T) {
	t.Parallel()
	reg := testregistry.New(t, testregistry.Options{Basic: &testregistry.BasicOptions{Users: map[string]string{"u": "p"}}})
	chain := testca.Test(t, testca.Options{})
	fs := Files(t.Context(), config(chain, "strict", reg.Host+"/a/b", "127.0.0.1:1/c"), deps(), Options{Images: []string{"UPPER/x"}})
	find(t, fs, AreaRegistries, Problem, reg.Host+"/a/b", "401")
	find(t, fs, AreaRegistries, Problem, "127.0.0.1:1/c", "no answer", "up and reachable")
	find(t, fs, AreaImages, Problem, "UPPER/x")
	many := make([]string, maxRegistries+1)
	for i := range many {
		many[i] = fmt.Sprintf("127.0.0.1:1/r%d", i)
	}
	find(t, Files(t.Context(), config(chain, "strict", many...), deps(), Options{}), AreaRegistries, Warning, fmt.Sprintf("%d repositories; the first %d", len(many), maxRegistries))
}

func TestBrokenConfiguration(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	sources := config(chain, "strict", "*")
	sources[0].Data = []byte(strings.Replace(string(sources[0].Data), "artifactTypes", "artefactTypes", 1))
	fs := Files(t.Context(), sources, deps(), Options{Images: []string{"nginx"}})
	find(t, fs, AreaConfiguration, Problem, "c.yaml:", "artefactTypes")
	find(t, fs, AreaCertificates, OK, "roots")
	for _, f := range fs {
		if f.Area == AreaImages || f.Area == AreaRegistries {
			t.Errorf("%+v", f)
		}
	}
}

// TestFetchedCertificates: what providers fetch is fetched, and what cannot be is
// said with its reason.
func TestFetchedCertificates(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, chain.Root().PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	text := func(path string) string {
		return "apiVersion: config.ratify.deislabs.io/v1beta1\nkind: KeyManagementProvider\nmetadata: {name: roots}\nspec: {type: file, parameters: {paths: [\"" + path + "\"]}}\n"
	}
	fs := Files(t.Context(), []compile.Source{{Name: "f", Data: []byte(text(path))}}, deps(), Options{})
	if !strings.Contains(fmt.Sprint(fs), "1 certificate, good until") {
		t.Errorf("%+v", fs)
	}
	fs = Files(t.Context(), []compile.Source{{Name: "f", Data: []byte(text(path + ".not-there"))}}, deps(), Options{})
	if !strings.Contains(fmt.Sprint(fs), "there is no such file") || Worst(fs) != Problem {
		t.Errorf("%+v", fs)
	}
}

// TestRepeatsAreOneFinding: what is the same of several subjects is said once.
func TestRepeatsAreOneFinding(t *testing.T) {
	t.Parallel()
	var all []Finding
	for _, kind := range []string{"Store", "Verifier", "Policy", "KeyManagementProvider", "CertificateStore"} {
		all = append(all, Finding{Area: AreaCluster, Subject: kind, Message: "the cluster does not know this kind", Remedy: "apply it"})
	}
	all = append(all, Finding{Area: AreaCluster, Subject: "Store", Level: Warning, Message: "another"})
	got := mergeRepeats(all)
	if len(got) != 2 || got[0].Subject != "Store, Verifier, Policy and 2 more" || got[1].Subject != "Store" {
		t.Errorf("%+v", got)
	}
}

// TestAskProvider asks as Gatekeeper does: only the CAs of the Provider's caBundle
// count, and only an answer of the protocol does.
func TestAskProvider(t *testing.T) {
	t.Parallel()
	answer := func(body string, status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s %v", r.Method, r.Header)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	const right = `{"apiVersion":"externaldata.gatekeeper.sh/v1beta1","kind":"ProviderResponse","response":{"idempotent":true,"items":[{"key":"a","value":{}}]}}`
	for name, c := range map[string]struct {
		body   string
		status int
		level  Level
		words  string
		other  bool // the caBundle is somebody else's
	}{
		"right":           {right, 200, OK, "answers in", false},
		"another CA":      {right, 200, Problem, "no CA in its caBundle", true},
		"an error":        {`{"kind":"ProviderResponse","response":{"systemError":"not ready"}}`, 200, Problem, "not ready", false},
		"too few answers": {`{"kind":"ProviderResponse","response":{"items":[]}}`, 200, Problem, "about 1 images, and answered about 0", false},
		"another path":    {"404 page not found", 404, Problem, "no provider of external data (HTTP 404)", false},
		"another server":  {"<html>", 200, Problem, "no provider of external data", false},
		"its certificate": {"", 401, OK, "shows Gatekeeper's certificate", false},
	} {
		s := httptest.NewTLSServer(answer(c.body, c.status))
		defer s.Close()
		cert := s.Certificate().Raw
		if c.other {
			other, err := testca.New(testca.Options{})
			if err != nil {
				t.Fatal(err)
			}
			cert = other.X509()[len(other.X509())-1].Raw
		}
		bundle := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}))
		f := askProvider(t.Context(), "Provider p", s.URL, bundle, Options{Images: []string{"a"}}.complete())
		if f.Level != c.level || !strings.Contains(f.Message, c.words) || (f.Level == Problem) != (f.Remedy != "") {
			t.Errorf("%s: %+v", name, f)
		}
	}
	gone := httptest.NewTLSServer(nil)
	gone.Close()
	if f := askProvider(t.Context(), "p", gone.URL, "", Options{}.complete()); f.Level != Unknown {
		t.Errorf("what cannot be reached from here is %+v", f)
	}
	if f := askProvider(t.Context(), "p", "https://no-such-host.invalid/", "", Options{}.complete()); f.Level != Unknown {
		t.Errorf("what has no address from here is %+v", f)
	}
}

func TestTemplatesThatAskTheProvider(t *testing.T) {
	t.Parallel()
	template := func(target map[string]any) *unstructured.Unstructured {
		return &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"targets": []any{target}}}}
	}
	for text, want := range map[string]bool{`external_data({"provider": "ratify-provider"})`: true, `{"provider": "ratify"}`: false, "": false} {
		if got := asksProvider(template(map[string]any{"rego": text}), "ratify-provider"); got != want {
			t.Errorf("%q: %t", text, got)
		}
		code := map[string]any{"code": []any{map[string]any{"engine": "Rego", "source": map[string]any{"rego": text}}}}
		if got := asksProvider(template(code), "ratify-provider"); got != want {
			t.Errorf("%q in code: %t", text, got)
		}
	}
}
