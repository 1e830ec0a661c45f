package kms_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	gcpkms "github.com/boltseal/boltseal/internal/cloud/gcp/kms"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

const (
	pool     = "projects/acme/locations/europe-west3/caPools/release"
	key      = "projects/acme/locations/europe-west3/keyRings/signing/cryptoKeys/release"
	audience = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/clusters/providers/prod"
	subject  = "system:serviceaccount:boltseal-system:boltseal"
	account  = "boltseal@acme.iam.gserviceaccount.com"
)

type house struct {
	*testcloud.Cloud
	google *testcloud.GoogleKMS
	issuer *testcloud.Issuer
	env    map[string]string
	chain  *testca.Chain
	now    time.Time
	told   bytes.Buffer
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{env: map[string]string{}, chain: testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}}), now: time.Now()}
	h.Cloud = testcloud.Start(t, func() time.Time { return h.now })
	h.issuer = testcloud.NewIssuer(t, "https://oidc.example/cluster")
	h.google = h.GoogleKMS(h.issuer, audience, subject, account)
	h.google.Authority(pool+"/certificateAuthorities/root", testcloud.GoogleAuthority{PEM: []string{string(h.chain.Certs[1].PEM()), string(h.chain.Root().PEM())}})
	t.Cleanup(func() {
		if len(h.Secrets()) == 0 && h.told.Len() == 0 {
			return
		}
		for _, secret := range h.Secrets() {
			if strings.Contains(h.told.String(), secret) {
				t.Errorf("a secret was told: %.12s…", secret)
			}
		}
	})
	return h
}

