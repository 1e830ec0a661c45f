package alibaba

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

const (
	opAssume    = "assume the role by AssumeRoleWithOIDC"
	opMachine   = "read the machine's role"
	opAuthorize = "ask for a temporary user by GetAuthorizationToken"
)

// signature is the algorithm of Alibaba Cloud's V3 signatures.
const signature = "ACS3-HMAC-SHA256"

// timeForm is how Alibaba Cloud writes a time.
const timeForm = "2006-01-02T15:04:05Z"

// session is a role's temporary key.
type session struct {
	id, secret, token string
	expires           time.Time
}

// sign signs a request without a body (Alibaba Cloud, "V3 request body and
// signature").
func sign(r *http.Request, as session, action, version, nonce string, now time.Time) {
	sum := sha256.Sum256(nil)
	set := func(name, value string) { r.Header[name] = []string{value} }
	set("x-acs-action", action)
	set("x-acs-version", version)
	set("x-acs-date", now.UTC().Format(timeForm))
	set("x-acs-signature-nonce", nonce)
	set("x-acs-content-sha256", hex.EncodeToString(sum[:]))
	set("x-acs-accesskey-id", as.id)
	set("x-acs-security-token", as.token)
	// In the order of their names, as they are signed.
	names := []string{"host", "x-acs-accesskey-id", "x-acs-action", "x-acs-content-sha256", "x-acs-date", "x-acs-security-token", "x-acs-signature-nonce", "x-acs-version"}
	var b strings.Builder
	b.WriteString(r.Method + "\n/\n" + strings.ReplaceAll(r.URL.Query().Encode(), "+", "%20") + "\n")
	for _, name := range names {
		value := r.URL.Host
		if name != "host" {
			value = r.Header[name][0]
		}
		b.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	b.WriteString("\n" + strings.Join(names, ";") + "\n" + hex.EncodeToString(sum[:]))
	canonical := sha256.Sum256([]byte(b.String()))
	mac := hmac.New(sha256.New, []byte(as.secret))
	mac.Write([]byte(signature + "\n" + hex.EncodeToString(canonical[:])))
	r.Header.Set("Authorization", signature+" Credential="+as.id+",SignedHeaders="+strings.Join(names, ";")+",Signature="+hex.EncodeToString(mac.Sum(nil)))
}

// authorize asks for a temporary user of an instance (cr 2018-12-01,
// GetAuthorizationToken).
func (s *Source) authorize(ctx context.Context, at place, instance string, as session) (oci.Credential, error) {
	host := s.service("cr", at.region)
	u := url.URL{Scheme: "https", Host: host, Path: "/", RawQuery: url.Values{"InstanceId": {instance}}.Encode()}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), nil)
	if err != nil {
		return oci.Credential{}, &keys.Error{Op: opAuthorize, Host: host, Err: boltseal.ErrConfiguration}
	}
	sign(req, as, "GetAuthorizationToken", "2018-12-01", rand.Text(), s.env.Clock())
	b, err := s.do(s.client, req, opAuthorize, "give the role cr:GetAuthorizationToken and cr:PullRepository on instance "+instance+", and see that the instance is in region "+at.region)
	if err != nil {
		return oci.Credential{}, err
	}
	c, err := parseAuthorization(b)
	if err != nil {
		return oci.Credential{}, &keys.Error{Op: opAuthorize, Host: host, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: err.Error()}
	}
	return c, nil
}

// maxPart bounds each part of a credential, in bytes: it goes into a header.
const maxPart = 32 << 10

// latest is the end of the year 9999, in milliseconds since 1970.
const latest = 253402300799_000

// parseAuthorization reads an answer to GetAuthorizationToken. Errors hold nothing of
// the answer but its code.
func parseAuthorization(b []byte) (oci.Credential, error) {
	var doc struct {
		AuthorizationToken, TempUsername, Code string
		ExpireTime                             int64 // milliseconds since 1970
		IsSuccess                              *bool
	}
	if json.Unmarshal(b, &doc) != nil {
		return oci.Credential{}, errShape
	}
	switch {
	case doc.IsSuccess != nil && !*doc.IsSuccess:
		return oci.Credential{}, errors.New("it says that it failed: " + keys.Clean(doc.Code))
	case doc.TempUsername == "" || doc.AuthorizationToken == "":
		return oci.Credential{}, errors.New("its answer contains no user and password")
	case len(doc.TempUsername) > maxPart || len(doc.AuthorizationToken) > maxPart:
		return oci.Credential{}, errors.New("its user or password is too long")
	case strings.ContainsAny(doc.TempUsername, ":\r\n\x00") || strings.ContainsAny(doc.AuthorizationToken, "\r\n\x00"):
		return oci.Credential{}, errors.New("its user or password cannot be shown to a registry")
	case doc.ExpireTime <= 0 || doc.ExpireTime > latest:
		return oci.Credential{}, errors.New("its answer does not say when the user ends")
	}
	return oci.Credential{Username: doc.TempUsername, Password: doc.AuthorizationToken, Expires: time.UnixMilli(doc.ExpireTime)}, nil
}

// do sends a request once, by one of the clients, and returns the body of a good answer.
func (s *Source) do(by *http.Client, req *http.Request, op, remedy string) ([]byte, error) {
	req.Header.Set("User-Agent", "boltseal")
	req.Header.Set("Accept", "application/json")
	host := req.URL.Host
	resp, err := by.Do(req)
	if err != nil {
		return nil, keys.NoAnswer(op, "", host, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, keys.NoAnswer(op, "", host, err)
	}
	if resp.StatusCode == http.StatusOK {
		return b, nil
	}
	e := &keys.Error{Op: op, Host: host, Status: resp.StatusCode, Err: keys.Sentinel(resp.StatusCode), RetryAfter: keys.RetryAfter(resp.Header, s.env.Clock())}
	var doc struct{ Code, Message string }
	if json.Unmarshal(b, &doc) == nil && doc.Code != "" {
		e.Detail = keys.Clean(doc.Code + ": " + doc.Message)
	}
	switch {
	case strings.HasPrefix(doc.Code, "Throttling") || strings.HasPrefix(doc.Code, "ServiceUnavailable") || strings.HasPrefix(doc.Code, "InternalError"):
		e.Err = boltseal.ErrUnavailable // with HTTP 400 too
	case errors.Is(e.Err, boltseal.ErrRefused):
		e.Detail = "it leads elsewhere, where an identity is not shown"
	case errors.Is(e.Err, boltseal.ErrUnavailable):
	default: // 400 and 404: it does not like who we say we are, or for what
		e.Err, e.Remedy = boltseal.ErrUnauthorized, remedy
	}
	return nil, e
}
