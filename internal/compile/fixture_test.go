package compile_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/oci"
)

// now is within the validity of all certificates here.
var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

func deps() compile.Deps {
	return compile.Deps{Clock: clock, DockerConfig: func(string) oci.CredentialSource { return nil }}
}

// doc is a document of Ratify's group; rest is everything below metadata.name.
func doc(kind, name, rest string) string {
	namespace := ""
	if ns, n, ok := strings.Cut(name, "/"); ok {
		namespace, name = "  namespace: "+ns+"\n", n
	}
	return "---\napiVersion: config.ratify.deislabs.io/v1beta1\nkind: " + kind + "\nmetadata:\n  name: " + name + "\n" + namespace + rest
}

func indent(spaces int, text []byte) string {
	pad := strings.Repeat(" ", spaces)
	return pad + strings.ReplaceAll(strings.TrimSpace(string(text)), "\n", "\n"+pad) + "\n"
}

func kmp(name string, pem []byte) string {
	kind := "KeyManagementProvider"
	if strings.Contains(name, "/") {
		kind = "Namespaced" + kind
	}
	return doc(kind, name, "spec:\n  type: inline\n  parameters:\n    value: |\n"+indent(6, pem))
}

func certStore(name string, pem []byte) string {
	return doc("CertificateStore", name, "spec:\n  provider: inline\n  parameters:\n    value: |\n"+indent(6, pem))
}

func store(name, parameters string) string {
	kind := "Store"
	if strings.Contains(name, "/") {
		kind = "NamespacedStore"
	}
	if parameters != "" {
		parameters = "  parameters: {" + parameters + "}\n"
	}
	return doc(kind, name, "spec:\n  name: oras\n"+parameters)
}

// verifier trusts the providers for everything.
func verifier(name string, providers ...string) string {
	kind := "Verifier"
	if strings.Contains(name, "/") {
		kind = "NamespacedVerifier"
	}
	return doc(kind, name, "spec:\n  name: notation\n  artifactTypes: application/vnd.cncf.notary.signature\n  parameters:\n"+
		"    verificationCertStores: {certs: ["+strings.Join(providers, ", ")+"]}\n"+
		"    trustPolicyDoc:\n      version: \"1.0\"\n      trustPolicies:\n      - name: all\n        registryScopes: [\"*\"]\n"+
		"        signatureVerification: {level: strict}\n        trustStores: [\"ca:certs\"]\n        trustedIdentities: [\"*\"]\n")
}

func policyDoc(name, rules string) string {
	kind := "Policy"
	if strings.Contains(name, "/") {
		kind = "NamespacedPolicy"
	}
	return doc(kind, name, "spec:\n  type: config-policy\n  parameters:\n    artifactVerificationPolicies: {"+rules+"}\n")
}

func chain(t testing.TB) *testca.Chain {
	t.Helper()
	return testca.Test(t, testca.Options{Clock: clock})
}

// build compiles a text.
func build(text string, d compile.Deps) (*compile.Compiled, error) {
	set, _ := compile.Decode([]compile.Source{{Name: "f.yaml", Data: []byte(text)}})
	return set.Compile(d)
}

// works compiles a text that must work, and returns its warnings too.
func works(t testing.TB, text string) (*compile.Compiled, string) {
	t.Helper()
	c, err := build(text, deps())
	if err != nil {
		t.Fatalf("%v\n%s", err, numbered(text))
	}
	t.Cleanup(c.Close)
	var warnings []string
	for _, w := range c.Warnings {
		warnings = append(warnings, w.Error())
	}
	return c, strings.Join(warnings, "\n")
}

// fails compiles a text that must not work.
func fails(t testing.TB, text string) strict.Problems {
	t.Helper()
	c, err := build(text, deps())
	var ps strict.Problems
	if c != nil || !errors.As(err, &ps) || len(ps) == 0 || !errors.Is(err, boltseal.ErrConfiguration) {
		t.Fatalf("%v, %v\n%s", c, err, numbered(text))
	}
	return ps
}

func numbered(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = fmt.Sprintf("%3d  %s", i+1, lines[i])
	}
	return strings.Join(lines, "\n")
}

func readExample(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "examples", "verify-config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
