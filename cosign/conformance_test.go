package cosign

import (
	"crypto"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
)

// Where the vectors of sigstore-conformance lie: its folder test/assets/bundle-verify. A
// trusted root of the public instance, which most of them need, is the second.
const (
	envConformance = "BOLTSEAL_SIGSTORE_CONFORMANCE"
	envPublicRoot  = "BOLTSEAL_SIGSTORE_PUBLIC_ROOT"
)

// TestConformance runs sigstore-conformance's own vectors, which are not a part of this
// repository: they are read from a checkout of github.com/sigstore/sigstore-conformance.
func TestConformance(t *testing.T) {
	t.Parallel()
	folder, rootFile := os.Getenv(envConformance), os.Getenv(envPublicRoot)
	if folder == "" || rootFile == "" {
		t.Skipf("set %s to test/assets/bundle-verify of a checkout of sigstore-conformance, and %s to a trusted_root.json of the public instance", envConformance, envPublicRoot)
	}
	cases, err := filepath.Glob(filepath.Join(folder, "*", "bundle.sigstore.json"))
	if err != nil || len(cases) < 60 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	read := func(t *testing.T, paths ...string) []byte {
		t.Helper()
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err == nil {
				return b
			}
			if !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
		}
		return nil
	}
	for _, file := range cases {
		dir := filepath.Dir(file)
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			about := Artifact{Content: read(t, filepath.Join(dir, "artifact"), filepath.Join(folder, "a.txt")), AnyPredicate: true}
			p := TrustPolicy{Name: "p", Scopes: []string{"*"}}
			root, err := ParseTrustedRoot(read(t, filepath.Join(dir, "trusted_root.json"), rootFile))
			if err == nil {
				p.Root = root
				p.Time = TimeAny
				if key := read(t, filepath.Join(dir, "key.pub")); key != nil {
					var public crypto.PublicKey
					if public, err = ParsePublicKey(key); err == nil {
						p.Keys = []Key{{Name: "k", Public: public}}
					}
				} else {
					text := func(name, otherwise string) Match {
						if b := read(t, filepath.Join(dir, name)); b != nil {
							otherwise = strings.TrimSpace(string(b))
						}
						return ExactMatch(otherwise)
					}
					p.Identities = []Identity{{
						Issuer:  text("issuer", "https://token.actions.githubusercontent.com"),
						Subject: text("identity", "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main"),
					}}
				}
			}
			var ev boltseal.Evidence
			if err == nil {
				var v *Verifier
				if v, err = New(Options{Name: "v", TrustPolicies: []TrustPolicy{p}}); err == nil {
					ev, err = v.VerifyBundle(t.Context(), read(t, file), about)
				}
			}
			ok := err == nil && ev.Outcome == boltseal.Verified
			text, _ := json.Marshal(ev.Reason)
			t.Logf("%v %v %s", ok, err, text)
			if want := !strings.HasSuffix(name, "_fail"); ok != want {
				t.Errorf("verified: %v", ok)
			}
		})
	}
}
