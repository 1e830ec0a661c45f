// Package aws says who Boltseal is in AWS, and gets sessions of it for all that is asked there.
package aws

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/credential/keeper"
	"github.com/boltseal/boltseal/internal/keys"
)

// How Boltseal gets its role.
const (
	IRSA        = "irsa"        // a role for the ServiceAccount, by its web identity token
	PodIdentity = "podIdentity" // by the agent of EKS Pod Identity

	// accessKey is one in the environment. It is no value of a parameter.
	accessKey = "accessKey"
)

// The environment in which Amazon EKS tells a Pod who it is, and an access key's.
const (
	envRole       = "AWS_ROLE_ARN"
	envTokenFile  = "AWS_WEB_IDENTITY_TOKEN_FILE"
	envRegion     = "AWS_REGION"
	envAgent      = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
	envAgentToken = "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
	envKey        = "AWS_ACCESS_KEY_ID"
	envSecret     = "AWS_SECRET_ACCESS_KEY"
	envSession    = "AWS_SESSION_TOKEN"
)

const (
	// MaxAnswer bounds one answer of those who sign in, in bytes.
	MaxAnswer = 256 << 10

	attempts   = 2 // of one request
	retryDelay = 300 * time.Millisecond
)

// Options say who signs in. The zero value is whom Amazon EKS names in the environment.
type Options struct {
	// Authentication is IRSA or PodIdentity. "" means what the environment says, and IRSA where that says both.
	Authentication string
	// RoleARN and TokenFile are those of IRSA; the file is read again whenever it is used. "" means $AWS_ROLE_ARN,
	// $AWS_WEB_IDENTITY_TOKEN_FILE.
	RoleARN, TokenFile string
	// AccessKeys has an access key of the environment used where nothing else says who signs in. False means that none
	// is: it is a password, and may be one that never ends. It is for what tells nobody anything.
	AccessKeys bool
}