func (h *house) open(t *testing.T, p gcpkms.Parameters) keys.Provider {
	t.Helper()
	if ps := p.Check(""); len(ps) > 0 {
		t.Fatalf("%+v", ps)
	}
	v, err := p.Open(keys.Env{Transport: direct(t, h.Transport()), Getenv: func(n string) string { return h.env[n] }, Clock: func() time.Time { return h.now }}, "")
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (h *house) fetch(t *testing.T, v keys.Provider) []keys.Group {
	t.Helper()
	g, err := v.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range g {
		fmt.Fprintf(&h.told, "%+v %v\n", g[i], g[i].Err)
	}
	return g
}

func authorities(names ...string) (p gcpkms.Parameters) {
	for _, n := range names {
		p.CertificateAuthorities = append(p.CertificateAuthorities, gcpkms.Authority{Name: n})
	}
	return p
}

func uses(g keys.Group) string {
	var b strings.Builder
	for _, it := range g.Items {
		fmt.Fprintf(&b, "%s:%s ", it.Version, it.Use)
	}
	return strings.TrimSpace(b.String())
}

// TestAuthorities: a pool has all of its authorities, over pages; what is deleted is
// not trusted, and named.
func TestAuthorities(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.google.PageSize = 1
	old := testca.Test(t, testca.Options{})
	h.google.Authority(pool+"/certificateAuthorities/old", testcloud.GoogleAuthority{State: "DISABLED", PEM: []string{string(old.Root().PEM())}})
	h.google.Authority(pool+"/certificateAuthorities/gone", testcloud.GoogleAuthority{State: "DELETED", PEM: []string{string(testca.Test(t, testca.Options{}).Root().PEM())}})
	h.google.Authority(pool+"/certificateAuthorities/new", testcloud.GoogleAuthority{State: "AWAITING_USER_ACTIVATION"})
	h.google.Authority(pool+"/certificateAuthorities/odd", testcloud.GoogleAuthority{PEM: []string{"not PEM"}})
	g := h.fetch(t, h.open(t, authorities(pool, pool+"/certificateAuthorities/root", pool+"/certificateAuthorities/gone", pool+"/certificateAuthorities/never", "projects/acme/locations/europe-west3/caPools/nowhere")))
	c := keys.NewContent(g)
	if n := len(c.Certificates()); n != 3 || !strings.Contains(keys.Texts(c.Notes()), "old: it is disabled") || !strings.Contains(keys.Texts(c.Notes()), "gone: it is deleted") {
		t.Errorf("%d certificates, notes %q", n, c.Notes())
	}
	for i, says := range []string{"", "", "gone at privateca.googleapis.com: it is deleted", "it is not there", "it is not there"} {
		if g[i].Err != nil || (says == "") != (g[i].Problem == "") || !strings.Contains(g[i].Problem, says) {
			t.Errorf("%d: %+v %v", i, g[i], g[i].Err)
		}
	}
	if n := len(h.Requests(testcloud.GoogleCAHost)); n != 5+4 {
		t.Errorf("%d requests", n)
	}
}

// TestKeys: pinned, newest and last versions; what is off, of no use or not what it
// says is named.
func TestKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.google.PageSize = 2
	pub := h.chain.Leaf().PublicKey
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set := func(n int, v testcloud.GoogleVersion) {
		if v.Public == nil {
			v.Public = pub
		}
		h.google.Version(key, n, v)
	}
	set(1, testcloud.GoogleVersion{})
	set(2, testcloud.GoogleVersion{})
	set(10, testcloud.GoogleVersion{})
	set(11, testcloud.GoogleVersion{State: "DISABLED"})
	set(12, testcloud.GoogleVersion{State: "DESTROY_SCHEDULED", Destroy: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)})
	set(13, testcloud.GoogleVersion{State: "DESTROYED"})
	other := key + "2"
	for n, v := range []testcloud.GoogleVersion{{}, {Algorithm: "RSA_SIGN_PKCS1_2048_SHA256", Public: &small.PublicKey}, {Algorithm: "EC_SIGN_ED25519", Public: pub}, {Algorithm: "GOOGLE_SYMMETRIC_ENCRYPTION"},
		{Algorithm: "RSA_SIGN_PSS_2048_SHA256", Public: &small.PublicKey}, {Algorithm: "RSA_SIGN_PSS_4096_SHA512", Public: &small.PublicKey}, {Public: pub, WrongChecksum: true}, {Public: pub, NoChecksum: true}} {
		if n > 0 {
			h.google.Version(other, n, v)
		}
	}
	want := []struct {
		k         gcpkms.Key
		uses      string
		problem   string // of the group
		err, says string
	}{
		{gcpkms.Key{Name: key}, "13:Disabled 12:Disabled 11:Disabled 10:Unusable", "the version is destroyed", "", ""},
		{gcpkms.Key{Name: key, Version: "1"}, "1:Unusable", "no verifier here trusts a bare key", "", ""},
		{gcpkms.Key{Name: key, Version: "11"}, "11:Disabled", "the version is disabled", "", ""},
		{gcpkms.Key{Name: key, Version: "12"}, "12:Disabled", "about to be destroyed on 2030-01-02", "", ""},
		{gcpkms.Key{Name: key, Version: "3"}, ":Missing", "it is not there", "", ""},
		{gcpkms.Key{Name: key + "3"}, ":Missing", "it is not there", "", ""},
		{gcpkms.Key{Name: other, Version: "1"}, "1:Unusable", "its algorithm is RSA_SIGN_PKCS1_2048_SHA256, by which no signature is verified here", "", ""},
		{gcpkms.Key{Name: other, Version: "2"}, "2:Unusable", "EC_SIGN_ED25519", "", ""},
		{gcpkms.Key{Name: other, Version: "3"}, "3:Unusable", "GOOGLE_SYMMETRIC_ENCRYPTION", "", ""},
		{gcpkms.Key{Name: other, Version: "4"}, "4:Unusable", "no verifier here trusts a bare key", "", ""},
		{gcpkms.Key{Name: other, Version: "5"}, "", "", "malformed", "not one of its algorithm RSA_SIGN_PSS_4096_SHA512"},
		{gcpkms.Key{Name: other, Version: "6"}, "", "", "malformed", "it was changed on the way"},
		{gcpkms.Key{Name: other, Version: "7"}, "", "", "malformed", "without its checksum"},
	}
	var p gcpkms.Parameters
	for _, w := range want {
		p.Keys = append(p.Keys, w.k)
	}
	g := h.fetch(t, h.open(t, p))
	for i, w := range want {
		if w.err != "" {
			if !errors.Is(g[i].Err, boltseal.ErrMalformed) || !strings.Contains(g[i].Err.Error(), w.says) {
				t.Errorf("%+v: %v", w.k, g[i].Err)
			}
			continue
		}
		if g[i].Err != nil || uses(g[i]) != w.uses || !strings.Contains(g[i].Problem, w.problem) {
			t.Errorf("%+v: %s, %q, %v", w.k, uses(g[i]), g[i].Problem, g[i].Err)
		}
	}
	if g[1].Items[0].Key == nil || g[9].Items[0].Key == nil || g[6].Items[0].Key != nil || g[2].Items[0].Key != nil {
		t.Error("keys are shown where they are of use, and nowhere else")
	}
	// The last versions: as many as are enabled.
	g = h.fetch(t, h.open(t, gcpkms.Parameters{Keys: []gcpkms.Key{{Name: key, VersionHistoryLimit: 2}}}))
	if uses(g[0]) != "13:Disabled 12:Disabled 11:Disabled 10:Unusable 2:Unusable" {
		t.Errorf("%s", uses(g[0]))
	}
}

