package alibaba

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
)

const (
	metadata = "100.100.100.200" // where a machine asks who it is
	// metadataToken is how long a token of the metadata service is asked for.
	metadataToken = "60" // seconds
	sessionLife   = "3600"
	sessionName   = "boltseal"
	rootRegion    = "" // of services that are in none
)

// service is the host of a service in a region.
func (s *Source) service(name, in string) string {
	if in == rootRegion {
		return name + suffix
	}
	if strings.EqualFold(s.env.Getenv(envVPC), "true") {
		name += "-vpc"
	}
	return name + "." + in + suffix
}

// assume takes on the ServiceAccount's role (sts 2015-04-01, AssumeRoleWithOIDC).
func (s *Source) assume(ctx context.Context) (session, error) {
	fail := func(detail, remedy string) (session, error) {
		return session{}, &keys.Error{Op: opAssume, Err: boltseal.ErrConfiguration, Detail: detail, Remedy: remedy}
	}
	const webhook = "annotate Boltseal's ServiceAccount with pod-identity.alibabacloud.com/role-name, label its namespace pod-identity.alibabacloud.com/injection: \"on\", and see that RRSA is enabled and ack-pod-identity-webhook runs"
	role, provider := cmp.Or(s.o.RoleARN, s.env.Getenv(envRole)), cmp.Or(s.o.OIDCProviderARN, s.env.Getenv(envProvider))
	file, in := cmp.Or(s.o.TokenFile, s.env.Getenv(envTokenFile)), s.env.Getenv(envRegion)
	switch {
	case role == "":
		return fail("roleARN is not set, and neither is $"+envRole, webhook)
	case provider == "":
		return fail("oidcProviderARN is not set, and neither is $"+envProvider, webhook)
	case file == "":
		return fail("tokenFile is not set, and neither is $"+envTokenFile, webhook)
	case in != "" && !region.MatchString(in):
		return fail("$"+envRegion+" is no region", "")
	}
	token, err := keys.ReadToken(opAssume, file)
	if err != nil {
		return session{}, err
	}
	u := url.URL{Scheme: "https", Host: s.service("sts", in), Path: "/", RawQuery: url.Values{"Action": {"AssumeRoleWithOIDC"}, "Version": {"2015-04-01"}, "Format": {"JSON"},
		"Timestamp": {s.env.Clock().UTC().Format(timeForm)}}.Encode()}
	form := url.Values{"RoleArn": {role}, "OIDCProviderArn": {provider}, "OIDCToken": {token}, "RoleSessionName": {sessionName}, "DurationSeconds": {sessionLife}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return fail("the request cannot be made", "")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	b, err := s.do(s.client, req, opAssume, "see that the role is right and trusts this cluster's OIDC provider for system:serviceaccount:NAMESPACE:NAME of Boltseal, audience sts.aliyuncs.com")
	if err != nil {
		return session{}, err
	}
	var doc struct{ Credentials key }
	if json.Unmarshal(b, &doc) != nil {
		return session{}, &keys.Error{Op: opAssume, Host: u.Host, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: errShape.Error()}
	}
	return doc.Credentials.session(opAssume, u.Host)
}

// key is a temporary key as STS and the metadata service write it.
type key struct {
	AccessKeyID     string `json:"AccessKeyId"`
	AccessKeySecret string
	SecurityToken   string
	Expiration      string
}

func (k key) session(op, host string) (session, error) {
	end, err := time.Parse(timeForm, k.Expiration)
	detail := ""
	switch {
	case k.AccessKeyID == "" || k.AccessKeySecret == "" || k.SecurityToken == "":
		detail = "its answer contains no key"
	case strings.ContainsAny(k.AccessKeyID+k.SecurityToken, "\r\n\x00"), len(k.AccessKeyID) > maxPart, len(k.AccessKeySecret) > maxPart, len(k.SecurityToken) > maxPart:
		detail = "its key cannot be used"
	case err != nil:
		detail = "its answer does not say when the key ends"
	}
	if detail != "" {
		return session{}, &keys.Error{Op: op, Host: host, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: detail}
	}
	return session{k.AccessKeyID, k.AccessKeySecret, k.SecurityToken, end}, nil
}

// machine takes on the machine's role (ECS, instance metadata in its hardened mode:
// whoever asks must first get a token, which a request that was smuggled in cannot).
func (s *Source) machine(ctx context.Context) (session, error) {
	const remedy = "see that the cluster's machines have a RAM role, and that Pods may reach their metadata"
	ask := func(method, path string, header, value string) (string, error) {
		req, err := http.NewRequestWithContext(ctx, method, "http://"+metadata+path, nil)
		if err != nil {
			return "", &keys.Error{Op: opMachine, Host: metadata, Err: boltseal.ErrConfiguration}
		}
		req.Header.Set(header, value)
		b, err := s.do(s.near, req, opMachine, remedy)
		return strings.TrimSpace(string(b)), err
	}
	bad := func(detail string) (session, error) {
		return session{}, &keys.Error{Op: opMachine, Host: metadata, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: detail}
	}
	token, err := ask(http.MethodPut, "/latest/api/token", "X-aliyun-ecs-metadata-token-ttl-seconds", metadataToken)
	if err != nil {
		return session{}, err
	}
	if token == "" || len(token) > maxPart || strings.ContainsAny(token, "\r\n\x00") {
		return bad("its token cannot be used")
	}
	const list, header = "/latest/meta-data/ram/security-credentials/", "X-aliyun-ecs-metadata-token"
	role := s.o.RoleName
	if role == "" {
		if role, err = ask(http.MethodGet, list, header, token); err != nil {
			return session{}, err
		}
		if !roleName.MatchString(role) {
			return bad("it names no role")
		}
	}
	text, err := ask(http.MethodGet, list+role, header, token)
	if err != nil {
		return session{}, err
	}
	var doc struct {
		Code string
		key
	}
	if json.Unmarshal([]byte(text), &doc) != nil {
		return bad(errShape.Error())
	}
	if doc.Code != "Success" {
		return bad("it says that it failed: " + keys.Clean(doc.Code))
	}
	return doc.session(opMachine, metadata)
}
