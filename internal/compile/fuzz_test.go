package compile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/compile"
)

// FuzzCompile: a text becomes engines or problems, the same ones each time.
// Problems are the configuration's, in lines that the file has, fit for a
// terminal; engines trust nothing that nobody signed.
func FuzzCompile(f *testing.F) {
	pem := chain(f).Root().PEM()
	good := kmp("roots", pem) + store("oras", "scopes: [ghcr.io, \"*.example.com\", reg:5000/a]") + verifier("notary", "roots")
	for _, s := range []string{
		readExample(f), good, asList(good), "",
		good + policyDoc("ratify-policy", "default: any, a/b: all") + policyDoc("team/ratify-policy", "default: all") + verifier("team/v", "roots"),
		certStore("roots", pem) + store("oras", "useHttp: true, ttl: 10, authProvider: {name: dockerConfig, configPath: x}") + verifier("notary", "gatekeeper-system/roots"),
		strings.Replace(good, "{certs: [roots]}", "{ca: {certs: [roots]}, tsa: {x: [roots]}}", 1),
		strings.Replace(good, "parameters: {", "parameters: {registries: [{host: reg:5000, useHttp: true, authRealms: [auth.example]}], ", 1),
		strings.Replace(good, "parameters: {", "parameters: {authProviders: [{name: azureWorkloadIdentity, endpoints: [acme.azurecr.io]}, {name: awsEcrBasic, accounts: [\"1\"]}, {name: gcpArtifactRegistry, endpoints: [gcr.io]}, {name: podPullSecrets}, {name: alibabacloudAcrBasic, acrInstancesConfig: [{instanceName: a, instanceId: b}]}, {name: dockerConfig}], ", 1),
		good + store("team/s", "caCert: x, authProviders: [{name: azureManagedIdentity, clientID: c}, dockerConfig, {}]"),
		good + "---\napiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: x}\nspec: {match: {kinds: [Pod]}, enforcementAction: deny}\n",
		strings.ReplaceAll(good, "v1beta1", "v1alpha1") + strings.Replace(policyDoc("configpolicy", "default: any"), "v1beta1", "v1alpha1", 1),
		`{"store": {"plugins": [{"name": "oras", "name": "x", "useHttp": true}]}, "policy": {"plugin": {"name": "configPolicy"}}, "verifier": {"version": "1", "plugins": [{"name": "notaryv2", "a": {}}]}, "logger": 1}`,
	} {
		f.Add([]byte(s))
	}
	if b, err := os.ReadFile(filepath.Join("testdata", "many-problems.yaml")); err == nil {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, path := range []string{"File", "verificationCerts\"", "verificationCerts:"} {
			if strings.Contains(string(b), path) {
				return // it would read the files of this machine
			}
		}
		one, warnings, err := compileOnce(b)
		two, again, err2 := compileOnce(b)
		if warnings != again || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
			t.Fatalf("%q, %v\nand then\n%q, %v", warnings, err, again, err2)
		}
		if err != nil {
			var ps strict.Problems
			if one != nil || !errors.As(err, &ps) || len(ps) == 0 || !errors.Is(err, boltseal.ErrConfiguration) {
				t.Fatalf("%v, %v", one, err)
			}
			for _, p := range ps {
				if p.Line < 0 || p.Line > len(b)+1 || p.Message == "" || strings.ContainsFunc(p.Error(), func(r rune) bool { return r < ' ' }) {
					t.Fatalf("%q", p)
				}
			}
			return
		}
		defer one.Close()
		defer two.Close()
		for _, ns := range []string{"", "team", "other"} {
			e := one.EngineFor(ns)
			if e == nil {
				continue
			}
			if r := e.Decide(boltseal.Findings{}); r.Decision != boltseal.Deny || r.Reason.Message == "" {
				t.Fatalf("nothing signed is %v, %+v", r.Decision, r.Reason)
			}
		}
	})
}

func compileOnce(b []byte) (c *compile.Compiled, warnings string, err error) {
	set, _ := compile.Decode([]compile.Source{{Name: "f", Data: b}})
	c, err = set.Compile(deps())
	if err == nil {
		for _, w := range c.Warnings {
			warnings += w.Error() + "\n"
		}
	}
	return c, warnings, err
}
