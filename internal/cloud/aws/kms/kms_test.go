package kms_test

import (
	"bytes"
	"crypto/x509"
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
	awskms "github.com/boltseal/boltseal/internal/cloud/aws/kms"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

const (
	region  = "eu-central-1"
	role    = "arn:aws:iam::111122223333:role/boltseal"
	subject = "system:serviceaccount:boltseal-system:boltseal"
	caARN   = "arn:aws:acm-pca:" + region + ":111122223333:certificate-authority/11111111-2222-3333-4444-555555555555"
	keyID   = "11111111-2222-3333-4444-66666666666"
)

type house struct {
	*testcloud.Cloud
	kms    *testcloud.KMS
	issuer *testcloud.Issuer
	env    map[string]string
	chain  *testca.Chain
	told   bytes.Buffer
}

func newHouse(t *testing.T) *house {
	t.Helper()
	c := testcloud.Start(t, nil)
	h := &house{Cloud: c, issuer: testcloud.NewIssuer(t, "https://oidc.example/cluster"), env: map[string]string{}, chain: testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})}
	h.kms = c.KMS(region, h.issuer, role, subject)
	h.kms.Authority(caARN, testcloud.PrivateCA{Certificate: string(h.chain.Certs[1].PEM()), Chain: string(h.chain.Root().PEM())})
	h.irsa(t, testcloud.Claims{})
	t.Cleanup(func() {
		for _, secret := range h.Secrets() {
			if strings.Contains(h.told.String(), secret) {
				t.Errorf("a secret was told: %.12s…", secret)
			}
		}
	})
	return h
}