var roleARN = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov|aws-iso|aws-iso-[bef]|aws-eusc):iam::[0-9]{12}:role/[A-Za-z0-9_+=,.@/-]{1,576}$`)

// Check finds what is wrong with the options. It looks at nothing outside them.
func (o Options) Check() (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	ways := []string{IRSA, PodIdentity}
	switch o.Authentication {
	case "", IRSA:
	case PodIdentity:
		for _, f := range [][2]string{{"roleARN", o.RoleARN}, {"tokenFile", o.TokenFile}} {
			if f[1] != "" {
				fail(f[0], "it is of use with authentication %s only", IRSA)
			}
		}
	default:
		fail("authentication", "%s is not one of %s%s", strict.Label(o.Authentication), strings.Join(ways, ", "), nearest.Hint(o.Authentication, ways))
	}
	if o.RoleARN != "" && !roleARN.MatchString(o.RoleARN) {
		fail("roleARN", "%s is no role, such as arn:aws:iam::111122223333:role/boltseal", strict.Label(o.RoleARN))
	}
	return problems
}

// Identity is who Boltseal is in AWS. It is safe for concurrent use.
type Identity struct {
	o      Options
	env    keys.Env
	client *http.Client
	agent  *http.Client // by no proxy
	kept   *keeper.Of[sdk.Credentials]
}

// New makes an Identity, and asks nobody. The environment is read when somebody signs in.
func New(o Options, env keys.Env) *Identity {
	env.Limits.AnswerBytes = MaxAnswer
	id := &Identity{o: o, env: env.Complete()}
	id.client, id.agent = id.env.Client(), id.env.Direct()
	id.kept = keeper.NewOf(keeper.OptionsOf[sdk.Credentials]{
		Fetch: id.fetch, Clock: id.env.Clock,
		Ends: func(c sdk.Credentials) time.Time { return c.Expires },
		Same: func(a, b sdk.Credentials) bool {
			return a.AccessKeyID == b.AccessKeyID && a.SessionToken == b.SessionToken
		},
		// A registry's credential and a provider's refresh wait between their attempts themselves.
		AskAgain: true,
	})
	return id
}

// Retryer tries once more where nobody answered. Whoever throttles is left alone: those who ask know how long to wait.
func Retryer() sdk.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.MaxBackoff, o.RateLimiter = attempts, retryDelay, ratelimit.None
		o.Retryables = []retry.IsErrorRetryable{retry.NoRetryCanceledError{}, retry.RetryableConnectionError{},
			retry.RetryableHTTPStatusCode{Codes: map[int]struct{}{http.StatusInternalServerError: {}, http.StatusBadGateway: {}, http.StatusGatewayTimeout: {}}}}
	})
}

// way is how the role is had; "" = nothing says. The machine's own role is not used: every Pod of the machine may have it.
func (id *Identity) way() string {
	switch {
	case id.o.Authentication != "":
		return id.o.Authentication
	case id.o.RoleARN != "" || id.o.TokenFile != "" || id.env.Getenv(envTokenFile) != "":
		return IRSA
	case id.env.Getenv(envAgent) != "":
		return PodIdentity
	case id.o.AccessKeys && id.env.Getenv(envKey) != "":
		return accessKey
	}
	return ""
}

func (id *Identity) role() string { return cmp.Or(id.o.RoleARN, id.env.Getenv(envRole)) }

func (id *Identity) tokenFile() string { return cmp.Or(id.o.TokenFile, id.env.Getenv(envTokenFile)) }

// Partition is where the identity is known, "" = nothing says.
func (id *Identity) Partition() string {
	switch id.way() {
	case accessKey: // nothing of it is shown, wherever it is used
		return ""
	case IRSA:
		if m := roleARN.FindStringSubmatch(id.role()); m != nil {
			return m[1]
		}
	}
	if r := id.env.Getenv(envRegion); IsRegion(r) {
		return PartitionOf(r)
	}
	return ""
}

// Session returns what signs requests to a region, and when that ends. It is kept, renewed ahead of its end, and the same
// for all regions where the environment says in which one the cluster is. Errors are [keys.Error], and hold no secret.
func (id *Identity) Session(ctx context.Context, region string) (sdk.Credentials, error) {
	switch own := id.Partition(); {
	case !IsRegion(region):
		return sdk.Credentials{}, lackingError(opSignIn, strict.Label(region)+" is no region", "")
	case own != "" && own != PartitionOf(region):
		return sdk.Credentials{}, lackingError(opSignIn, fmt.Sprintf("%s is in another partition of AWS (%s) than the role (%s)", region, PartitionOf(region), own), "name what is in the role's partition")
	case id.way() == accessKey:
		return id.environment()
	}
	c, err := id.kept.Get(ctx, id.key(region))
	if err != nil && ctx.Err() != nil { // whoever waits gives up before the identity does
		q := id.signer(region)
		return sdk.Credentials{}, keys.NoAnswer(q.Op, "", q.Host, ctx.Err())
	}
	return c, err
}

// signer is who is asked for a session.
func (id *Identity) signer(region string) Question {
	if id.way() == PodIdentity {
		at, err := agentURL(id.env.Getenv(envAgent))
		if err != nil {
			return Question{Op: opAgent}
		}
		return Question{Op: opAgent, Host: at.Host}
	}
	return Question{Op: opSignIn, Host: stsHost(cmp.Or(id.env.Getenv(envRegion), region))}
}

// Drop forgets the session for a region, which was refused there: the next one is asked for anew.
func (id *Identity) Drop(region string) { id.kept.Forget(id.key(region)) }

// key is all that a session is made of but the token in the file, which Kubernetes renews: who signs in, for which
// partition, and in which region.
func (id *Identity) key(region string) string {
	return strings.Join([]string{id.way(), id.role(), id.tokenFile(), id.env.Getenv(envAgent), id.env.Getenv(envAgentToken),
		PartitionOf(region), cmp.Or(id.env.Getenv(envRegion), region)}, "\x00")
}

// fetch gets a session for a key.
func (id *Identity) fetch(ctx context.Context, key string) (c sdk.Credentials, err error) {
	parts := strings.Split(key, "\x00")
	switch parts[0] {
	case IRSA:
		c, err = id.assume(ctx, parts[len(parts)-2], parts[len(parts)-1])
	case PodIdentity:
		c, err = id.ask(ctx)
	default:
		err = lackingError(opSignIn, "nothing says who signs in to AWS: neither $"+envTokenFile+" nor $"+envAgent+" is set", giveRole)
	}
	if err == nil && !id.env.Clock().Before(c.Expires) {
		c.Expires = time.Time{} // by our clock; whether it has ended, AWS's says
	}
	return c, err
}

// environment is the access key that the environment has.
func (id *Identity) environment() (sdk.Credentials, error) {
	c := sdk.Credentials{AccessKeyID: id.env.Getenv(envKey), SecretAccessKey: id.env.Getenv(envSecret), SessionToken: id.env.Getenv(envSession), Source: "environment"}
	if c.SecretAccessKey == "" {
		return sdk.Credentials{}, lackingError(opSignIn, "$"+envKey+" is set, and $"+envSecret+" is not", "set both, or give Boltseal's ServiceAccount a role")
	}
	return c, nil
}

// In is the identity as the SDK's clients of a region ask it.
func (id *Identity) In(region string) sdk.CredentialsProvider {
	return sdk.CredentialsProviderFunc(func(ctx context.Context) (sdk.Credentials, error) { return id.Session(ctx, region) })
}

func lackingError(op, detail, remedy string) error {
	return &keys.Error{Op: op, Err: boltseal.ErrConfiguration, Detail: detail, Remedy: remedy}
}

// agentURL reads where Pod Identity's agent is. It is taken from the environment, and the Pod's token goes nowhere else.
func agentURL(text string) (*url.URL, error) {
	to, err := url.Parse(text)
	if err != nil || to.Hostname() != "169.254.170.23" && to.Hostname() != "fd00:ec2::23" || to.Scheme != "http" || to.Port() != "" && to.Port() != "80" || to.User != nil || to.Opaque != "" {
		return nil, &keys.Error{Op: opAgent, Err: boltseal.ErrRefused, Detail: "$" + envAgent + " does not lead to EKS Pod Identity's agent, and gets no token", Remedy: "see what sets it"}
	}
	return to, nil
}
