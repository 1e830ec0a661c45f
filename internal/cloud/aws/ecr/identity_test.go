package ecr_test

import (
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/cloud/aws/ecr"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// TestSigningIn: each way in has a case in which it works, and cases in which it must
// not.
func TestSigningIn(t *testing.T) {
	t.Parallel()
	past := time.Now().Add(-time.Minute).Unix()
	irsa := func(c testcloud.Claims) func(*testing.T, *house) {
		return func(t *testing.T, h *house) { h.irsa(t, c) }
	}
	pod := func(c testcloud.Claims, uri string) func(*testing.T, *house) {
		return func(t *testing.T, h *house) { h.pod(t, c, uri) }
	}
	put := func(name, value string) func(*testing.T, *house) {
		return func(_ *testing.T, h *house) { h.put(name, value) }
	}
	stranger := testcloud.NewIssuer(t, "https://oidc.example/another")
	forger := testcloud.NewIssuer(t, "https://oidc.example/cluster")
	signed := func(by *testcloud.Issuer, audience string) func(*testing.T, *house) {
		return func(t *testing.T, h *house) {
			token := by.Token(testcloud.Claims{Subject: subject, Audience: audience, Expires: time.Now().Add(time.Hour).Unix()})
			path := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(path, []byte(token), 0o600); err != nil {
				t.Fatal(err)
			}
			if audience == irsaFor {
				h.put("AWS_WEB_IDENTITY_TOKEN_FILE", path)
			} else {
				h.pod(t, testcloud.Claims{}, agent)
				h.put("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", path)
			}
		}
	}
	holding := func(text string) func(*testing.T, *house) {
		return func(t *testing.T, h *house) {
			path := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			h.put("AWS_WEB_IDENTITY_TOKEN_FILE", path)
		}
	}
	someone := testcloud.Claims{Subject: "system:serviceaccount:default:default"}
	for _, c := range []struct {
		name string
		o    ecr.Options
		set  func(*testing.T, *house)
		is   error // nil = it works
		says string
	}{
		{"irsa", ecr.Options{}, irsa(testcloud.Claims{}), nil, ""},
		{"irsa, chosen", ecr.Options{Identity: aws.Options{Authentication: aws.IRSA}}, put("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent), nil, ""},
		{"irsa, expired", ecr.Options{}, irsa(testcloud.Claims{Expires: past}), boltseal.ErrUnauthorized, "sign in to AWS at " + stsHost + ": HTTP 400: not authorized (ExpiredTokenException); see that the role trusts"},
		{"irsa, another audience", ecr.Options{}, irsa(testcloud.Claims{Audience: "vault"}), boltseal.ErrUnauthorized, "InvalidIdentityToken: Incorrect token audience"},
		{"irsa, Pod Identity's audience", ecr.Options{}, irsa(testcloud.Claims{Audience: agentFor}), boltseal.ErrUnauthorized, "InvalidIdentityToken"},
		{"irsa, another ServiceAccount", ecr.Options{}, irsa(someone), boltseal.ErrUnauthorized, "AccessDenied: Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		{"irsa, another issuer", ecr.Options{}, signed(stranger, irsaFor), boltseal.ErrUnauthorized, "No OpenIDConnect provider found"},
		{"irsa, forged", ecr.Options{}, signed(forger, irsaFor), boltseal.ErrUnauthorized, "InvalidIdentityToken"},
		{"irsa, another role", ecr.Options{Identity: aws.Options{RoleARN: role + "2"}}, nil, boltseal.ErrUnauthorized, "AccessDenied"},
		{"irsa, no role", ecr.Options{}, put("AWS_ROLE_ARN", ""), boltseal.ErrConfiguration, "eks.amazonaws.com/role-arn"},
		{"irsa, no role's form", ecr.Options{}, put("AWS_ROLE_ARN", "boltseal"), boltseal.ErrConfiguration, "is no role"},
		{"irsa, no file", ecr.Options{Identity: aws.Options{Authentication: aws.IRSA}}, put("AWS_WEB_IDENTITY_TOKEN_FILE", ""), boltseal.ErrConfiguration, "$AWS_WEB_IDENTITY_TOKEN_FILE"},
		{"irsa, the file is gone", ecr.Options{Identity: aws.Options{TokenFile: "/nowhere/token"}}, nil, boltseal.ErrConfiguration, "no such file"},
		{"irsa, the file is empty", ecr.Options{}, holding("\n"), boltseal.ErrConfiguration, "contains no token"},
		{"irsa, the file is something else", ecr.Options{}, holding("some text\nof two lines"), boltseal.ErrConfiguration, "contains no token"},
		{"irsa, the file is huge", ecr.Options{}, holding(strings.Repeat("a", 1<<20)), boltseal.ErrLimit, "too long"},
		{"irsa, no region", ecr.Options{}, put("AWS_REGION", ""), nil, ""},
		{"irsa, a region that is none", ecr.Options{}, put("AWS_REGION", "evil.example/#"), boltseal.ErrConfiguration, "$AWS_REGION"},
		{"irsa, a region of another partition", ecr.Options{}, put("AWS_REGION", "cn-north-1"), boltseal.ErrConfiguration, "$AWS_REGION"},
		{"irsa, STS throttles", ecr.Options{}, func(_ *testing.T, h *house) { h.Refuse(stsHost, -1, 429, "30") }, boltseal.ErrUnavailable, "sign in to AWS at " + stsHost + ": HTTP 429"},
		{"irsa, STS is broken", ecr.Options{}, func(_ *testing.T, h *house) { h.Refuse(stsHost, -1, 500, "") }, boltseal.ErrUnavailable, "HTTP 500"},
		{"irsa, STS is broken once", ecr.Options{}, func(_ *testing.T, h *house) { h.Refuse(stsHost, 1, 500, "") }, nil, ""},
		{"irsa, STS is cut", ecr.Options{}, func(_ *testing.T, h *house) { h.Cut(stsHost) }, boltseal.ErrUnavailable, "sign in to AWS at " + stsHost},
		{"pod identity", ecr.Options{}, pod(testcloud.Claims{}, agent), nil, ""},
		{"pod identity, by IPv6", ecr.Options{}, pod(testcloud.Claims{}, "http://["+testcloud.PodIdentityAgent6+"]/v1/credentials"), nil, ""},
		{"pod identity, throttled", ecr.Options{}, func(t *testing.T, h *house) {
			h.pod(t, testcloud.Claims{}, agent)
			h.Serve(testcloud.PodIdentityAgent, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "(ThrottlingException): Rate exceeded", http.StatusBadRequest)
			}))
		}, boltseal.ErrUnavailable, "ThrottlingException"},
		{"pod identity, chosen", ecr.Options{Identity: aws.Options{Authentication: aws.PodIdentity}}, func(t *testing.T, h *house) {
			h.pod(t, testcloud.Claims{}, agent)
			h.put("AWS_WEB_IDENTITY_TOKEN_FILE", "/nowhere/token")
		}, nil, ""},
		{"pod identity, expired", ecr.Options{}, pod(testcloud.Claims{Expires: past}, agent), boltseal.ErrUnauthorized, "ExpiredTokenException"},
		{"pod identity, another audience", ecr.Options{}, pod(testcloud.Claims{Audience: irsaFor}, agent), boltseal.ErrUnauthorized, "InvalidTokenException"},
		{"pod identity, not associated", ecr.Options{}, pod(someone, agent), boltseal.ErrUnauthorized, "HTTP 404: not authorized (ResourceNotFoundException); see that Boltseal's ServiceAccount has an association"},
		{"pod identity, association removed", ecr.Options{}, func(t *testing.T, h *house) {
			h.pod(t, testcloud.Claims{}, agent)
			h.aws.Associate(subject, "")
		}, boltseal.ErrUnauthorized, "association"},
		{"pod identity, another issuer", ecr.Options{}, signed(stranger, agentFor), boltseal.ErrUnauthorized, "InvalidTokenException"},
		{"pod identity, forged", ecr.Options{}, signed(forger, agentFor), boltseal.ErrUnauthorized, "InvalidTokenException"},
		{"pod identity, another path", ecr.Options{}, pod(testcloud.Claims{}, "http://"+testcloud.PodIdentityAgent+"/v2/credentials"), boltseal.ErrUnauthorized, "HTTP 404"},
		{"pod identity, no token", ecr.Options{Identity: aws.Options{Authentication: aws.PodIdentity}}, put("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent), boltseal.ErrConfiguration, "$AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"},
		{"pod identity, no agent", ecr.Options{Identity: aws.Options{Authentication: aws.PodIdentity}}, nil, boltseal.ErrConfiguration, "$AWS_CONTAINER_CREDENTIALS_FULL_URI"},
		{"pod identity, agent is broken", ecr.Options{}, func(t *testing.T, h *house) {
			h.pod(t, testcloud.Claims{}, agent)
			h.Refuse(testcloud.PodIdentityAgent, -1, 503, "")
		}, boltseal.ErrUnavailable, "HTTP 503"},
		{"pod identity, agent is cut", ecr.Options{}, func(t *testing.T, h *house) {
			h.pod(t, testcloud.Claims{}, agent)
			h.Cut(testcloud.PodIdentityAgent)
		}, boltseal.ErrUnavailable, "EKS Pod Identity's agent at " + testcloud.PodIdentityAgent},
		{"pod identity, agent says something else", ecr.Options{}, func(t *testing.T, h *house) {
			h.pod(t, testcloud.Claims{}, agent)
			h.Serve(testcloud.PodIdentityAgent, says(200, `{"AccessKeyId":"ASIA"}`))
		}, boltseal.ErrMalformed, "no session"},
		{"nobody", ecr.Options{}, func(_ *testing.T, h *house) { h.set(map[string]string{}) }, boltseal.ErrConfiguration, "give Boltseal's ServiceAccount a role"},
		{"an access key is not taken", ecr.Options{}, func(_ *testing.T, h *house) {
			id, secret, token, _ := h.aws.Session(role)
			h.set(map[string]string{"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token})
		}, boltseal.ErrConfiguration, "give Boltseal's ServiceAccount a role"},
		{"a session that has ended", ecr.Options{}, func(_ *testing.T, h *house) { h.aws.Sessions(-time.Minute) }, boltseal.ErrUnauthorized, "ExpiredTokenException"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			if c.set != nil {
				c.set(t, h)
			}
			if _, err := h.get(t, h.source(t, c.o), host); !errors.Is(err, c.is) || c.is != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v\nwant %v with %q", err, c.is, c.says)
			}
		})
	}
}

// TestAgentElsewhere: the Pod's token goes to Pod Identity's agent only, and no proxy
// sees it.
func TestAgentElsewhere(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.Serve("evil.example", http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("evil.example was asked") }))
	for _, uri := range []string{
		"http://evil.example/v1/credentials", "http://169.254.170.23.evil.example/v1/credentials", "http://evil.example/169.254.170.23", "http://169.254.170.23@evil.example/v1/credentials",
		"http://user@169.254.170.23/v1/credentials", "https://169.254.170.23/v1/credentials", "http://169.254.170.23:8080/v1/credentials", "http://169.254.170.2/v1/credentials",
		"http://169.254.169.254/latest", "http://0xa9fea a17/", "http:169.254.170.23", "169.254.170.23/v1/credentials", "http://[fd00:ec2::24]/v1/credentials", "file:///etc/passwd", "http://localhost/v1/credentials",
	} {
		h.pod(t, testcloud.Claims{}, uri)
		if _, err := h.get(t, h.source(t, ecr.Options{}), host); !errors.Is(err, boltseal.ErrRefused) || !strings.Contains(err.Error(), "gets no token") {
			t.Errorf("%s: %v", uri, err)
		}
	}
	if n := h.asked(""); n != 0 {
		t.Errorf("%d requests", n)
	}
	h.pod(t, testcloud.Claims{}, agent)
	way := h.Transport()
	way.Proxy = func(r *http.Request) (*url.URL, error) {
		if r.URL.Scheme != "https" {
			t.Errorf("%s goes by a proxy", r.URL.Host)
		}
		return nil, nil
	}
	if _, err := h.get(t, h.source(t, ecr.Options{Transport: way}), host); err != nil {
		t.Error(err)
	}
}

// TestTokenIsReadAgain: Kubernetes renews a Pod's token in its file.
func TestTokenIsReadAgain(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	start := time.Now()
	h.irsa(t, testcloud.Claims{Expires: start.Add(-time.Minute).Unix()})
	s := h.source(t, ecr.Options{})
	if _, err := h.get(t, s, host); !errors.Is(err, boltseal.ErrUnauthorized) {
		t.Fatal(err)
	}
	fresh, err := os.ReadFile(h.file(t, testcloud.Claims{}, irsaFor))
	if err == nil {
		err = os.WriteFile(h.getenv("AWS_WEB_IDENTITY_TOKEN_FILE"), append(fresh, '\n'), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	h.at(start.Add(10 * time.Second)) // the failure is kept for a moment
	if _, err := h.get(t, s, host); err != nil {
		t.Error(err)
	}
}

// TestAnotherClusterRegion: STS is that of the cluster's region, and Amazon ECR's API
// that of the registry's.
func TestAnotherClusterRegion(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	far := h.aws.STS("eu-west-1")
	h.put("AWS_REGION", "eu-west-1")
	if _, err := h.get(t, h.source(t, ecr.Options{}), host); err != nil {
		t.Fatal(err)
	}
	if h.asked(far) != 1 || h.asked(stsHost) != 0 || h.asked(api) != 1 {
		t.Errorf("%+v", h.Requests(""))
	}
}
