package acr

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/go-json-experiment/json"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

const opExchange = "exchange Entra's token for one of the registry"

// fetch signs in, and exchanges what it gets at the very host that is meant: what a
// registry's challenge says of realm and service is not asked for.
func (s *Source) fetch(ctx context.Context, host string) (oci.Credential, error) {
	in, err := s.cloudOf(host)
	if err != nil {
		return oci.Credential{}, err
	}
	entra, err := s.who.In(in).GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{scope}})
	if err != nil {
		if ctx.Err() != nil {
			return oci.Credential{}, keys.NoAnswer(azure.OpSignIn, "", "", ctx.Err())
		}
		return oci.Credential{}, s.who.Failure(in, err)
	}
	return s.exchange(ctx, host, entra.Token)
}

// exchange asks a registry for a refresh token (Azure/acr, docs/AAD-OAuth.md).
func (s *Source) exchange(ctx context.Context, host, entra string) (oci.Credential, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {entra}}
	if tenant := s.who.Tenant(); tenant != "" {
		form.Set("tenant", tenant)
	}
	req, err := runtime.NewRequest(ctx, http.MethodPost, "https://"+host+"/oauth2/exchange")
	if err != nil {
		return oci.Credential{}, &keys.Error{Op: opExchange, Host: host, Err: boltseal.ErrConfiguration}
	}
	req.Raw().Header.Set("Accept", "application/json")
	if err := req.SetBody(seekable{bytes.NewReader([]byte(form.Encode()))}, "application/x-www-form-urlencoded"); err != nil {
		return oci.Credential{}, &keys.Error{Op: opExchange, Host: host, Err: boltseal.ErrConfiguration}
	}
	resp, err := s.pipe.Do(req)
	if err != nil {
		return oci.Credential{}, keys.NoAnswer(opExchange, "", host, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return oci.Credential{}, keys.NoAnswer(opExchange, "", host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return oci.Credential{}, s.refused(host, resp, b)
	}
	token, until, err := parseExchange(b)
	if err != nil {
		return oci.Credential{}, &keys.Error{Op: opExchange, Host: host, Status: resp.StatusCode, Err: boltseal.ErrMalformed, Detail: err.Error()}
	}
	return oci.Credential{RefreshToken: token, Expires: until}, nil
}

type seekable struct{ *bytes.Reader }

func (seekable) Close() error { return nil }

func (s *Source) refused(host string, resp *http.Response, body []byte) error {
	e := &keys.Error{Op: opExchange, Host: host, Status: resp.StatusCode, Err: keys.Sentinel(resp.StatusCode), RetryAfter: keys.RetryAfter(resp.Header, s.env.Clock())}
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	if json.Unmarshal(body, &doc) == nil && len(doc.Errors) > 0 {
		e.Detail = keys.Clean(doc.Errors[0].Code + ": " + doc.Errors[0].Message)
	}
	if errors.Is(e.Err, boltseal.ErrConfiguration) { // 400: it does not take this token
		e.Err = boltseal.ErrUnauthorized
	}
	switch {
	case errors.Is(e.Err, boltseal.ErrUnauthorized):
		e.Remedy = "give the identity the role AcrPull (or Container Registry Repository Reader) on this registry, and see that tenantID is the registry's tenant; a registry that is not yours can be left out of endpoints"
	case errors.Is(e.Err, boltseal.ErrRefused):
		e.Detail = "it leads elsewhere, where an identity's token is not sent"
	}
	return e
}

// maxToken bounds a refresh token, in bytes: it goes into a form each time.
const maxToken = 32 << 10

// parseExchange reads an answer to an exchange: the refresh token, and when it ends.
// Errors hold nothing of the answer.
func parseExchange(b []byte) (token string, until time.Time, err error) {
	var doc struct {
		RefreshToken string `json:"refresh_token"`
	}
	if json.Unmarshal(b, &doc) != nil {
		return "", until, errors.New("its answer is not JSON, or not of the right shape")
	}
	token = doc.RefreshToken
	switch {
	case token == "":
		return "", until, errors.New("its answer contains no refresh_token")
	case len(token) > maxToken:
		return "", until, fmt.Errorf("the token is longer than %d bytes", maxToken)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", until, errors.New("the token is no JSON Web Token")
	}
	enc := base64.RawURLEncoding.Strict()
	for i, part := range parts {
		if raw, err := enc.DecodeString(part); err != nil || i < 2 && len(raw) == 0 {
			return "", until, errors.New("the token is no JSON Web Token")
		}
	}
	claims, _ := enc.DecodeString(parts[1])
	var c struct {
		Expires float64 `json:"exp"`
	}
	if json.Unmarshal(claims, &c) != nil || math.IsNaN(c.Expires) || c.Expires < 1 || c.Expires > maxTime {
		return "", until, errors.New("the token does not say when it ends")
	}
	return token, time.Unix(int64(c.Expires), 0), nil
}

// maxTime is the end of the year 9999, in seconds since 1970.
const maxTime = 253402300799