func (h *house) file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// federate has the Pod sign in by a token of its own.
func (h *house) federate(t *testing.T, c testcloud.Claims, edit func(map[string]any)) {
	t.Helper()
	if c.Subject == "" {
		c.Subject = subject
	}
	if c.Audience == "" {
		c.Audience = "https:" + audience
	}
	if c.Expires == 0 {
		c.Expires = h.now.Add(time.Hour).Unix()
	}
	config := map[string]any{"type": "external_account", "audience": audience, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
		"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + account + ":generateAccessToken",
		"credential_source":                 map[string]any{"file": h.file(t, "token", h.issuer.Token(c)+"\n")}}
	if edit != nil {
		edit(config)
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	h.env["GOOGLE_APPLICATION_CREDENTIALS"] = h.file(t, "config.json", string(b))
}

// TestSigningIn: each way in has a case in which it works, and cases in which it
// must not.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	federated := func(c testcloud.Claims, edit func(map[string]any)) func(*testing.T, *house) {
		return func(t *testing.T, h *house) { h.federate(t, c, edit) }
	}
	set := func(field string, value any) func(map[string]any) {
		return func(m map[string]any) { m[field] = value }
	}
	for _, c := range []struct {
		name string
		set  func(*testing.T, *house)
		is   error // nil = it works
		says string
	}{
		{"metadata server", func(*testing.T, *house) {}, nil, ""},
		{"metadata server knows nobody", func(_ *testing.T, h *house) { h.google.Metadata(false) }, boltseal.ErrUnauthorized, "sign in to Google Cloud at metadata.google.internal: HTTP 404"},
		{"metadata server is not there", func(_ *testing.T, h *house) { h.Cut("metadata.google.internal") }, boltseal.ErrUnavailable, "GOOGLE_APPLICATION_CREDENTIALS"},
		{"forbidden", func(_ *testing.T, h *house) { h.google.Forbid(true) }, boltseal.ErrUnauthorized, "roles/privateca.auditor"},
		{"federated", federated(testcloud.Claims{}, nil), nil, ""},
		{"federated, no account", func(t *testing.T, h *house) {
			h.google.Account = ""
			h.federate(t, testcloud.Claims{}, func(m map[string]any) { delete(m, "service_account_impersonation_url") })
		}, nil, ""},
		{"federated, the account is not used", federated(testcloud.Claims{}, func(m map[string]any) { delete(m, "service_account_impersonation_url") }), boltseal.ErrUnauthorized, "PERMISSION_DENIED"},
		{"federated, another audience", federated(testcloud.Claims{Audience: "vault"}, nil), boltseal.ErrUnauthorized, "invalid_grant"},
		{"federated, another pool", federated(testcloud.Claims{}, set("audience", "//iam.googleapis.com/x")), boltseal.ErrUnauthorized, "invalid_target"},
		{"federated, expired", federated(testcloud.Claims{Expires: 1}, nil), boltseal.ErrUnauthorized, "sign in to Google Cloud at sts.googleapis.com: HTTP 400"},
		{"federated, somebody else", federated(testcloud.Claims{Subject: "system:serviceaccount:default:default"}, nil), boltseal.ErrUnauthorized, "unauthorized_client"},
		{"federated, exchanged elsewhere", federated(testcloud.Claims{}, set("token_url", "https://sts.googleapis.com.evil.example/v1/token")), boltseal.ErrConfiguration, "gets no token"},
		{"federated, an account elsewhere", federated(testcloud.Claims{}, set("service_account_impersonation_url", "https://iamcredentials.googleapis.com.evil.example/v1/projects/-/serviceAccounts/x:generateAccessToken")), boltseal.ErrConfiguration, "gets no token"},
		{"federated, somebody else's account", federated(testcloud.Claims{}, set("service_account_impersonation_url", "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/root@acme.iam.gserviceaccount.com:generateAccessToken")), boltseal.ErrUnauthorized, "PERMISSION_DENIED"},
		{"a program for a token", federated(testcloud.Claims{}, set("credential_source", map[string]any{"executable": map[string]any{"command": "/bin/true"}})), boltseal.ErrConfiguration, "not a file"},
		{"a downloaded key", federated(testcloud.Claims{}, set("type", "service_account")), boltseal.ErrConfiguration, "only external_account is used here"},
		{"no such file", func(_ *testing.T, h *house) { h.env["GOOGLE_APPLICATION_CREDENTIALS"] = "/nowhere" }, boltseal.ErrConfiguration, "/nowhere: no such file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			c.set(t, h)
			g := h.fetch(t, h.open(t, authorities(pool)))
			if err := g[0].Err; !errors.Is(err, c.is) || c.is != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v with %q", err, c.is, c.says)
			}
			for _, r := range h.Requests("") {
				if strings.Contains(r.Host, "evil") {
					t.Errorf("%+v was asked", r)
				}
			}
		})
	}
}

