package kms

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/gcp"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

const (
	// keyOfNoUse says why keys are listed and not used.
	keyOfNoUse = "no verifier here trusts a bare key: provide the CA that issued the key's certificate, by certificateAuthorities or another provider"
	// maxShown is how many versions that are not in use are told of.
	maxShown = 5
	// maxPoolBytes bounds the certificates of a pool's authorities together, which are
	// held until the last page has come.
	maxPoolBytes = 4 << 20
)

type provider struct {
	p Parameters
	c *client
}

// Open makes the provider.
func (p Parameters) Open(env keys.Env, _ string) (keys.Provider, error) {
	env = env.Complete()
	c := &client{http: env.Client(), clock: env.Clock, who: gcp.New(gcp.Options{}, env)}
	return &provider{p, c}, nil
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
			if _, busy := keys.Throttled(e); busy || e.Status == 0 || e.Op == gcp.Op {
				gone = g.Err
			}
		}
		groups = append(groups, g)
	}
	for _, a := range v.p.CertificateAuthorities {
		if poolName.MatchString(a.Name) {
			add("pool "+a.Name, caHost, func() ([]keys.Item, error) { return v.pool(ctx, a.Name) })
		} else {
			add("authority "+a.Name, caHost, func() ([]keys.Item, error) { return v.authority(ctx, a.Name) })
		}
	}
	for _, k := range v.p.Keys {
		name := "key " + k.Name
		if k.Version != "" {
			name += ", version " + k.Version
		}
		add(name, kmsHost, func() ([]keys.Item, error) { return v.key(ctx, k) })
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
	case len(g.Items) == 0:
		g.Items = []keys.Item{{Name: name, Use: keys.Missing, Why: "there is nothing in it"}}
	}
	if !slices.ContainsFunc(g.Items, func(it keys.Item) bool { return it.Use == keys.InUse }) {
		g.Problem = fmt.Sprintf("%s at %s: %s", name, host, g.Items[0].Why)
	}
	return g
}

// caReply is a CertificateAuthority (Certificate Authority Service, REST v1).
type caReply struct {
	Name  string   `json:"name"`
	State string   `json:"state"`
	PEM   []string `json:"pemCaCertificates"` // its own first
}

func (v *provider) pool(ctx context.Context, name string) (items []keys.Item, err error) {
	type page struct {
		Authorities []caReply `json:"certificateAuthorities"`
		Next        string    `json:"nextPageToken"`
		Unreachable []string  `json:"unreachable"`
	}
	const op = "list authorities of pool"
	var all []caReply
	part, size := false, 0
	err = list(ctx, v.c, op, short(name), caHost, name+"/certificateAuthorities", func(p page) (int, string) {
		for _, ca := range p.Authorities {
			for _, text := range ca.PEM {
				size += len(text)
			}
		}
		if size > maxPoolBytes {
			return 0, "" // there is no point in asking on
		}
		all = append(all, p.Authorities...)
		part = part || len(p.Unreachable) > 0
		return len(all), p.Next
	})
	if err == nil && size > maxPoolBytes {
		err = &keys.Error{Op: op, Target: short(name), Host: caHost, Err: boltseal.ErrLimit, Detail: fmt.Sprintf("its certificates have more than %d bytes", maxPoolBytes), Remedy: "name single authorities"}
	}
	if err == nil && part { // what cannot be reached is not what is not there
		err = &keys.Error{Op: op, Target: short(name), Host: caHost, Err: boltseal.ErrUnavailable, Detail: "a part of its answer is missing: places cannot be reached"}
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b caReply) int { return strings.Compare(a.Name, b.Name) })
	for _, ca := range all {
		if !strings.HasPrefix(ca.Name, "projects/") || !strings.Contains(ca.Name, "/caPools/"+short(name)+"/certificateAuthorities/") {
			return nil, garbled(op, short(name), caHost, "it answers with authorities of another pool")
		}
		items = append(items, ca.items()...)
	}
	return items, nil
}

