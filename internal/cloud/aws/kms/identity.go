package kms

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
)

// agents are where EKS Pod Identity's agent is on each node; its URI is taken from
// the environment, and a token goes nowhere else.
var agents = map[string]bool{"169.254.170.23": true, "fd00:ec2::23": true}

const sessionName = "boltseal"

// identity is who signs in, by what Kubernetes clusters of AWS tell a Pod: a role for
// the service account (IRSA), EKS Pod Identity, or an access key in the environment.
// The node's own role is not used: every Pod of the node may have it.
func identity(env keys.Env, region string) (aws.CredentialsProvider, error) {
	get := env.Getenv
	client := env.Client()
	switch {
	case get("AWS_WEB_IDENTITY_TOKEN_FILE") != "":
		role := get("AWS_ROLE_ARN")
		if role == "" {
			return nil, fmt.Errorf("%w: $AWS_WEB_IDENTITY_TOKEN_FILE is set, and $AWS_ROLE_ARN is not: annotate Boltseal's ServiceAccount with eks.amazonaws.com/role-arn", boltseal.ErrConfiguration)
		}
		c := sts.New(sts.Options{Region: region, HTTPClient: client, Retryer: aws.NopRetryer{}, Credentials: aws.AnonymousCredentials{}})
		return aws.NewCredentialsCache(stscreds.NewWebIdentityRoleProvider(c, role, stscreds.IdentityTokenFile(get("AWS_WEB_IDENTITY_TOKEN_FILE")),
			func(o *stscreds.WebIdentityRoleOptions) { o.RoleSessionName = sessionName })), nil
	case get("AWS_CONTAINER_CREDENTIALS_FULL_URI") != "":
		at, err := url.Parse(get("AWS_CONTAINER_CREDENTIALS_FULL_URI"))
		if err != nil || !agents[at.Hostname()] || at.Scheme != "http" || at.Port() != "" && at.Port() != "80" {
			return nil, fmt.Errorf("%w: $AWS_CONTAINER_CREDENTIALS_FULL_URI does not lead to EKS Pod Identity's agent, and gets no token", boltseal.ErrRefused)
		}
		file := get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
		return aws.NewCredentialsCache(endpointcreds.New(at.String(), func(o *endpointcreds.Options) {
			o.HTTPClient, o.Retryer = env.Direct(), aws.NopRetryer{}
			o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
				b, err := os.ReadFile(file)
				return strings.TrimSpace(string(b)), err
			})
		})), nil
	case get("AWS_ACCESS_KEY_ID") != "":
		return credentials.NewStaticCredentialsProvider(get("AWS_ACCESS_KEY_ID"), get("AWS_SECRET_ACCESS_KEY"), get("AWS_SESSION_TOKEN")), nil
	}
	return nil, fmt.Errorf("%w: nothing says who signs in to AWS: give Boltseal's ServiceAccount a role (IRSA) or an association of EKS Pod Identity", boltseal.ErrConfiguration)
}
