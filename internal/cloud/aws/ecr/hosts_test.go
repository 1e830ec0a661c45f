package ecr_test

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/cloud/aws/ecr"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// TestHosts: each form of a registry's host has the API of its own region asked, and
// that only.
func TestHosts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ host, region, api string }{
		{host, region, api},
		{second, region, api},
		{owner + ".dkr.ecr.us-east-2.amazonaws.com", "us-east-2", "api.ecr.us-east-2.amazonaws.com"},
		{owner + ".dkr.ecr.ap-southeast-5.amazonaws.com", "ap-southeast-5", "api.ecr.ap-southeast-5.amazonaws.com"},
		{owner + ".dkr.ecr-fips.us-east-2.amazonaws.com", "us-east-2", "api.ecr-fips.us-east-2.amazonaws.com"},
		{owner + ".dkr-ecr.us-east-2.on.aws", "us-east-2", "ecr.us-east-2.api.aws"},
		{owner + ".dkr-ecr-fips.us-east-2.on.aws", "us-east-2", "ecr-fips.us-east-2.api.aws"},
	} {
		t.Run(c.host, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			if c.region != region {
				h.aws.ECR(c.region).Allow(role)
			}
			if _, err := h.get(t, h.source(t, ecr.Options{}), c.host); err != nil {
				t.Fatal(err)
			}
			if h.asked(c.api) != 1 || h.asked(stsHost) != 1 || h.asked("") != 2 {
				t.Errorf("%+v", h.Requests(""))
			}
		})
	}
}

// TestPartitions: a role is shown in its own partition only.
func TestPartitions(t *testing.T) {
	t.Parallel()
	const china, gov = owner + ".dkr.ecr.cn-north-1.amazonaws.com.cn", owner + ".dkr.ecr.us-gov-west-1.amazonaws.com"
	for _, c := range []struct{ role, region, own string }{
		{role, region, host},
		{strings.Replace(role, "arn:aws:", "arn:aws-cn:", 1), "cn-north-1", china},
		{strings.Replace(role, "arn:aws:", "arn:aws-us-gov:", 1), "us-gov-west-1", gov},
	} {
		h := newHouse(t)
		h.aws.Trust(c.role, subject)
		h.aws.Associate(subject, c.role)
		h.aws.STS(c.region)
		h.aws.ECR(c.region).Allow(c.role)
		for _, way := range []string{aws.IRSA, aws.PodIdentity} {
			if way == aws.IRSA {
				h.put("AWS_ROLE_ARN", c.role)
			} else {
				h.pod(t, testcloud.Claims{}, agent)
			}
			h.put("AWS_REGION", c.region)
			before := h.asked("")
			s := h.source(t, ecr.Options{})
			for _, at := range []string{host, china, gov} {
				if at == c.own {
					continue
				}
				if _, err := h.get(t, s, at); !errors.Is(err, credential.ErrNotForHost) || !strings.Contains(err.Error(), "partition") {
					t.Errorf("%s for %s: %v", c.role, at, err)
				}
			}
			if n := h.asked(""); n != before {
				t.Errorf("%d requests", n-before)
			}
			if _, err := h.get(t, s, c.own); err != nil {
				t.Errorf("%s: %v", way, err)
			}
		}
	}
}

// lookalikes are no registries of Amazon ECR that the role is for.
func lookalikes() []string {
	return []string{
		host + ".evil.example", host + ".", "." + host, host + ":443", host + ":", host + "/x", "evil.example/" + host, "user@" + host, "user:password@" + host, "https://" + host,
		"EVIL" + host, "evil" + host, "evil." + host, "x-" + host, "0" + host, host[1:], strings.ToUpper(host), owner + ".DKR.ecr." + region + ".amazonaws.com",
		owner + ".dkr.ecr." + region + ".amazonaws.com.evil.example", owner + ".dkr.ecr." + region + ".amazonaws.co", owner + ".dkr.ecr." + region + ".amazonaws.comx",
		owner + ".dkr.ecr." + region + ".evilamazonaws.com", owner + ".dkr.ecr." + region + ".amazonaws-com.example", owner + ".dkr.ecr." + region + "-amazonaws.com",
		owner + ".dkr.ecr." + region + ".amazonaws.com.cn", owner + ".dkr.ecr.cn-north-1.amazonaws.com", owner + ".dkr.ecr." + region + ".amazonaws.com.cn.evil.example",
		owner + ".dkr.ecr.amazonaws.com", owner + ".dkr.ecr..amazonaws.com", owner + ".dkr.ecr.evil.example.amazonaws.com", owner + ".dkr.ecr.evil.amazonaws.com",
		owner + ".dkr.ecr.us-iso-east-1.amazonaws.com", owner + ".dkr.ecr.eusc-de-east-1.amazonaws.com", owner + ".dkr.ecr.us-isob-east-1.sc2s.sgov.gov", owner + ".dkr.ecr.aws-global.amazonaws.com",
		owner + ".dkr-ecr." + region + ".on.aws.evil.example", owner + ".dkr-ecr." + region + ".on.evilaws", owner + ".dkr-ecr." + region + ".amazonaws.com", owner + ".dkr.ecr." + region + ".on.aws",
		owner + ".dkr-ecr." + region + ".lambda-url.on.aws", owner + ".lambda-url." + region + ".on.aws", owner + ".dkr-ecr.cn-north-1.on.aws", owner + ".dkr_ecr." + region + ".on.aws",
		owner + ".ecr.dkr." + region + ".amazonaws.com", owner + ".dkr.ecr-fipsx." + region + ".amazonaws.com", owner + ".dkr.ecr-." + region + ".amazonaws.com",
		"1111222233334.dkr.ecr." + region + ".amazonaws.com", "11112222333.dkr.ecr." + region + ".amazonaws.com", "１１１１２２２２３３３３.dkr.ecr." + region + ".amazonaws.com", "bucket.s3." + region + ".amazonaws.com",
		owner + ".dkr.ecr." + region + ".аmazonaws.com", owner + ".dkr.ecr." + region + ".xn--mazonaws-7fg.com", owner + ".dkr.ecr." + region + ".amazonaws。com", "xn--" + host,
		host + "\n", host + "\x00", " " + host, host + "%2eevil.example", host + "#", host + "?", host + "\\.evil.example", owner + ".dkr.ecr." + region + "\n.amazonaws.com",
		"public.ecr.aws", api, stsHost, "amazonaws.com", "on.aws", "docker.io", "localhost", "127.0.0.1", "169.254.170.23", "169.254.169.254", "[fd00:ec2::23]", "",
	}
}

