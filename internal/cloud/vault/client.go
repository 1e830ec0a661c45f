package vault

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/trust"
)

// podToken is where Kubernetes puts a Pod's token.
const podToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

const opSignIn = "sign in to Vault"

// client speaks to one vault.
type client struct {
	p         Parameters
	env       keys.Env
	namespace string
	base      string // scheme and host
	host      string

	way   sync.Mutex
	http  *http.Client
	roots [sha256.Size]byte // of what http trusts

	mu    sync.Mutex
	token string    // of the method kubernetes; "" = not signed in
	until time.Time // when it is to be renewed; zero = never
}

func newClient(p Parameters, env keys.Env, namespace string) (*client, error) {
	u, err := p.address()
	if err != nil {
		return nil, err
	}
	return &client{p: p, env: env, namespace: namespace, base: u.String(), host: u.Host}, nil
}

// client is the way to the vault, by the authorities of its certificate as they are
// now: where those in the file are others, no connection of before is used.
func (c *client) client() (*http.Client, error) {
	pem := []byte(c.p.CACert)
	if c.p.CAFile != "" {
		var err error
		if pem, err = keys.ReadFile("read", c.p.CAFile, trust.MaxPEMBytes); err != nil {
			return nil, err
		}
	}
	c.way.Lock()
	defer c.way.Unlock()
	sum := sha256.Sum256(pem)
	if c.http != nil && c.roots == sum {
		return c.http, nil
	}
	env := c.env
	if len(pem) > 0 || c.p.CAFile != "" {
		certs, err := trust.ParseCertificates(pem)
		if err != nil {
			return nil, &keys.Error{Op: "read", Target: c.p.CAFile, Err: boltseal.ErrMalformed, Detail: strings.TrimPrefix(err.Error(), "configuration: ")}
		}
		pool := x509.NewCertPool()
		for _, cert := range certs {
			pool.AddCert(cert)
		}
		if env.Transport, err = trusting(env.Transport, pool); err != nil {
			return nil, err
		}
	}
	if t, ok := env.Transport.(*http.Transport); ok && c.namespace != "" {
		env.Transport = oci.Guarded(t) // whoever writes in a namespace has chosen the address
	}
	if c.http != nil {
		c.http.CloseIdleConnections()
	}
	c.http, c.roots = env.Client(), sum
	return c.http, nil
}

// trusting is a transport like the given one, with other authorities.
func trusting(rt http.RoundTripper, pool *x509.CertPool) (http.RoundTripper, error) {
	t, ok := rt.(*http.Transport)
	if !ok {
		return nil, fmt.Errorf("%w: caCert and caFile cannot be heeded here", boltseal.ErrConfiguration)
	}
	t = t.Clone()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t.TLSClientConfig.RootCAs = pool
	return t, nil
}

// get asks for a path, signed in; a token that is refused is renewed once.
func (c *client) get(ctx context.Context, op, path string, into any) error {
	for again := false; ; again = true {
		token, err := c.signedIn(ctx, again)
		if err != nil {
			return err
		}
		err = c.do(ctx, http.MethodGet, op, path, token, nil, into)
		var e *keys.Error
		if again || c.p.Auth.Method != MethodKubernetes || !errors.As(err, &e) || e.Status != http.StatusForbidden {
			return err
		}
	}
}

