package azure

import (
	"cmp"
	"errors"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
)

// OpSignIn is what is done here, as a keys.Error has it.
const OpSignIn = "sign in to Microsoft Entra"

// entraCode is how Microsoft Entra numbers its refusals.
var entraCode = regexp.MustCompile(`AADSTS[0-9]+: [^\r\n"\\]*`)

// Failure says what an error of [Identity.In] means, without what it repeats of requests and answers.
func (id *Identity) Failure(in cloud.Configuration, err error) *keys.Error {
	var known *keys.Error
	if errors.As(err, &known) {
		return known
	}
	e := &keys.Error{Op: OpSignIn, Err: boltseal.ErrUnauthorized}
	if u, bad := url.Parse(in.ActiveDirectoryAuthorityHost); bad == nil && id.way() != ManagedIdentity {
		e.Host = u.Host
	}
	var auth *azidentity.AuthenticationFailedError
	var outer *url.Error
	switch {
	case errors.As(err, &auth) && auth.RawResponse != nil:
		r := auth.RawResponse
		if r.Request != nil {
			e.Host = r.Request.URL.Host
		}
		e.Status, e.Err, e.RetryAfter = r.StatusCode, keys.Sentinel(r.StatusCode), keys.RetryAfter(r.Header, id.env.Clock())
		if errors.Is(e.Err, boltseal.ErrConfiguration) || errors.Is(e.Err, boltseal.ErrNotFound) {
			e.Err = boltseal.ErrUnauthorized // 400: it does not like who we say we are
		}
		e.Detail = keys.Clean(entraCode.FindString(err.Error()))
	case errors.As(err, &outer):
		return keys.NoAnswer(OpSignIn, "", e.Host, outer)
	case entraCode.MatchString(err.Error()):
		e.Detail = keys.Clean(entraCode.FindString(err.Error()))
	default:
		e.Err = boltseal.ErrUnavailable
		first, _, _ := strings.Cut(err.Error(), "\n")
		e.Detail = keys.Clean(first)
	}
	if errors.Is(e.Err, boltseal.ErrUnauthorized) {
		e.Remedy = "see that tenantID and clientID are right, and that the identity trusts this cluster's tokens (federated credential: issuer, subject, audience)"
		switch id.way() {
		case ManagedIdentity:
			e.Remedy = "see that this identity is assigned to the cluster's nodes: clientID " + strict.Label(cmp.Or(id.o.ClientID, "(the machine's own)"))
		case ClientSecret:
			e.Remedy = "see that tenantID and clientID are right, and that the client secret is theirs and has not expired"
		}
	}
	return e
}