func (v *provider) authority(ctx context.Context, name string) ([]keys.Item, error) {
	const op = "get authority"
	var ca caReply
	if err := v.c.get(ctx, op, short(name), caHost, name, nil, &ca); err != nil {
		return nil, err
	}
	if short(ca.Name) != short(name) {
		return nil, garbled(op, short(name), caHost, "it answers with another authority")
	}
	return ca.items(), nil
}

// items are an authority's certificate and its chain. One that is disabled issues
// nothing any more and stays a trust anchor of its pool: so it is documented, and so
// it is here.
func (ca caReply) items() []keys.Item {
	name := keys.Clean(short(ca.Name))
	one := func(use keys.Use, why string) []keys.Item { return []keys.Item{{Name: name, Use: use, Why: why}} }
	why := ""
	switch ca.State {
	case "ENABLED", "STAGED":
	case "DISABLED":
		why = "it is disabled: it issues no certificates, and what it has issued stays trusted until it is deleted"
	case "DELETED":
		return one(keys.Disabled, "it is deleted")
	case "AWAITING_USER_ACTIVATION":
		return one(keys.Disabled, "it awaits its activation")
	default:
		return one(keys.Disabled, "its state is "+keys.Clean(ca.State))
	}
	certs, err := trust.ParseCertificates([]byte(strings.Join(ca.PEM, "\n")))
	if err != nil {
		return one(keys.Unusable, keys.Clean(strings.TrimPrefix(err.Error(), "configuration: ")))
	}
	items, _ := keys.Each(name, "", certs)
	for i := range items {
		items[i].Why = cmp.Or(items[i].Why, why)
	}
	return items
}

// versionReply is a CryptoKeyVersion (Cloud KMS, REST v1).
type versionReply struct {
	Name        string    `json:"name"`
	State       string    `json:"state"`
	Algorithm   string    `json:"algorithm"`
	Created     time.Time `json:"createTime"`
	DestroyTime time.Time `json:"destroyTime"`
}

// number is the version's; 0 = none is named.
func (r versionReply) number() int {
	n, err := strconv.Atoi(short(r.Name))
	if err != nil {
		return 0
	}
	return n
}

// key fetches the versions of one key that are wanted.
func (v *provider) key(ctx context.Context, k Key) (items []keys.Item, err error) {
	if k.Version != "" {
		const op = "get version of key"
		var r versionReply
		target := short(k.Name) + "/" + k.Version
		if err := v.c.get(ctx, op, target, kmsHost, k.Name+"/cryptoKeyVersions/"+k.Version, nil, &r); err != nil {
			return nil, err
		}
		if short(r.Name) != k.Version {
			return nil, garbled(op, target, kmsHost, "it answers with another version")
		}
		it, err := v.version(ctx, k, r)
		return []keys.Item{it}, err
	}
	type page struct {
		Versions []versionReply `json:"cryptoKeyVersions"`
		Next     string         `json:"nextPageToken"`
	}
	const op = "list versions of key"
	var all []versionReply
	if err := list(ctx, v.c, op, short(k.Name), kmsHost, k.Name+"/cryptoKeyVersions", func(p page) (int, string) {
		all = append(all, p.Versions...)
		return len(all), p.Next
	}); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b versionReply) int { return b.number() - a.number() })
	off := 0
	for most := max(k.VersionHistoryLimit, 1); len(all) > 0 && most > 0; all = all[1:] {
		if all[0].number() == 0 {
			return nil, garbled(op, short(k.Name), kmsHost, "it answers with a version that has no number")
		}
		it, err := v.version(ctx, k, all[0])
		switch {
		case notFound(err): // destroyed since it was listed
			continue
		case err != nil:
			return nil, err
		case it.Use != keys.Disabled:
			most--
		default:
			if off++; off > maxShown {
				continue
			}
		}
		items = append(items, it)
	}
	return items, nil
}

// off says what a version's state means, "" = it is enabled.
func (r versionReply) off() string {
	switch r.State {
	case "ENABLED":
		return ""
	case "DISABLED":
		return "the version is disabled"
	case "DESTROYED":
		return "the version is destroyed"
	case "DESTROY_SCHEDULED":
		if r.DestroyTime.IsZero() {
			return "the version is about to be destroyed"
		}
		return "the version is about to be destroyed on " + r.DestroyTime.UTC().Format(time.DateOnly)
	case "PENDING_GENERATION", "PENDING_IMPORT":
		return "the version is being made"
	}
	return "the version's state is " + keys.Clean(r.State)
}