// signedIn returns a token. The one that is known is not used where anew is set,
// unless another goroutine has renewed it meanwhile.
func (c *client) signedIn(ctx context.Context, anew bool) (string, error) {
	if c.p.Auth.Method == MethodToken {
		return c.ownToken(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.env.Clock()
	if c.token != "" && !anew && (c.until.IsZero() || now.Before(c.until)) {
		return c.token, nil
	}
	jwt, err := keys.ReadToken(opSignIn, cmp.Or(c.p.Auth.TokenFile, podToken))
	if err != nil {
		return "", err
	}
	question := struct {
		Role string `json:"role"`
		JWT  string `json:"jwt"`
	}{c.p.Auth.Role, jwt}
	var answer struct {
		Auth struct {
			ClientToken   string `json:"client_token"`
			LeaseDuration int64  `json:"lease_duration"` // seconds; 0 = for ever
		} `json:"auth"`
	}
	path := "auth/" + cmp.Or(c.p.Auth.Mount, MethodKubernetes) + "/login"
	if err := c.do(ctx, http.MethodPost, opSignIn, path, "", question, &answer); err != nil {
		return "", err
	}
	if answer.Auth.ClientToken == "" {
		return "", &keys.Error{Op: opSignIn, Host: c.host, Err: boltseal.ErrMalformed, Detail: "it gave no token"}
	}
	c.token, c.until = answer.Auth.ClientToken, time.Time{}
	if d := answer.Auth.LeaseDuration; d > 0 {
		c.until = now.Add(time.Duration(min(d, 365*24*3600)) * time.Second * 4 / 5) // ahead of its end
	}
	return c.token, nil
}

func (c *client) ownToken(ctx context.Context) (string, error) {
	if ref := c.p.Auth.TokenRef; ref != nil {
		token, secret, err := ref.ReadAll(ctx, c.env.Objects, c.namespace)
		if err == nil {
			err = c.disclosed(ref.Name, secret)
		}
		if err != nil {
			return "", err
		}
		return token, nil
	}
	return keys.ReadToken(opSignIn, c.p.Auth.TokenFile)
}

// do asks once.
func (c *client) do(ctx context.Context, method, op, path, token string, question, into any) error {
	var body io.Reader
	if question != nil {
		b, err := json.Marshal(question)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+"/v1/"+path, body)
	if err != nil {
		return &keys.Error{Op: op, Target: path, Host: c.host, Err: boltseal.ErrConfiguration}
	}
	req.Header.Set("User-Agent", "boltseal")
	req.Header.Set("X-Vault-Request", "true") // agents in between demand it against forged requests
	if c.p.VaultNamespace != "" {
		req.Header.Set("X-Vault-Namespace", c.p.VaultNamespace)
	}
	if token != "" {
		if !keys.IsToken(token) {
			return &keys.Error{Op: opSignIn, Host: c.host, Err: boltseal.ErrConfiguration, Detail: "the token has characters that no token has"}
		}
		req.Header.Set("X-Vault-Token", token)
	}
	way, err := c.client()
	if err != nil {
		return err
	}
	resp, err := way.Do(req)
	if err != nil {
		return keys.NoAnswer(op, path, c.host, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return keys.NoAnswer(op, path, c.host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return c.refused(op, path, resp, b)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return &keys.Error{Op: op, Target: path, Host: c.host, Err: boltseal.ErrMalformed, Detail: "it answers with something else than Vault's JSON"}
	}
	return nil
}

// refused reads Vault's own error (its HTTP API, "Error response").
func (c *client) refused(op, path string, resp *http.Response, body []byte) error {
	e := &keys.Error{Op: op, Target: path, Host: c.host, Status: resp.StatusCode, Err: keys.Sentinel(resp.StatusCode), RetryAfter: keys.RetryAfter(resp.Header, c.env.Clock())}
	var told struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(body, &told) == nil && len(told.Errors) > 0 {
		e.Detail = keys.Clean(told.Errors[0])
	}
	switch {
	case op == opSignIn && (e.Status == http.StatusBadRequest || e.Status == http.StatusForbidden):
		e.Err = boltseal.ErrUnauthorized
		e.Remedy = "see that the role is bound to Boltseal's ServiceAccount and namespace, and takes the token's audience"
	case e.Status == http.StatusForbidden:
		e.Remedy = "let the policy of Boltseal's role read this path, and see that the token has not expired"
	case errors.Is(e.Err, boltseal.ErrRefused):
		e.Detail, e.Remedy = "it leads elsewhere, and the token stays here", "name the address of the active node, or of a load balancer"
	}
	return e
}
