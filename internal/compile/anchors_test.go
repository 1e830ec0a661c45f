package compile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// TestChainsWithTheSignersOwnCertificate: wherever a chain comes from, its CAs are
// trusted, and the signer's own certificate is passed over and said so.
func TestChainsWithTheSignersOwnCertificate(t *testing.T) {
	t.Parallel()
	ca := testca.Test(t, testca.Options{Clock: clock, Intermediates: []testca.Spec{{}}})
	other := testca.Test(t, testca.Options{Clock: clock})
	leaf, sub, root := ca.Certs[0].PEM(), ca.Certs[1].PEM(), ca.Certs[2].PEM()
	pem := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(out, p...)
		}
		return out
	}
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name  string
		certs []byte
		warns string // of a provider that is inline; "" = nothing
		says  string // why it is refused; "" = it is not
	}{
		{"leaf first", pem(leaf, sub, root), "is a signer's own certificate", ""},
		{"root first", pem(root, sub, leaf), "is a signer's own certificate", ""},
		{"leaf and intermediate", pem(leaf, sub), "is a signer's own certificate", ""},
		{"leaf and root without what is between", pem(leaf, root), "its CA is not here", ""},
		{"leaf and another root", pem(leaf, other.Root().PEM()), "its CA is not here", ""},
		{"CAs alone", pem(sub, root), "", ""},
		{"leaf alone", leaf, "", "put the CA that issued it here"},
		{"leaf twice", pem(leaf, leaf), "", "put the CA that issued it here"},
	} {
		rest := store("oras", "") + verifier("notary", "roots")
		for where, text := range map[string]string{
			"KeyManagementProvider": kmp("roots", c.certs) + rest,
			"CertificateStore":      certStore("roots", c.certs) + rest,
			"verificationCerts":     store("oras", "") + strings.Replace(verifier("notary", "roots"), "verificationCertStores: {certs: [roots]}", "verificationCerts: ["+file(c.name, c.certs)+"]", 1),
		} {
			set, err := compile.Decode([]compile.Source{{Name: "f.yaml", Data: []byte(text)}})
			if err != nil {
				t.Fatal(err)
			}
			compiled, err := set.Compile(deps())
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s, %s: %v; want %q", c.name, where, err, c.says)
			}
			if err != nil || where == "verificationCerts" {
				continue
			}
			var warnings []string
			for _, w := range compiled.Warnings {
				warnings = append(warnings, w.Error())
			}
			if all := strings.Join(warnings, "\n"); (all == "") != (c.warns == "") || !strings.Contains(all, c.warns) {
				t.Errorf("%s, %s: warned %q; want %q", c.name, where, all, c.warns)
			}
		}
	}
}