// TestTokenIsKept: one token for all, until shortly before its end; one that is
// refused is replaced once.
func TestTokenIsKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	v := h.open(t, authorities(pool, pool+"/certificateAuthorities/root"))
	asked := func(want int) {
		t.Helper()
		if g := h.fetch(t, v); g[0].Err != nil || g[1].Err != nil {
			t.Fatalf("%v %v", g[0].Err, g[1].Err)
		}
		if n := len(h.Requests("metadata.google.internal")); n != want {
			t.Errorf("%d tokens were asked for, want %d", n, want)
		}
	}
	asked(1)
	h.now = h.now.Add(40 * time.Minute)
	asked(1)
	h.now = h.now.Add(20*time.Minute - 20*time.Second) // too near its end to be shown
	asked(2)
	h.google.Revoke()
	asked(3)
	h.Refuse(testcloud.GoogleCAHost, -1, 401, "")
	before := len(h.Requests(testcloud.GoogleCAHost))
	if g := h.fetch(t, v); !errors.Is(g[0].Err, boltseal.ErrUnauthorized) {
		t.Errorf("%v", g[0].Err)
	}
	if n := len(h.Requests(testcloud.GoogleCAHost)) - before; n != 4 {
		t.Errorf("%d requests for two authorities, want two each", n)
	}
}

