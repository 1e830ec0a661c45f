package aws

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

// throttled is how long AWS is left alone where it asks for that: it seldom says how long.
const throttled = 10 * time.Second

// busy are AWS's codes for "come again later", which may come as HTTP 400 (API references of AWS STS, Amazon ECR, AWS KMS
// and AWS Private CA, "Common errors").
var busy = map[string]bool{"ThrottlingException": true, "Throttling": true, "ThrottledException": true, "RequestThrottled": true, "RequestThrottledException": true,
	"TooManyRequestsException": true, "RequestLimitExceeded": true, "LimitExceededException": true, "SlowDown": true}

// sentinels are what further codes mean. Most of them come as HTTP 400.
var sentinels = map[string]error{
	"NotFoundException": boltseal.ErrNotFound, "ResourceNotFoundException": boltseal.ErrNotFound,
	"AccessDeniedException": boltseal.ErrUnauthorized, "AccessDenied": boltseal.ErrUnauthorized,
	"UnrecognizedClientException": boltseal.ErrUnauthorized, "InvalidSignatureException": boltseal.ErrUnauthorized, "SignatureDoesNotMatch": boltseal.ErrUnauthorized,
	"IncompleteSignatureException": boltseal.ErrUnauthorized, "MissingAuthenticationTokenException": boltseal.ErrUnauthorized,
	"ExpiredTokenException": boltseal.ErrUnauthorized, "ExpiredToken": boltseal.ErrUnauthorized, "InvalidClientTokenId": boltseal.ErrUnauthorized,
	"InvalidIdentityToken": boltseal.ErrUnauthorized, "IDPRejectedClaim": boltseal.ErrUnauthorized,
	"IDPCommunicationError": boltseal.ErrUnavailable, "RequestInProgressException": boltseal.ErrUnavailable, "RequestTimeout": boltseal.ErrUnavailable,
	"ServiceUnavailable": boltseal.ErrUnavailable, "ServiceUnavailableException": boltseal.ErrUnavailable, "InternalFailure": boltseal.ErrUnavailable,
	"InternalServerException": boltseal.ErrUnavailable, "InternalServiceErrorException": boltseal.ErrUnavailable, "ServerException": boltseal.ErrUnavailable,
	"KMSInternalException": boltseal.ErrUnavailable, "DependencyTimeoutException": boltseal.ErrUnavailable, "KeyUnavailableException": boltseal.ErrUnavailable,
}

// telling are codes whose message says what to change, the same each time.
var telling = map[string]bool{"AccessDenied": true, "AccessDeniedException": true, "InvalidIdentityToken": true, "IDPRejectedClaim": true, "InvalidParameterException": true}

// agentCode is how Pod Identity's agent names what AWS told it, in a line of text.
var agentCode = regexp.MustCompile(`\b([A-Z][A-Za-z]{1,50}Exception)\b`)

// Question is what was asked of AWS.
type Question struct {
	Op     string // what for, as keys.Error has it
	Target string // of what, "" = nothing in particular
	Host   string // whom
}

// Failure says what an error of the SDK means, without what it repeats of requests and answers. Where signing in failed
// within another operation, it is the error of signing in. It gives no remedy: whoever asks knows which right is missing.
func (id *Identity) Failure(ctx context.Context, q Question, err error) *keys.Error {
	var known *keys.Error
	var api smithy.APIError
	var resp *smithyhttp.ResponseError
	var status interface{ HTTPStatusCode() int }
	var network *url.Error
	e := &keys.Error{Op: q.Op, Target: q.Target, Host: q.Host, Err: boltseal.ErrUnavailable}
	if errors.As(err, &status) {
		e.Status, e.Err = status.HTTPStatusCode(), keys.Sentinel(status.HTTPStatusCode())
	}
	if errors.As(err, &resp) && resp.Response != nil {
		e.RetryAfter = keys.RetryAfter(resp.Response.Header, id.env.Clock())
	}
	switch {
	case errors.As(err, &known):
		return known
	case ctx.Err() != nil:
		return keys.NoAnswer(q.Op, q.Target, q.Host, ctx.Err())
	case errors.Is(err, boltseal.ErrLimit):
		return keys.NoAnswer(q.Op, q.Target, q.Host, boltseal.ErrLimit)
	case errors.Is(err, io.ErrUnexpectedEOF):
		e.Status, e.Err, e.Detail = 0, boltseal.ErrUnavailable, "its answer breaks off"
		return e
	case e.Status == 0 && errors.As(err, &network):
		return keys.NoAnswer(q.Op, q.Target, q.Host, network)
	case e.Status < 300:
		e.Err, e.Detail = boltseal.ErrMalformed, "it answers with something else than what was asked for"
		return e
	case e.Status < 400:
		e.Detail = "it leads elsewhere, where a role is not shown"
		return e
	case errors.As(err, &api):
		readCode(e, api.ErrorCode(), api.ErrorMessage())
	}
	if e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable {
		e.RetryAfter = max(e.RetryAfter, throttled)
	}
	return e
}

// readCode takes in AWS's own code, and its message where that helps.
func readCode(e *keys.Error, code, message string) {
	e.Detail = keys.Clean(code)
	if m := agentCode.FindStringSubmatch(message); m != nil && e.Detail == "" {
		e.Detail = m[1]
	}
	short := e.Detail
	if telling[code] && message != "" {
		e.Detail = keys.Clean(code + ": " + message)
	}
	if is := sentinels[short]; is != nil {
		e.Err = is
	}
	if busy[short] {
		e.Err, e.RetryAfter = boltseal.ErrUnavailable, max(e.RetryAfter, throttled)
	}
}

// SessionRefused reports whether it is the session that AWS does not take, and not what it may do.
func SessionRefused(e *keys.Error) bool {
	code, _, _ := strings.Cut(e.Detail, ":")
	switch code {
	case "ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException", "SignatureDoesNotMatch":
		return !IsSignIn(e)
	}
	return false
}
