package aws_test

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/cloud/aws/ecr"
	"github.com/boltseal/boltseal/internal/cloud/aws/kms"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

const (
	region   = "eu-central-1"
	account  = "111122223333"
	role     = "arn:aws:iam::" + account + ":role/boltseal"
	subject  = "system:serviceaccount:boltseal-system:boltseal"
	registry = account + ".dkr.ecr." + region + ".amazonaws.com"
	caARN    = "arn:aws:acm-pca:" + region + ":" + account + ":certificate-authority/11111111-2222-3333-4444-555555555555"
	stsHost  = "sts." + region + ".amazonaws.com"
	agent    = "http://" + testcloud.PodIdentityAgent + "/v1/credentials"
)

// house is an AWS with a registry and an authority that one role may read.
type house struct {
	*testcloud.Cloud
	kms    *testcloud.KMS
	issuer *testcloud.Issuer

	mu  sync.Mutex
	env map[string]string
	now time.Time
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{issuer: testcloud.NewIssuer(t, "https://oidc.example/cluster"), env: map[string]string{}, now: time.Now()}
	h.Cloud = testcloud.Start(t, h.clock)
	h.kms = h.KMS(region, h.issuer, role, subject)
	h.kms.Authority(caARN, testcloud.PrivateCA{Certificate: string(testca.Test(t, testca.Options{}).Root().PEM())})
	h.kms.ECR(region).Allow(role, account)
	return h
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func (h *house) getenv(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.env[name]
}

func (h *house) set(env map[string]string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.env = env
}

// token writes a Pod's token for an audience.
func (h *house) token(t *testing.T, audience string, expires time.Duration) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	text := h.issuer.Token(testcloud.Claims{Subject: subject, Audience: audience, Expires: h.clock().Add(expires).Unix()})
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (h *house) irsa(t *testing.T, expires time.Duration) map[string]string {
	return map[string]string{"AWS_ROLE_ARN": role, "AWS_WEB_IDENTITY_TOKEN_FILE": h.token(t, "sts.amazonaws.com", expires)}
}

func (h *house) pod(t *testing.T, uri string) map[string]string {
	return map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": uri, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": h.token(t, "pods.eks.amazonaws.com", time.Hour)}
}

// users are all that sign in by the identity: each asks AWS once.
func (h *house) users(t *testing.T) map[string]func() error {
	t.Helper()
	way := h.Transport()
	way.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme != "https" {
			t.Errorf("%s goes by a proxy", r.URL.Host)
		}
		return nil, nil
	}
	s, err := ecr.New(ecr.Options{Transport: way, Getenv: h.getenv, Clock: h.clock, Timeout: testwait.Patience})
	if err != nil {
		t.Fatal(err)
	}
	p, err := kms.Parameters{Region: region, CertificateAuthorities: []kms.Authority{{ARN: caARN}}}.Open(keys.Env{Transport: way, Getenv: h.getenv, Clock: h.clock}, "")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]func() error{
		"registries": func() error { _, err := s.Credential(t.Context(), registry, "app"); return err },
		"keys": func() error {
			g, err := p.Fetch(t.Context())
			if err == nil {
				err = g[0].Err
			}
			return err
		},
	}
}

