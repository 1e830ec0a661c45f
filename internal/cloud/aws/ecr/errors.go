package ecr

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
)

// throttled is how long AWS is left alone where it asks for that: it seldom says how
// long.
const throttled = 10 * time.Second

// busy are AWS's codes for "come again later", which may come as HTTP 400 (AWS STS
// and Amazon ECR API references, "Common errors").
var busy = map[string]bool{"ThrottlingException": true, "Throttling": true, "ThrottledException": true, "RequestThrottled": true, "RequestThrottledException": true,
	"TooManyRequestsException": true, "RequestLimitExceeded": true, "LimitExceededException": true, "SlowDown": true}

// down are its codes for an outage that may come as HTTP 400.
var down = map[string]bool{"IDPCommunicationError": true, "ServiceUnavailable": true, "ServiceUnavailableException": true, "InternalFailure": true, "InternalServerException": true,
	"ServerException": true, "RequestTimeout": true}

// telling are codes whose message says what to change, the same each time.
var telling = map[string]bool{"AccessDenied": true, "AccessDeniedException": true, "InvalidIdentityToken": true, "IDPRejectedClaim": true, "InvalidParameterException": true}

// agentCode is how Pod Identity's agent names what AWS told it, in a line of text.
var agentCode = regexp.MustCompile(`\b([A-Z][A-Za-z]{1,50}Exception)\b`)

// wrap says what the SDK's errors mean, without what they repeat of requests and
// answers.
func (s *Source) wrap(ctx context.Context, op, host string, err error) error {
	var api smithy.APIError
	var resp *smithyhttp.ResponseError
	var status interface{ HTTPStatusCode() int }
	var network *url.Error
	e := &keys.Error{Op: op, Host: host, Err: boltseal.ErrUnavailable}
	if errors.As(err, &status) {
		e.Status, e.Err = status.HTTPStatusCode(), keys.Sentinel(status.HTTPStatusCode())
	}
	if errors.As(err, &resp) && resp.Response != nil {
		e.RetryAfter = keys.RetryAfter(resp.Response.Header, s.env.Clock())
	}
	switch {
	case ctx.Err() != nil:
		return keys.NoAnswer(op, "", host, ctx.Err())
	case errors.Is(err, boltseal.ErrLimit):
		return keys.NoAnswer(op, "", host, boltseal.ErrLimit)
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Status, e.Err, e.Detail = 0, boltseal.ErrUnavailable, "its answer breaks off"
		return e
	case e.Status == 0 && errors.As(err, &network):
		return keys.NoAnswer(op, "", host, network)
	case e.Status < 300:
		e.Err, e.Detail = boltseal.ErrMalformed, "it answers with something else than what was asked for"
		return e
	case e.Status < 400:
		e.Detail = "it leads elsewhere, where a role is not shown"
		return e
	case errors.As(err, &api):
		code := keys.Clean(api.ErrorCode())
		if m := agentCode.FindStringSubmatch(api.ErrorMessage()); m != nil && code == "" {
			code = m[1]
		}
		e.Detail = code
		if telling[code] && api.ErrorCode() != "" && api.ErrorMessage() != "" {
			e.Detail = keys.Clean(code + ": " + api.ErrorMessage())
		}
		if busy[code] || down[code] {
			e.Err = boltseal.ErrUnavailable
		}
		if busy[code] {
			e.RetryAfter = max(e.RetryAfter, throttled)
		}
	}
	if e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable {
		e.RetryAfter = max(e.RetryAfter, throttled)
	}
	if !errors.Is(e.Err, boltseal.ErrUnavailable) {
		// Most refusals come as HTTP 400.
		e.Err, e.Remedy = boltseal.ErrUnauthorized, remedy(op, e.Detail)
	}
	return e
}

// remedy is what to do about a refusal.
func remedy(op, detail string) string {
	switch {
	case strings.HasPrefix(detail, "InvalidSignature") || strings.HasPrefix(detail, "SignatureDoesNotMatch") || strings.HasPrefix(detail, "ExpiredToken") && op == opAuthorize:
		return "see that this machine's clock is right"
	case op == opAgent:
		return "see that Boltseal's ServiceAccount has an association of EKS Pod Identity in this cluster, and that its role trusts pods.eks.amazonaws.com"
	case op == opSignIn:
		return "see that the role trusts this cluster's tokens (issuer, subject, audience sts.amazonaws.com)"
	}
	return "let Boltseal's role do ecr:GetAuthorizationToken, ecr:BatchGetImage and ecr:GetDownloadUrlForLayer; a registry that is not yours can be left out by endpoints or accounts"
}
