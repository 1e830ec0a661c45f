package ecr

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/strict"
)

// The environment in which Amazon EKS tells a Pod who it is.
const (
	envRole       = "AWS_ROLE_ARN"
	envTokenFile  = "AWS_WEB_IDENTITY_TOKEN_FILE"
	envRegion     = "AWS_REGION"
	envAgent      = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	envAgentToken = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
)

const (
	opSignIn = "sign in to AWS"
	opAgent  = "sign in to AWS by EKS Pod Identity's agent"

	// sessionName is what AWS's audit log calls us.
	sessionName  = "boltseal"
	maxTokenFile = 64 << 10 // bytes
	attempts     = 2        // of one request
	retryDelay   = 300 * time.Millisecond

	giveRole = "give Boltseal's ServiceAccount a role: annotate it with eks.amazonaws.com/role-arn (IRSA), or associate it by EKS Pod Identity"
)

// agents are where EKS Pod Identity's agent is on each node. Its URI is taken from
// the environment, and the Pod's token goes nowhere else.
func agents(host string) bool { return host == "169.254.170.23" || host == "fd00:ec2::23" }

// retryer tries once more where nobody answered. Whoever throttles is left alone
// until the keeper's next fetch.
func retryer() sdk.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff, o.RateLimiter = attempts, retryDelay, ratelimit.None
		o.Retryables = []retry.IsErrorRetryable{retry.NoRetryCanceledError{}, retry.RetryableConnectionError{},
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusInternalServerError: {}, http.StatusBadGateway: {}, http.StatusGatewayTimeout: {}}}}
	})
}

// way is how the role is had; "" = nothing says.
func (s *Source) way() string {
	switch {
	case s.o.Authentication != "":
		return s.o.Authentication
	case s.o.RoleARN != "" || s.o.TokenFile != "" || s.env.Getenv(envTokenFile) != "":
		return IRSA
	case s.env.Getenv(envAgent) != "":
		return PodIdentity
	}
	return ""
}

// partition is where the role is, "" = nothing says.
func (s *Source) partition() string {
	if s.way() == IRSA {
		if m := roleARN.FindStringSubmatch(s.role()); m != nil {
			return m[1]
		}
	}
	if r := s.env.Getenv(envRegion); regionName.MatchString(r) {
		return partitionOf(r)
	}
	return ""
}

func (s *Source) role() string { return cmp.Or(s.o.RoleARN, s.env.Getenv(envRole)) }

func lacks(op, detail, remedy string) error {
	return &keys.Error{Op: op, Err: boltseal.ErrConfiguration, Detail: detail, Remedy: remedy}
}

// signIn gets a session of the role. The machine's own role is not used: every Pod
// of the machine may have it.
func (s *Source) signIn(ctx context.Context, at place) (sdk.Credentials, error) {
	switch s.way() {
	case IRSA:
		return s.assume(ctx, at)
	case PodIdentity:
		return s.ask(ctx)
	}
	return sdk.Credentials{}, lacks(opSignIn, "neither $"+envTokenFile+" nor $"+envAgent+" is set", giveRole)
}