// TestThrottledIsLeftAlone: who says 429 or 503 is asked once, by the whole of a
// provider.
func TestThrottledIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 503} {
		h := newHouse(t)
		h.Refuse(testcloud.GoogleCAHost, -1, status, "300")
		p := authorities(pool, pool+"/certificateAuthorities/root")
		p.Keys = []gcpkms.Key{{Name: key}}
		g := h.fetch(t, h.open(t, p))
		wait, ok := keys.Throttled(g[2].Err)
		if n := len(h.Requests(testcloud.GoogleCAHost)) + len(h.Requests(testcloud.GoogleKMSHost)); !ok || wait != 300*time.Second || n != 1 || !errors.Is(g[0].Err, boltseal.ErrUnavailable) {
			t.Errorf("%d: %v %v, asked %d times: %v", status, wait, ok, n, g[0].Err)
		}
	}
}

// TestNoAnswer: what is no answer is not taken for one that there is nothing.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(*house){
		"cut":      func(h *house) { h.Cut(testcloud.GoogleCAHost) },
		"500":      func(h *house) { h.Refuse(testcloud.GoogleCAHost, -1, 500, "") },
		"redirect": func(h *house) { h.Refuse(testcloud.GoogleCAHost, -1, 302, "") },
	} {
		h := newHouse(t)
		breaks(h)
		g := h.fetch(t, h.open(t, authorities(pool, pool+"/certificateAuthorities/root")))
		if g[0].Err == nil || g[1].Err == nil || len(g[0].Items) > 0 {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	one := func(k gcpkms.Key) gcpkms.Parameters { return gcpkms.Parameters{Keys: []gcpkms.Key{k}} }
	for _, p := range []gcpkms.Parameters{{}, authorities("projects/acme/locations/x/caPools/../y"), authorities(pool + "/"), authorities(pool, pool), authorities("projects/a@b/locations/x/caPools/y"),
		authorities(pool + "?x=y"), one(gcpkms.Key{Name: key + "/cryptoKeyVersions/1"}), one(gcpkms.Key{Name: key, Version: "latest"}), one(gcpkms.Key{Name: key, Version: "0"}),
		one(gcpkms.Key{Name: key, VersionHistoryLimit: 51}), one(gcpkms.Key{Name: key, Version: "1", VersionHistoryLimit: 2}), one(gcpkms.Key{Name: "https://" + key})} {
		if len(p.Check("")) == 0 {
			t.Errorf("%+v passes", p)
		}
	}
	if ps := authorities("projects/example.com:acme/locations/us/caPools/a").Check(""); len(ps) > 0 {
		t.Errorf("%+v", ps)
	}
}

// TestReal asks Google, where the environment names a pool or a key.
func TestReal(t *testing.T) {
	t.Parallel()
	ca, k := os.Getenv("BOLTSEAL_TEST_GCP_AUTHORITY"), os.Getenv("BOLTSEAL_TEST_GCP_KEY")
	if ca == "" && k == "" {
		t.Skip("BOLTSEAL_TEST_GCP_AUTHORITY and BOLTSEAL_TEST_GCP_KEY name no pool and no key")
	}
	var p gcpkms.Parameters
	if ca != "" {
		p = authorities(ca)
	}
	if k != "" {
		p.Keys = []gcpkms.Key{{Name: k, VersionHistoryLimit: 2}}
	}
	v, err := p.Open(keys.Env{}, "")
	if err != nil {
		t.Fatal(err)
	}
	g, err := v.Fetch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range g {
		if g.Err != nil || len(g.Items) == 0 || g.Items[0].Use == keys.Missing {
			t.Errorf("%+v %v", g, g.Err)
		}
	}
}

// direct is a transport that asks no proxy about what is not under TLS.
func direct(t *testing.T, way *http.Transport) *http.Transport {
	way.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme != "https" {
			t.Errorf("%s goes by a proxy", r.URL.Host)
		}
		return nil, nil
	}
	return way
}
