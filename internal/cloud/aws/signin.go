package aws

import (
	"context"
	"errors"
	"net/http"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
)

const (
	opSignIn = "sign in to AWS"
	opAgent  = "sign in to AWS by EKS Pod Identity's agent"

	// sessionName is what AWS's audit log calls us.
	sessionName = "boltseal"

	giveRole = "give Boltseal's ServiceAccount a role: annotate it with eks.amazonaws.com/role-arn (IRSA), or associate it by EKS Pod Identity"
)

// IsSignIn reports whether it was signing in that failed.
func IsSignIn(err error) bool {
	var e *keys.Error
	return errors.As(err, &e) && (e.Op == opSignIn || e.Op == opAgent)
}

// assume shows the Pod's token to STS of a region. It is the cluster's region, whose STS answers within its network, and
// where nothing says which one that is, the region that is to be asked.
func (id *Identity) assume(ctx context.Context, partition, region string) (sdk.Credentials, error) {
	role, file := id.role(), id.tokenFile()
	switch {
	case file == "":
		return sdk.Credentials{}, lackingError(opSignIn, "tokenFile is not set, and neither is $"+envTokenFile, giveRole)
	case role == "":
		return sdk.Credentials{}, lackingError(opSignIn, "roleARN is not set, and neither is $"+envRole, giveRole)
	case !roleARN.MatchString(role):
		return sdk.Credentials{}, lackingError(opSignIn, "$"+envRole+" "+strict.Label(role)+" is no role", giveRole)
	case !IsRegion(region) || PartitionOf(region) != partition:
		return sdk.Credentials{}, lackingError(opSignIn, "$"+envRegion+" "+strict.Label(region)+" is no region of the role's partition", "see what sets it")
	}
	token, err := keys.ReadToken(opSignIn, file)
	if err != nil {
		return sdk.Credentials{}, err
	}
	host := stsHost(region)
	client := sts.New(sts.Options{Region: region, HTTPClient: id.client, Retryer: Retryer(), Credentials: sdk.AnonymousCredentials{}})
	got, err := stscreds.NewWebIdentityRoleProvider(client, role, podToken(token), func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = sessionName }).Retrieve(ctx)
	if err != nil {
		return sdk.Credentials{}, id.refused(ctx, Question{Op: opSignIn, Host: host}, err, "see that the role trusts this cluster's tokens (issuer, subject, audience sts.amazonaws.com)")
	}
	return got, checkSession(opSignIn, host, got)
}

// stsHost is where STS of a region is, "" where the SDK does not know it.
func stsHost(region string) string {
	e, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), sts.EndpointParameters{Region: &region})
	if err != nil {
		return ""
	}
	return e.URI.Host
}

// ask shows the Pod's token to Pod Identity's agent on this node.
func (id *Identity) ask(ctx context.Context) (sdk.Credentials, error) {
	uri, file := id.env.Getenv(envAgent), id.env.Getenv(envAgentToken)
	switch {
	case uri == "":
		return sdk.Credentials{}, lackingError(opAgent, "$"+envAgent+" is not set", "see that the add-on eks-pod-identity-agent runs, associate Boltseal's ServiceAccount, and start its Pods again")
	case file == "":
		return sdk.Credentials{}, lackingError(opAgent, "$"+envAgentToken+" is not set", "start Boltseal's Pods again: EKS Pod Identity sets it")
	}
	to, err := agentURL(uri)
	if err != nil {
		return sdk.Credentials{}, err
	}
	token, err := keys.ReadToken(opAgent, file)
	if err != nil {
		return sdk.Credentials{}, err
	}
	got, err := endpointcreds.New(to.String(), func(o *endpointcreds.Options) {
		o.HTTPClient, o.Retryer, o.AuthorizationToken = id.agent, Retryer(), token
	}).Retrieve(ctx)
	if err != nil {
		return sdk.Credentials{}, id.refused(ctx, Question{Op: opAgent, Host: to.Host}, err,
			"see that Boltseal's ServiceAccount has an association of EKS Pod Identity in this cluster, and that its role trusts pods.eks.amazonaws.com")
	}
	return got, checkSession(opAgent, to.Host, got)
}

// refused is the error of signing in: most refusals come as HTTP 400.
func (id *Identity) refused(ctx context.Context, q Question, err error, remedy string) error {
	e := id.Failure(ctx, q, err)
	if e.Status >= 300 && !errors.Is(e.Err, boltseal.ErrUnavailable) && !errors.Is(e.Err, boltseal.ErrRefused) {
		e.Err, e.Remedy = boltseal.ErrUnauthorized, ClockRemedy(e, remedy)
	}
	return e
}

// ClockRemedy is what to do about a refusal: another remedy than the given one where AWS says that the time is wrong.
func ClockRemedy(e *keys.Error, remedy string) string {
	for _, code := range []string{"InvalidSignature", "SignatureDoesNotMatch"} {
		if len(e.Detail) >= len(code) && e.Detail[:len(code)] == code {
			return "see that this machine's clock is right"
		}
	}
	return remedy
}

// podToken is a token that was read.
type podToken string

// GetIdentityToken implements stscreds.IdentityTokenRetriever.
func (t podToken) GetIdentityToken() ([]byte, error) { return []byte(t), nil }

// checkSession says whether a session can sign anything.
func checkSession(op, host string, c sdk.Credentials) error {
	if c.AccessKeyID == "" || c.SecretAccessKey == "" || c.SessionToken == "" {
		return &keys.Error{Op: op, Host: host, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: "its answer contains no session"}
	}
	return nil
}