// assume shows the Pod's token to STS. Where the cluster is says which STS: that one
// answers within its network.
func (s *Source) assume(ctx context.Context, at place) (sdk.Credentials, error) {
	role, file := s.role(), cmp.Or(s.o.TokenFile, s.env.Getenv(envTokenFile))
	region := cmp.Or(s.env.Getenv(envRegion), at.region)
	switch {
	case file == "":
		return sdk.Credentials{}, lacks(opSignIn, "tokenFile is not set, and neither is $"+envTokenFile, giveRole)
	case role == "":
		return sdk.Credentials{}, lacks(opSignIn, "roleARN is not set, and neither is $"+envRole, giveRole)
	case !roleARN.MatchString(role):
		return sdk.Credentials{}, lacks(opSignIn, "$"+envRole+" "+strict.Label(role)+" is no role", giveRole)
	case !regionName.MatchString(region) || partitionOf(region) != at.partition():
		return sdk.Credentials{}, lacks(opSignIn, "$"+envRegion+" "+strict.Label(region)+" is no region of the role's partition", "see what sets it")
	}
	token, err := readToken(opSignIn, file)
	if err != nil {
		return sdk.Credentials{}, err
	}
	host := ""
	if e, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sts.EndpointParameters{Region: &region}); err == nil {
		host = e.URI.Host
	}
	client := sts.New(sts.Options{Region: region, HTTPClient: s.client, Retryer: retryer(), Credentials: sdk.AnonymousCredentials{}})
	got, err := stscreds.NewWebIdentityRoleProvider(client, role, token, func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = sessionName }).Retrieve(ctx)
	if err != nil {
		return sdk.Credentials{}, s.wrap(ctx, opSignIn, host, err)
	}
	return got, whole(opSignIn, host, got)
}

// ask shows the Pod's token to Pod Identity's agent on this node.
func (s *Source) ask(ctx context.Context) (sdk.Credentials, error) {
	uri, file := s.env.Getenv(envAgent), s.env.Getenv(envAgentToken)
	switch {
	case uri == "":
		return sdk.Credentials{}, lacks(opAgent, "$"+envAgent+" is not set", "see that the add-on eks-pod-identity-agent runs, associate Boltseal's ServiceAccount, and start its Pods again")
	case file == "":
		return sdk.Credentials{}, lacks(opAgent, "$"+envAgentToken+" is not set", "start Boltseal's Pods again: EKS Pod Identity sets it")
	}
	to, err := url.Parse(uri)
	if err != nil || !agents(to.Hostname()) || to.Scheme != "http" || to.Port() != "" && to.Port() != "80" || to.User != nil || to.Opaque != "" {
		return sdk.Credentials{}, &keys.Error{Op: opAgent, Err: boltseal.ErrRefused, Detail: "$" + envAgent + " does not lead to the agent, and gets no token", Remedy: "see what sets it"}
	}
	token, err := readToken(opAgent, file)
	if err != nil {
		return sdk.Credentials{}, err
	}
	got, err := endpointcreds.New(to.String(), func(o *endpointcreds.Options) {
		o.HTTPClient, o.Retryer, o.AuthorizationToken = s.agent, retryer(), string(token)
	}).Retrieve(ctx)
	if err != nil {
		return sdk.Credentials{}, s.wrap(ctx, opAgent, to.Host, err)
	}
	return got, whole(opAgent, to.Host, got)
}

// held is a token that was read.
type held []byte

// GetIdentityToken implements stscreds.IdentityTokenRetriever.
func (h held) GetIdentityToken() ([]byte, error) { return h, nil }

// readToken reads a Pod's token, which Kubernetes renews. Errors hold nothing of it.
func readToken(op, file string) (held, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, unread(op, file, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	text := strings.TrimSpace(string(b))
	switch {
	case err != nil:
		return nil, unread(op, file, err)
	case len(b) > maxTokenFile:
		return nil, &keys.Error{Op: op, Err: boltseal.ErrLimit, Detail: "the Pod's token is too long: " + strict.Label(file)}
	case text == "" || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return nil, lacks(op, "the file contains no token: "+strict.Label(file), "see that it is a projected ServiceAccount token")
	}
	return held(text), nil
}

func unread(op, file string, err error) error {
	var cause *os.PathError
	detail := "cannot be read"
	if errors.As(err, &cause) {
		detail = cause.Err.Error()
	}
	return lacks(op, "the Pod's token "+strict.Label(file)+": "+detail, "see that the volume with the ServiceAccount's token is mounted")
}

// whole says whether a session can sign anything.
func whole(op, host string, c sdk.Credentials) error {
	if c.AccessKeyID == "" || c.SecretAccessKey == "" || c.SessionToken == "" {
		return &keys.Error{Op: op, Host: host, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: "its answer contains no session"}
	}
	return nil
}
