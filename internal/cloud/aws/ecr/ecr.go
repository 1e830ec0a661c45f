package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

const (
	opAuthorize = "get an authorization token of Amazon ECR"
	// user is the one that all registries have.
	user = "AWS"
	// maxPassword bounds a password, in bytes: it goes into a header each time.
	maxPassword = 32 << 10
	maxData     = 16 // tokens in one answer
)

// authorize asks the API of the registry's region. Endpoints of the environment and
// of AWS's configuration files are not heeded.
func (s *Source) authorize(ctx context.Context, at place, who sdk.Credentials) (oci.Credential, error) {
	o := ecr.Options{Region: at.region, HTTPClient: s.client, Retryer: aws.Retryer(),
		Credentials: credentials.NewStaticCredentialsProvider(who.AccessKeyID, who.SecretAccessKey, who.SessionToken)}
	if at.fips {
		o.EndpointOptions.UseFIPSEndpoint = sdk.FIPSEndpointStateEnabled
	}
	if at.dual {
		o.EndpointOptions.UseDualStackEndpoint = sdk.DualStackEndpointStateEnabled
	}
	host := apiHost(ctx, at)
	//lint:ignore SA1019 named although it changes no right: so the answer says whose registry it is for
	in := &ecr.GetAuthorizationTokenInput{RegistryIds: []string{at.account}}
	out, err := ecr.New(o).GetAuthorizationToken(ctx, in)
	if err != nil {
		return oci.Credential{}, s.refused(ctx, host, err)
	}
	c, odd := choose(at, out.AuthorizationData)
	if odd != nil {
		odd.Host = host
		return oci.Credential{}, odd
	}
	return c, nil
}

// refused is what an error of the API means: most refusals come as HTTP 400.
func (s *Source) refused(ctx context.Context, host string, err error) error {
	e := s.who.Failure(ctx, aws.Question{Op: opAuthorize, Host: host}, err)
	if e.Status < 400 || errors.Is(e.Err, boltseal.ErrUnavailable) {
		return e
	}
	e.Err, e.Remedy = boltseal.ErrUnauthorized, aws.ClockRemedy(e, "let Boltseal's role do ecr:GetAuthorizationToken, ecr:BatchGetImage and ecr:GetDownloadUrlForLayer; a registry that is not yours can be left out by endpoints or accounts")
	if strings.HasPrefix(e.Detail, "ExpiredToken") {
		e.Remedy = "see that this machine's clock is right"
	}
	return e
}

// apiHost is where the API of a registry's region is.
func apiHost(ctx context.Context, at place) string {
	e, err := ecr.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, ecr.EndpointParameters{Region: &at.region, UseFIPS: &at.fips, UseDualStack: &at.dual})
	if err != nil {
		return ""
	}
	return e.URI.Host
}

// strange is the error of an answer that is not what it should be.
func strange(is error, detail string) *keys.Error {
	return &keys.Error{Op: opAuthorize, Status: http.StatusOK, Err: is, Detail: detail}
}

// choose finds the credential for a registry in an answer. Errors hold nothing of it.
func choose(at place, data []types.AuthorizationData) (oci.Credential, *keys.Error) {
	switch {
	case len(data) == 0:
		return oci.Credential{}, strange(boltseal.ErrMalformed, "its answer contains no authorizationData")
	case len(data) > maxData:
		return oci.Credential{}, strange(boltseal.ErrLimit, fmt.Sprintf("its answer contains more than %d tokens", maxData))
	}
	for _, d := range data {
		if of(sdk.ToString(d.ProxyEndpoint), at) {
			return read(sdk.ToString(d.AuthorizationToken), d.ExpiresAt)
		}
	}
	return oci.Credential{}, strange(boltseal.ErrRefused, "its answer is for another registry")
}

// of reports whether a proxyEndpoint is the registry that was asked for. It may be in
// another of the forms that the host of one registry has.
func of(endpoint string, at place) bool {
	host, secure := strings.CutPrefix(endpoint, "https://")
	is, ok := parseHost(host)
	return secure && ok && is.account == at.account && is.region == at.region
}

// read takes a token apart: user and password, in base64.
func read(token string, ends *time.Time) (oci.Credential, *keys.Error) {
	b, err := base64.StdEncoding.DecodeString(token)
	name, password, ok := strings.Cut(string(b), ":")
	switch {
	case token == "":
		return oci.Credential{}, strange(boltseal.ErrMalformed, "its answer contains no authorizationToken")
	case err != nil || !ok || name != user || password == "":
		return oci.Credential{}, strange(boltseal.ErrMalformed, "its token is not that of the user "+user)
	case len(password) > maxPassword:
		return oci.Credential{}, strange(boltseal.ErrLimit, fmt.Sprintf("its token is longer than %d bytes", maxPassword))
	case strings.ContainsFunc(password, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return oci.Credential{}, strange(boltseal.ErrMalformed, "its token contains what no password has")
	case ends == nil || ends.Year() < 1970 || ends.Year() > 9999:
		return oci.Credential{}, strange(boltseal.ErrMalformed, "its token does not say when it ends")
	}
	return oci.Credential{Username: name, Password: password, Expires: *ends}, nil
}