// TestLookalikes: nobody is asked for anything for a host that is not a registry of
// Amazon ECR, nor for one that is not meant.
func TestLookalikes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for _, at := range lookalikes() {
		if !slices.Contains([]string{api, stsHost, testcloud.PodIdentityAgent}, at) {
			h.Serve(at, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked", r.Host) }))
		}
	}
	for _, o := range []ecr.Options{{}, {Endpoints: []string{"*.dkr.ecr." + region + ".amazonaws.com"}}, {Accounts: []string{owner}}, {Identity: aws.Options{Authentication: aws.PodIdentity}}} {
		s := h.source(t, o)
		for _, at := range lookalikes() {
			if _, err := h.get(t, s, at); !errors.Is(err, credential.ErrNotForHost) {
				t.Errorf("%q: %v", at, err)
			}
		}
	}
	// Endpoints and accounts narrow.
	for _, o := range []ecr.Options{{Endpoints: []string{second}}, {Endpoints: []string{"*.dkr.ecr.eu-west-1.amazonaws.com"}}, {Endpoints: []string{"*.dkr-ecr." + region + ".on.aws"}},
		{Accounts: []string{other}}, {Endpoints: []string{host}, Accounts: []string{other}}} {
		if _, err := h.get(t, h.source(t, o), host); !errors.Is(err, credential.ErrNotForHost) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if n := h.asked(""); n != 0 {
		t.Errorf("%d requests", n)
	}
	for _, o := range []ecr.Options{{Endpoints: []string{"*.dkr.ecr." + region + ".amazonaws.com"}}, {Endpoints: []string{host}, Accounts: []string{other, owner}}} {
		if _, err := h.get(t, h.source(t, o), host); err != nil {
			t.Error(err)
		}
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		o     ecr.Options
		field string
	}{
		{ecr.Options{}, ""},
		{ecr.Options{Endpoints: []string{host, "*.dkr.ecr.cn-north-1.amazonaws.com.cn", "*.dkr-ecr." + region + ".on.aws"}, Accounts: []string{owner}, Identity: aws.Options{Authentication: aws.IRSA, RoleARN: role, TokenFile: "/token"}}, ""},
		{ecr.Options{Identity: aws.Options{Authentication: aws.PodIdentity}}, ""},
		{ecr.Options{Identity: aws.Options{Authentication: "isra"}}, "authentication"},
		{ecr.Options{Identity: aws.Options{Authentication: aws.PodIdentity, RoleARN: role}}, "roleARN"},
		{ecr.Options{Identity: aws.Options{Authentication: aws.PodIdentity, TokenFile: "/token"}}, "tokenFile"},
		{ecr.Options{Identity: aws.Options{RoleARN: "boltseal"}}, "roleARN"},
		{ecr.Options{Identity: aws.Options{RoleARN: "arn:aws:iam::1:role/boltseal"}}, "roleARN"},
		{ecr.Options{Accounts: []string{owner, "acme"}}, "accounts[1]"},
		{ecr.Options{Accounts: []string{"1111-2222-3333"}}, "accounts[0]"},
		{ecr.Options{Accounts: make([]string, 1000)}, "accounts"},
		{ecr.Options{Endpoints: []string{"*"}}, "endpoints[0]"},
		{ecr.Options{Endpoints: []string{host, "*.amazonaws.com"}}, "endpoints[1]"},
		{ecr.Options{Endpoints: []string{"*.evil.example"}}, "endpoints[0]"},
		{ecr.Options{Endpoints: []string{"public.ecr.aws"}}, "endpoints[0]"},
		{ecr.Options{Endpoints: []string{"https://" + host}}, "endpoints[0]"},
	} {
		_, err := ecr.New(c.o)
		ps := c.o.Check()
		if c.field == "" && (err != nil || len(ps) > 0) || c.field != "" && (!errors.Is(err, boltseal.ErrConfiguration) || len(ps) != 1 || ps[0].Field != c.field) {
			t.Errorf("%+v: %v, %+v", c.o, err, ps)
		}
	}
}
