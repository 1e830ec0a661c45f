package quickstart

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/boltseal/boltseal/internal/test/testca"
)

// TestSigningWithFiles runs what docs/sign.md has for a key in files.
func TestSigningWithFiles(t *testing.T) {
	dir := t.TempDir()
	signer, err := testca.New(testca.Options{Leaf: testca.Spec{Subject: pkix.Name{Country: []string{"US"}, Province: []string{"WA"}, Organization: []string{"Acme"}, CommonName: "release"}}})
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(signer.Leaf().Key)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.WriteFile(file("key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600),
		os.WriteFile(file("chain.pem"), signer.PEM(), 0o600), os.WriteFile(file("root.pem"), signer.Root().PEM(), 0o600)); err != nil {
		t.Fatal(err)
	}
	image := registry.PushImage("me/app", "", 0)
	u := &user{folder: dir, env: append(environment(), "XDG_CONFIG_HOME="+dir, "KEY="+file("key.pem"), "CERTIFICATE="+file("chain.pem"), "ROOT="+file("root.pem"),
		"IMAGE="+images+"/app@"+image.Digest.String(), "PATH="+filepath.Dir(binary)+":"+scratch+":"+os.Getenv("PATH"))}
	all := steps(t, "sign.md")
	if len(all) != 3 {
		t.Fatalf("the page has %d steps", len(all))
	}
	for _, s := range all {
		if err := u.step(t, s); err != nil {
			t.Fatal(err)
		}
	}
}
