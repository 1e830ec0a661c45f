package keyvault

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure"
	"github.com/boltseal/boltseal/internal/keys"
)

// What Key Vault calls a secret that is switched off (its REST reference, "error
// codes").
const codeDisabled = "SecretDisabled"

// wrap says what the SDK's errors mean, without what they repeat of requests and
// answers.
func (v *provider) wrap(op, target string, err error) error {
	if err == nil {
		return nil
	}
	var known *keys.Error
	var auth *azidentity.AuthenticationFailedError
	var resp *azcore.ResponseError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &auth):
		return v.who.Failure(v.in, err)
	case errors.As(err, &resp):
		return v.answered(op, target, resp)
	case strings.Contains(err.Error(), "challenge resource"):
		return &keys.Error{Op: op, Target: target, Host: v.host, Err: boltseal.ErrRefused, Detail: "the vault asks for a token that is meant for somebody else"}
	case strings.Contains(err.Error(), "WWW-Authenticate"):
		return &keys.Error{Op: op, Target: target, Host: v.host, Status: http.StatusUnauthorized, Err: boltseal.ErrMalformed, Detail: "it does not say how to sign in"}
	case strings.Contains(err.Error(), "isn't configured to acquire tokens for tenant"):
		return &keys.Error{Op: op, Target: target, Host: v.host, Err: boltseal.ErrUnauthorized, Detail: "the vault is of another tenant than tenantID",
			Remedy: "set tenantID to the tenant of the vault, and give Boltseal an identity there"}
	}
	return keys.NoAnswer(op, target, v.host, err)
}

// answered reads Key Vault's own error (its REST reference, "Error").
func (v *provider) answered(op, target string, err *azcore.ResponseError) error {
	e := &keys.Error{Op: op, Target: target, Host: v.host, Status: err.StatusCode, Err: keys.Sentinel(err.StatusCode)}
	var body struct {
		Error struct {
			Code       string `json:"code"`
			Message    string `json:"message"`
			InnerError struct {
				Code string `json:"code"`
			} `json:"innererror"`
		} `json:"error"`
	}
	if err.RawResponse != nil {
		e.RetryAfter = keys.RetryAfter(err.RawResponse.Header, v.clock())
		if b, bad := runtime.Payload(err.RawResponse); bad == nil && json.Unmarshal(b, &body) != nil {
			body.Error.Code = ""
		}
	}
	inner := body.Error.InnerError.Code
	if inner == "" {
		inner = body.Error.Code
	}
	e.Detail = keys.Clean(inner)
	if e.Status == http.StatusForbidden && inner != codeDisabled && body.Error.Message != "" {
		first, _, _ := strings.Cut(body.Error.Message, "\n")
		e.Detail = keys.Clean(inner + ": " + first)
	}
	return e
}

// garbled is an answer that is none.
func (v *provider) garbled(op, target string) error {
	return &keys.Error{Op: op, Target: target, Host: v.host, Err: boltseal.ErrMalformed, Detail: "it answers with something else than what was asked for"}
}

func status(err error, code int) bool {
	var e *keys.Error
	return errors.As(err, &e) && e.Status == code && e.Op != azure.OpSignIn
}

func notFound(err error) bool { return status(err, http.StatusNotFound) }

func forbidden(err error) bool { return status(err, http.StatusForbidden) }

func secretDisabled(err error) bool {
	var e *keys.Error
	return errors.As(err, &e) && e.Status == http.StatusForbidden && e.Detail == codeDisabled
}

// What to grant, by what may not be done.
func rights(err error) error {
	return advise(err, "let Boltseal's identity read certificates (role Key Vault Certificate User), or their secrets (Key Vault Secrets User)")
}

func chainRights(err error) error {
	return advise(err, "the certificate is not self-signed, and its chain is in its secret: let Boltseal's identity read secrets (role Key Vault Secrets User), or provide the CA by another provider")
}

func listRights(err error) error {
	return advise(err, "versionHistoryLimit needs the right to list versions (role Key Vault Certificate User or Key Vault Reader)")
}

func advise(err error, remedy string) error {
	var e *keys.Error
	if !errors.As(err, &e) {
		return err
	}
	told := *e
	told.Remedy = remedy
	return &told
}
