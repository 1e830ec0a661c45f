package credential

import (
	"testing"

	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzConfig: the same text gives the same credentials each time, for a registry
// that is in it and nobody else; no error is long.
func FuzzConfig(f *testing.F) {
	f.Add(`{"auths":{"ghcr.io":{"auth":"`+auth("u", "p")+`"}}}`, "ghcr.io", "a/b")
	f.Add(`{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p"},"docker.io":{"identitytoken":"t"}}}`, "docker.io", "library/nginx")
	f.Add(`{"auths":{"quay.io/a":{"registrytoken":"t"},"quay.io/a/b":{"auth":"!"}}}`, "quay.io", "a/b")
	f.Add(`{"credHelpers":{"gcr.io":"gcloud","GCR.IO":"other"},"credsStore":"desktop"}`, "gcr.io", "x")
	f.Add(`[1]`, "", "")
	f.Fuzz(func(t *testing.T, text, host, repository string) {
		weight.Bound{Floor: 64 << 10, Times: 64}.Check(t, len(text), func() { _, _ = parseConfig([]byte(text)) })
		c, err := parseConfig([]byte(text))
		if err != nil {
			if len(err.Error()) > 400 {
				t.Fatalf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		again, err := parseConfig([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		cred, err := c.credential(host, repository)
		cred2, err2 := again.credential(host, repository)
		if cred != cred2 || (err == nil) != (err2 == nil) {
			t.Fatalf("%+v, %v, and then %+v, %v", cred, err, cred2, err2)
		}
		helper, own := c.helper(host)
		if h, o := again.helper(host); h != helper || o != own {
			t.Fatalf("helper %q, and then %q", helper, h)
		}
		name, _ := canonical(host)
		if len(c.auths[name]) == 0 && (err != nil || cred.Username+cred.Password+cred.RefreshToken+cred.AccessToken != "") {
			t.Fatalf("credentials for a registry that is not there: %v", err)
		}
		if err != nil && len(err.Error()) > 1000 {
			t.Fatalf("%v", err)
		}
	})
}