// TestAllSignInAlike: the same environment makes the same identity, whoever asks for it,
// and what is wrong with it is told in the same words.
func TestAllSignInAlike(t *testing.T) {
	t.Parallel()
	with := func(env map[string]string, more ...string) map[string]string {
		for i := 0; i < len(more); i += 2 {
			env[more[i]] = more[i+1]
		}
		return env
	}
	key := []string{"AWS_ACCESS_KEY_ID", "AKIAOTHER", "AWS_SECRET_ACCESS_KEY", "x"}
	for _, c := range []struct {
		name  string
		env   func(*testing.T, *house) map[string]string
		is    error // nil = it works
		says  string
		asked string // who is asked for a session, "" = nobody
	}{
		{"a role for the ServiceAccount", func(t *testing.T, h *house) map[string]string { return h.irsa(t, time.Hour) }, nil, "", stsHost},
		{"Pod Identity", func(t *testing.T, h *house) map[string]string { return h.pod(t, agent) }, nil, "", testcloud.PodIdentityAgent},
		{"a role before an access key", func(t *testing.T, h *house) map[string]string { return with(h.irsa(t, time.Hour), key...) }, nil, "", stsHost},
		{"STS of the cluster's region", func(t *testing.T, h *house) map[string]string {
			h.kms.STS("eu-west-1")
			return with(h.irsa(t, time.Hour), "AWS_REGION", "eu-west-1")
		}, nil, "", "sts.eu-west-1.amazonaws.com"},
		{"a token that has expired", func(t *testing.T, h *house) map[string]string { return h.irsa(t, -time.Minute) }, boltseal.ErrUnauthorized, "ExpiredTokenException", stsHost},
		{"a role of another partition", func(t *testing.T, h *house) map[string]string {
			return with(h.irsa(t, time.Hour), "AWS_ROLE_ARN", strings.Replace(role, "arn:aws:", "arn:aws-cn:", 1))
		}, nil, "in another partition of AWS (aws) than the role (aws-cn)", ""},
		{"a cluster in another partition", func(t *testing.T, h *house) map[string]string {
			return with(h.pod(t, agent), "AWS_REGION", "us-gov-west-1")
		}, nil, "in another partition of AWS (aws) than the role (aws-us-gov)", ""},
		{"a region that is none", func(t *testing.T, h *house) map[string]string {
			return with(h.irsa(t, time.Hour), "AWS_REGION", "evil.example/#")
		}, boltseal.ErrConfiguration, "$AWS_REGION", ""},
		{"no role's form", func(t *testing.T, h *house) map[string]string {
			return with(h.irsa(t, time.Hour), "AWS_ROLE_ARN", "boltseal")
		}, boltseal.ErrConfiguration, "$AWS_ROLE_ARN boltseal is no role", ""},
		{"a token that is too long", func(t *testing.T, h *house) map[string]string {
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte(strings.Repeat("a", keys.MaxToken+1)), 0o600); err != nil {
				t.Fatal(err)
			}
			return with(h.irsa(t, time.Hour), "AWS_WEB_IDENTITY_TOKEN_FILE", file)
		}, boltseal.ErrLimit, "too long", ""},
		{"a token that is none", func(t *testing.T, h *house) map[string]string {
			return with(h.irsa(t, time.Hour), "AWS_WEB_IDENTITY_TOKEN_FILE", os.DevNull)
		}, boltseal.ErrConfiguration, "not a regular file", ""},
		{"an agent elsewhere", func(t *testing.T, h *house) map[string]string {
			return h.pod(t, "http://user@"+testcloud.PodIdentityAgent+"/v1/credentials")
		}, boltseal.ErrRefused, "gets no token", ""},
		{"nobody", func(*testing.T, *house) map[string]string { return map[string]string{} }, boltseal.ErrConfiguration, "nothing says who signs in to AWS", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.set(c.env(t, h))
			for who, ask := range h.users(t) {
				signers := func() map[string]int {
					n := map[string]int{}
					for _, r := range h.Requests("") {
						if strings.HasPrefix(r.Host, "sts.") || r.Host == testcloud.PodIdentityAgent {
							n[r.Host]++
						}
					}
					return n
				}
				before := signers()
				err := ask()
				if c.is == nil && c.says == "" && err != nil || c.is != nil && !errors.Is(err, c.is) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
					t.Errorf("%s: %v, want %v with %q", who, err, c.is, c.says)
				}
				for at, n := range signers() {
					if n != before[at] && at != c.asked {
						t.Errorf("%s: %s was asked, not %s", who, at, c.asked)
					}
				}
				if c.asked != "" && signers()[c.asked] == before[c.asked] {
					t.Errorf("%s: %s was not asked", who, c.asked)
				}
			}
		})
	}
}

// TestAccessKeysAreForWhatTellsNobodyAnything: certificates may be fetched by one, a
// registry's content may not.
func TestAccessKeysAreForWhatTellsNobodyAnything(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	id, secret, token := h.kms.AccessKey(time.Hour)
	h.set(map[string]string{"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token})
	users := h.users(t)
	if err := users["keys"](); err != nil {
		t.Error(err)
	}
	if err := users["registries"](); !errors.Is(err, boltseal.ErrConfiguration) || strings.Contains(err.Error(), secret) {
		t.Error(err)
	}
	h.set(map[string]string{"AWS_ACCESS_KEY_ID": id})
	if err := h.users(t)["keys"](); !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), "$AWS_SECRET_ACCESS_KEY is not") {
		t.Error(err)
	}
}

// TestSessionsAreKept: until shortly before their end, and not where AWS refuses them.
func TestSessionsAreKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set(h.irsa(t, 24*time.Hour))
	fetch := h.users(t)["keys"]
	signed := func(want int) {
		t.Helper()
		if err := fetch(); err != nil {
			t.Error(err)
		}
		if n := len(h.Requests(stsHost)); n != want {
			t.Errorf("%d sign-ins, not %d", n, want)
		}
	}
	signed(1)
	h.pass(30 * time.Minute)
	signed(1)
	h.pass(30*time.Minute - 20*time.Second) // too near its end to be used
	signed(2)
	// Whoever has the role may have ended its sessions.
	h.kms.EndSessions()
	if err := fetch(); !errors.Is(err, boltseal.ErrUnauthorized) {
		t.Errorf("a session that is refused: %v", err)
	}
	signed(3)
}

// TestPartitions: each region is in one, and a text that leads elsewhere is none.
func TestPartitions(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"eu-central-1": "aws", "us-east-1": "aws", "ap-southeast-2": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov",
		"us-iso-east-1": "aws-iso", "us-isob-east-1": "aws-iso-b", "us-isof-south-1": "aws-iso-f", "eu-isoe-west-1": "aws-iso-e", "eusc-de-east-1": "aws-eusc"} {
		if !aws.IsRegion(name) || aws.PartitionOf(name) != want {
			t.Errorf("%s: %v, %s, want %s", name, aws.IsRegion(name), aws.PartitionOf(name), want)
		}
	}
	for _, name := range []string{"", "eu", "eu-central", "eu-central-1.evil.example", "evil.example/#", "EU-CENTRAL-1", "eu-central-1 ", "eu--1"} {
		if aws.IsRegion(name) {
			t.Errorf("%q is taken for a region", name)
		}
	}
}