// pubReply is a PublicKey.
type pubReply struct {
	Name      string `json:"name"`
	PEM       string `json:"pem"`
	CRC32C    string `json:"pemCrc32c"` // decimal, since JSON's numbers are not exact
	Algorithm string `json:"algorithm"`
}

// castagnoli is the polynomial of CRC32C (RFC 3720, appendix B.4).
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// version fetches one version's public key.
func (v *provider) version(ctx context.Context, k Key, r versionReply) (keys.Item, error) {
	const op = "get public key"
	number := short(r.Name)
	target := short(k.Name) + "/" + number
	it := keys.Item{Name: short(k.Name), Version: number, Use: keys.Disabled, Created: r.Created.UTC()}
	if it.Why = r.off(); it.Why != "" {
		return it, nil
	}
	it.Use = keys.Unusable
	fits := algorithms[r.Algorithm]
	if fits == nil {
		it.Why = "its algorithm is " + keys.Clean(cmp.Or(r.Algorithm, "not reported")) + ", by which no signature is verified here: use EC_SIGN_P256_SHA256, EC_SIGN_P384_SHA384, RSA_SIGN_PSS_2048_SHA256 or RSA_SIGN_PSS_4096_SHA512"
		return it, nil
	}
	var pub pubReply
	err := v.c.get(ctx, op, target, kmsHost, k.Name+"/cryptoKeyVersions/"+number+"/publicKey", nil, &pub)
	var e *keys.Error
	if errors.As(err, &e) && strings.HasPrefix(e.Detail, failedPrecondition) {
		it.Use, it.Why = keys.Disabled, "the version was switched off just now"
		return it, nil
	}
	if err != nil {
		return it, err
	}
	sum, bad := strconv.ParseUint(pub.CRC32C, 10, 32)
	block, rest := pem.Decode([]byte(pub.PEM))
	switch {
	case !strings.HasSuffix(pub.Name, "/cryptoKeys/"+target[:strings.IndexByte(target, '/')]+"/cryptoKeyVersions/"+number) || pub.Algorithm != r.Algorithm:
		return it, garbled(op, target, kmsHost, "it answers with another key")
	case bad != nil:
		return it, garbled(op, target, kmsHost, "the key comes without its checksum")
	case uint32(sum) != crc32.Checksum([]byte(pub.PEM), castagnoli):
		return it, garbled(op, target, kmsHost, "the key does not have its checksum: it was changed on the way")
	case block == nil || block.Type != "PUBLIC KEY" || len(strings.TrimSpace(string(rest))) > 0:
		return it, garbled(op, target, kmsHost, "it answers with something else than a public key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil || !fits(key) {
		return it, garbled(op, target, kmsHost, "the key is not one of its algorithm "+pub.Algorithm)
	}
	it.Key, it.Why = key, keyOfNoUse
	return it, nil
}

// algorithms are those of Cloud KMS by which signatures are verified here (Notary
// Project, signature specification: algorithm selection), with what a key must be.
var algorithms = map[string]func(crypto.PublicKey) bool{
	"EC_SIGN_P256_SHA256": curve(elliptic.P256()), "EC_SIGN_P384_SHA384": curve(elliptic.P384()),
	"RSA_SIGN_PSS_2048_SHA256": bits(2048), "RSA_SIGN_PSS_4096_SHA512": bits(4096), // of 3072 bits there is only SHA-256, and SHA-384 is demanded
}

func curve(c elliptic.Curve) func(crypto.PublicKey) bool {
	return func(k crypto.PublicKey) bool { p, ok := k.(*ecdsa.PublicKey); return ok && p.Curve == c }
}

func bits(n int) func(crypto.PublicKey) bool {
	return func(k crypto.PublicKey) bool { p, ok := k.(*rsa.PublicKey); return ok && p.N.BitLen() == n }
}
