package kms

import (
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
)

const (
	opSignIn = "sign in to AWS"
	// throttled is how long AWS is left alone where it asks for that: it does not say
	// how long. The refresher doubles it.
	throttled = 10 * time.Second
)

// sentinels are what AWS's codes mean (AWS KMS, AWS Private CA and STS API
// references, "Common errors"). Most of them come as HTTP 400.
var sentinels = map[string]error{
	"NotFoundException": boltseal.ErrNotFound, "ResourceNotFoundException": boltseal.ErrNotFound,
	"AccessDeniedException": boltseal.ErrUnauthorized, "AccessDenied": boltseal.ErrUnauthorized,
	"UnrecognizedClientException": boltseal.ErrUnauthorized, "InvalidSignatureException": boltseal.ErrUnauthorized,
	"IncompleteSignatureException": boltseal.ErrUnauthorized, "MissingAuthenticationTokenException": boltseal.ErrUnauthorized,
	"ExpiredTokenException": boltseal.ErrUnauthorized, "ExpiredToken": boltseal.ErrUnauthorized, "InvalidClientTokenId": boltseal.ErrUnauthorized,
	"InvalidIdentityToken": boltseal.ErrUnauthorized, "IDPRejectedClaim": boltseal.ErrUnauthorized,
	"IDPCommunicationError": boltseal.ErrUnavailable, "RequestInProgressException": boltseal.ErrUnavailable,
	"KMSInternalException": boltseal.ErrUnavailable, "DependencyTimeoutException": boltseal.ErrUnavailable, "KeyUnavailableException": boltseal.ErrUnavailable,
	"ThrottlingException": boltseal.ErrUnavailable, "Throttling": boltseal.ErrUnavailable, "LimitExceededException": boltseal.ErrUnavailable, "TooManyRequestsException": boltseal.ErrUnavailable,
}

// wrap says what the SDK's errors mean, without what they repeat of requests.
func (v *provider) wrap(op, target, host string, err error) error {
	var api smithy.APIError
	var resp *smithyhttp.ResponseError
	var net *url.Error
	e := &keys.Error{Op: op, Target: target, Host: host, Err: boltseal.ErrUnavailable}
	// Signing in fails within the operation that needs it.
	signing := strings.Contains(err.Error(), "get identity:") || strings.Contains(err.Error(), "failed to refresh cached credentials")
	if signing {
		e.Op, e.Target, e.Host = opSignIn, "", v.signer
	}
	if errors.As(err, &resp) && resp.Response != nil {
		e.Status, e.Err = resp.HTTPStatusCode(), keys.Sentinel(resp.HTTPStatusCode())
		e.RetryAfter = keys.RetryAfter(resp.Response.Header, v.clock())
	}
	switch {
	case errors.As(err, &api) && e.Status != 0:
		e.Detail = keys.Clean(api.ErrorCode())
		if s := sentinels[api.ErrorCode()]; s != nil {
			e.Err = s
		}
		if strings.HasPrefix(api.ErrorCode(), "Thrott") || api.ErrorCode() == "TooManyRequestsException" {
			e.RetryAfter = max(e.RetryAfter, throttled)
		}
	case e.Status == 0 && errors.As(err, &net):
		return keys.NoAnswer(e.Op, e.Target, e.Host, net)
	case e.Status == 0 && signing:
		e.Err, e.Detail = boltseal.ErrUnauthorized, "the Pod's token cannot be read, or nobody answers for it"
	case e.Status == 0:
		return keys.NoAnswer(e.Op, e.Target, e.Host, err)
	case e.Status < 300:
		e.Err, e.Detail = boltseal.ErrMalformed, "it answers with something else than what was asked for"
	}
	if errors.Is(e.Err, boltseal.ErrUnauthorized) {
		e.Remedy = "let Boltseal's role do kms:DescribeKey, kms:GetPublicKey, acm-pca:DescribeCertificateAuthority and acm-pca:GetCertificateAuthorityCertificate here"
		if signing {
			e.Remedy = "see that the role trusts this cluster's tokens (issuer, subject, audience sts.amazonaws.com)"
		}
	}
	return e
}

func notFound(err error) bool {
	var e *keys.Error
	return errors.As(err, &e) && errors.Is(e.Err, boltseal.ErrNotFound) && e.Op != opSignIn
}