func (h *house) token(t *testing.T, c testcloud.Claims, audience string) string {
	t.Helper()
	if c.Subject == "" {
		c.Subject = subject
	}
	if c.Audience == "" {
		c.Audience = audience
	}
	if c.Expires == 0 {
		c.Expires = time.Now().Add(time.Hour).Unix()
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(h.issuer.Token(c)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (h *house) irsa(t *testing.T, c testcloud.Claims) {
	h.env = map[string]string{"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": h.token(t, c, "sts.amazonaws.com")}
}

func (h *house) fetch(t *testing.T, p awskms.Parameters) ([]keys.Group, error) {
	t.Helper()
	if ps := p.Check(""); len(ps) > 0 {
		t.Fatalf("%+v", ps)
	}
	v, err := p.Open(keys.Env{Transport: direct(t, h.Transport()), Getenv: func(n string) string { return h.env[n] }}, "")
	if err != nil {
		return nil, err
	}
	g, err := v.Fetch(t.Context())
	fmt.Fprintf(&h.told, "%+v %v\n", g, err)
	for i := range g {
		fmt.Fprintln(&h.told, g[i].Err)
	}
	return g, err
}

func params() awskms.Parameters {
	return awskms.Parameters{Region: region, CertificateAuthorities: []awskms.Authority{{ARN: caARN}}}
}

func TestAuthoritiesAndKeys(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	der, err := x509.MarshalPKIXPublicKey(h.chain.Leaf().PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	off := caARN[:len(caARN)-1] + "6"
	h.kms.Authority(off, testcloud.PrivateCA{Status: "DISABLED", Certificate: string(h.chain.Root().PEM())})
	h.kms.Key("alias/release", testcloud.KMSKey{PublicKey: der})
	h.kms.Key(keyID+"1", testcloud.KMSKey{State: "Disabled"})
	h.kms.Key(keyID+"2", testcloud.KMSKey{State: "PendingDeletion", Deletion: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)})
	h.kms.Key(keyID+"3", testcloud.KMSKey{Usage: "ENCRYPT_DECRYPT"})
	p := params()
	p.CertificateAuthorities = append(p.CertificateAuthorities, awskms.Authority{ARN: off}, awskms.Authority{ARN: caARN[:len(caARN)-1] + "7"})
	p.Keys = []awskms.Key{{Name: "alias/release"}, {Name: keyID + "1"}, {Name: keyID + "2"}, {Name: keyID + "3"}, {Name: keyID + "4"}}
	g, err := h.fetch(t, p)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range []struct {
		use keys.Use
		why string
	}{{keys.InUse, ""}, {keys.Disabled, "the authority is disabled"}, {keys.Missing, "it is not there"}, {keys.Unusable, "no verifier here trusts a bare key"},
		{keys.Disabled, "the key is disabled"}, {keys.Disabled, "about to be deleted on 2030-01-02"}, {keys.Unusable, "not for signing"}, {keys.Missing, "it is not there"}} {
		if g[i].Err != nil || g[i].Items[0].Use != w.use || (w.why == "") != (g[i].Problem == "") || !strings.Contains(g[i].Problem, w.why) {
			t.Errorf("%d: %+v %v, want %+v", i, g[i], g[i].Err, w)
		}
	}
	if n := len(keys.NewContent(g).Certificates()); n != 2 || g[3].Items[0].Key == nil {
		t.Errorf("%d certificates, key %v", n, g[3].Items[0].Key)
	}
}

// TestSigningIn: each way in has a case in which it works, and cases in which it
// must not.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	past := time.Now().Add(-time.Minute).Unix()
	pod := func(c testcloud.Claims, uri string) func(*testing.T, *house) {
		return func(t *testing.T, h *house) {
			h.env = map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": h.token(t, c, "pods.eks.amazonaws.com")}
		}
	}
	irsa := func(c testcloud.Claims) func(*testing.T, *house) {
		return func(t *testing.T, h *house) { h.irsa(t, c) }
	}
	access := func(life time.Duration, spoil string) func(*testing.T, *house) {
		return func(_ *testing.T, h *house) {
			id, secret, token := h.kms.AccessKey(life)
			h.env = map[string]string{"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret + spoil, "AWS_SESSION_TOKEN": token}
		}
	}
	const agent = "http://" + testcloud.PodIdentityAgent + "/v1/credentials"
	for _, c := range []struct {
		name string
		set  func(*testing.T, *house)
		is   error // nil = it works
		says string
	}{
		{"irsa", irsa(testcloud.Claims{}), nil, ""},
		{"irsa, another audience", irsa(testcloud.Claims{Audience: "vault"}), boltseal.ErrUnauthorized, "sign in to AWS at sts.eu-central-1.amazonaws.com: HTTP 400"},
		{"irsa, expired", irsa(testcloud.Claims{Expires: past}), boltseal.ErrUnauthorized, "ExpiredToken"},
		{"irsa, another account", irsa(testcloud.Claims{Subject: "system:serviceaccount:default:default"}), boltseal.ErrUnauthorized, "AccessDenied"},
		{"irsa, no role", func(_ *testing.T, h *house) { delete(h.env, "AWS_ROLE_ARN") }, boltseal.ErrConfiguration, "role-arn"},
		{"pod identity", pod(testcloud.Claims{}, agent), nil, ""},
		{"pod identity, expired", pod(testcloud.Claims{Expires: past}, agent), boltseal.ErrUnauthorized, "sign in to AWS"},
		{"pod identity, elsewhere", pod(testcloud.Claims{}, "http://169.254.170.23.evil.example/v1/credentials"), boltseal.ErrRefused, "gets no token"},
		{"access key", access(time.Hour, ""), nil, ""},
		{"access key, bad signature", access(time.Hour, "x"), boltseal.ErrUnauthorized, "InvalidSignature"},
		{"access key, expired", access(-time.Hour, ""), boltseal.ErrUnauthorized, "ExpiredToken"},
		{"nobody", func(_ *testing.T, h *house) { clear(h.env) }, boltseal.ErrConfiguration, "nothing says who signs in"},
		{"forbidden", func(_ *testing.T, h *house) { h.kms.Forbid(true) }, boltseal.ErrUnauthorized, "AccessDenied"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			c.set(t, h)
			g, err := h.fetch(t, params())
			if err == nil {
				err = g[0].Err
			}
			if !errors.Is(err, c.is) || c.is != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v with %q", err, c.is, c.says)
			}
		})
	}
}

func TestThrottledIsLeftAlone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.kms.Throttle(true)
	p := params()
	p.Keys = []awskms.Key{{Name: "alias/a"}, {Name: "alias/b"}}
	g, err := h.fetch(t, p)
	if err != nil {
		t.Fatal(err)
	}
	wait, ok := keys.Throttled(g[2].Err)
	// waits: nobody does, it is what the error says
	if asked := len(h.Requests("kms." + region + ".amazonaws.com")); !ok || wait < time.Second || asked != 0 || !errors.Is(g[0].Err, boltseal.ErrUnavailable) {
		t.Errorf("%v %v, asked on %d times: %v", wait, ok, asked, g[0].Err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for _, p := range []awskms.Parameters{{}, {Region: "evil.example/#", Keys: []awskms.Key{{Name: "alias/a"}}}, {Keys: []awskms.Key{{Name: "../x"}}},
		{Region: "us-east-1", CertificateAuthorities: []awskms.Authority{{ARN: caARN}}}, {Keys: []awskms.Key{{Name: "alias/a"}, {Name: "alias/a"}}},
		{CertificateAuthorities: []awskms.Authority{{ARN: strings.Replace(caARN, "arn:aws:", "arn:aws-cn:", 1)}}}} {
		if len(p.Check("")) == 0 {
			t.Errorf("%+v passes", p)
		}
	}
}

// TestReal asks AWS, where the environment names an authority.
func TestReal(t *testing.T) {
	t.Parallel()
	arn := os.Getenv("BOLTSEAL_TEST_AWS_AUTHORITY")
	if arn == "" {
		t.Skip("BOLTSEAL_TEST_AWS_AUTHORITY names no authority of AWS Private CA")
	}
	v, err := awskms.Parameters{Region: strings.Split(arn, ":")[3], CertificateAuthorities: []awskms.Authority{{ARN: arn}}}.Open(keys.Env{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if g, err := v.Fetch(t.Context()); err != nil || g[0].Err != nil || len(keys.NewContent(g).Certificates()) == 0 {
		t.Errorf("%+v %v", g, err)
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
