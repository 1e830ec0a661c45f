package kms

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/acmpca"
	catypes "github.com/aws/aws-sdk-go-v2/service/acmpca/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

// keyOfNoUse says why keys are listed and not used.
const keyOfNoUse = "no verifier here trusts a bare key: provide the CA that issued the key's certificate, by certificateAuthorities or another provider"

type provider struct {
	p               Parameters
	region          string
	who             *aws.Identity
	kms             *kms.Client
	ca              *acmpca.Client
	keyHost, caHost string
}

// Open makes the provider.
func (p Parameters) Open(env keys.Env, _ string) (keys.Provider, error) {
	env = env.Complete()
	region := cmp.Or(p.Region, env.Getenv("AWS_REGION"))
	if !aws.IsRegion(region) {
		return nil, fmt.Errorf("%w: which region is it? set region", boltseal.ErrConfiguration)
	}
	// What is fetched tells nobody anything, so that an access key may do.
	v := &provider{p: p, region: region, who: aws.New(aws.Options{AccessKeys: true}, env)}
	// One attempt each: the refresher knows how long to leave AWS alone.
	client, once, who := env.Client(), sdk.NopRetryer{}, v.who.In(region)
	v.kms = kms.New(kms.Options{Region: region, Credentials: who, HTTPClient: client, Retryer: once})
	v.ca = acmpca.New(acmpca.Options{Region: region, Credentials: who, HTTPClient: client, Retryer: once})
	ctx := context.Background()
	if at, err := kms.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, kms.EndpointParameters{Region: &region}); err == nil {
		v.keyHost = at.URI.Host
	}
	if at, err := acmpca.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, acmpca.EndpointParameters{Region: &region}); err == nil {
		v.caHost = at.URI.Host
	}
	return v, nil
}

// Fetch asks for everything.
func (v *provider) Fetch(ctx context.Context) ([]keys.Group, error) {
	var groups []keys.Group
	var gone error // set once there is no point in asking on
	add := func(name, host string, fetch func() ([]keys.Item, error)) {
		g := keys.Group{Name: name, Err: gone}
		if gone == nil {
			g = group(name, host, fetch)
		}
		var e *keys.Error
		if gone == nil && errors.As(g.Err, &e) {
			if _, busy := keys.Throttled(e); busy || e.Status == 0 || aws.IsSignIn(e) {
				gone = g.Err
			}
		}
		groups = append(groups, g)
	}
	for _, a := range v.p.CertificateAuthorities {
		add(short(a.ARN), v.caHost, func() ([]keys.Item, error) { return v.authority(ctx, a.ARN) })
	}
	for _, k := range v.p.Keys {
		add("key "+short(k.Name), v.keyHost, func() ([]keys.Item, error) { return v.key(ctx, k.Name) })
	}
	return groups, nil
}

// group says what is wrong where nothing of an entry is in use.
func group(name, host string, fetch func() ([]keys.Item, error)) keys.Group {
	g := keys.Group{Name: name}
	var err error
	switch g.Items, err = fetch(); {
	case notFound(err):
		g.Items = []keys.Item{{Name: name, Use: keys.Missing, Why: "it is not there"}}
	case err != nil:
		g.Err, g.Items = err, nil
		return g
	}
	if !slices.ContainsFunc(g.Items, func(it keys.Item) bool { return it.Use == keys.InUse }) {
		g.Problem = fmt.Sprintf("%s at %s: %s", name, host, g.Items[0].Why)
	}
	return g
}

// authority reads an authority's certificate and its chain.
func (v *provider) authority(ctx context.Context, arn string) ([]keys.Item, error) {
	const op = "get authority"
	one := func(use keys.Use, why string) []keys.Item {
		return []keys.Item{{Name: short(arn), Use: use, Why: why}}
	}
	told, err := v.ca.DescribeCertificateAuthority(ctx, &acmpca.DescribeCertificateAuthorityInput{CertificateAuthorityArn: &arn})
	if err != nil {
		return nil, v.wrap(ctx, op, short(arn), v.caHost, err)
	}
	if told.CertificateAuthority == nil {
		return nil, v.garbled(op, arn, v.caHost)
	}
	switch s := told.CertificateAuthority.Status; s {
	case catypes.CertificateAuthorityStatusActive, catypes.CertificateAuthorityStatusExpired:
	default: // disabled, deleted, failed, or without a certificate yet
		return one(keys.Disabled, "the authority is "+keys.Clean(strings.ToLower(string(s)))), nil
	}
	got, err := v.ca.GetCertificateAuthorityCertificate(ctx, &acmpca.GetCertificateAuthorityCertificateInput{CertificateAuthorityArn: &arn})
	if err != nil {
		return nil, v.wrap(ctx, "get certificate of authority", short(arn), v.caHost, err)
	}
	certs, err := trust.ParseCertificates([]byte(sdk.ToString(got.Certificate) + "\n" + sdk.ToString(got.CertificateChain)))
	if err != nil {
		return one(keys.Unusable, keys.Clean(strings.TrimPrefix(err.Error(), "configuration: "))), nil
	}
	items, _ := keys.Each(short(arn), "", certs)
	return items, nil
}

// key reads a public key.
func (v *provider) key(ctx context.Context, name string) ([]keys.Item, error) {
	told, err := v.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &name})
	if err != nil {
		return nil, v.wrap(ctx, "describe key", short(name), v.keyHost, err)
	}
	m := told.KeyMetadata
	if m == nil {
		return nil, v.garbled("describe key", name, v.keyHost)
	}
	it := keys.Item{Name: short(name), Version: keys.Clean(sdk.ToString(m.KeyId)), Use: keys.Disabled, Created: sdk.ToTime(m.CreationDate).UTC()}
	switch m.KeyState {
	case kmstypes.KeyStateEnabled, kmstypes.KeyStateUpdating:
	case kmstypes.KeyStateDisabled:
		it.Why = "the key is disabled"
	case kmstypes.KeyStatePendingDeletion, kmstypes.KeyStatePendingReplicaDeletion:
		it.Why = "the key is about to be deleted"
		if m.DeletionDate != nil {
			it.Why += " on " + m.DeletionDate.UTC().Format(time.DateOnly)
		}
	default:
		it.Why = "the key's state is " + keys.Clean(string(m.KeyState))
	}
	if it.Why != "" {
		return []keys.Item{it}, nil
	}
	it.Use = keys.Unusable
	if m.KeyUsage != kmstypes.KeyUsageTypeSignVerify {
		it.Why = "the key is not for signing, its usage is " + keys.Clean(string(m.KeyUsage))
		return []keys.Item{it}, nil
	}
	// By the identifier: the alias may lead elsewhere by now.
	got, err := v.kms.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: cmp.Or(m.Arn, m.KeyId, &name)})
	if err != nil {
		return nil, v.wrap(ctx, "get public key", short(name), v.keyHost, err)
	}
	it.Why = keyOfNoUse
	if it.Key, err = x509.ParsePKIXPublicKey(got.PublicKey); err != nil {
		it.Why = "what AWS KMS shows is no public key that is known here"
	}
	return []keys.Item{it}, nil
}

func (v *provider) garbled(op, target, host string) error {
	return &keys.Error{Op: op, Target: short(target), Host: host, Status: http.StatusOK, Err: boltseal.ErrMalformed, Detail: "it answers with something else than what was asked for"}
}
