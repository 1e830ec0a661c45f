package vault

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

// Open makes the provider.
func (p Parameters) Open(env keys.Env, namespace string) (keys.Provider, error) {
	c, err := newClient(p, env.Complete(), namespace)
	if err != nil {
		return nil, err
	}
	return &provider{c}, nil
}

type provider struct{ c *client }

// Fetch asks for everything.
func (v *provider) Fetch(ctx context.Context) ([]keys.Group, error) {
	var groups []keys.Group
	var gone error // set once there is no point in asking on
	add := func(name string, fetch func() ([]keys.Item, error)) {
		g := keys.Group{Name: name, Err: gone}
		if gone == nil {
			g = v.group(name, fetch)
		}
		var e *keys.Error
		if gone == nil && errors.As(g.Err, &e) && (e.Status == 0 || e.Op == opSignIn || e.Status == http.StatusTooManyRequests || e.Status == http.StatusServiceUnavailable) {
			gone = g.Err
		}
		groups = append(groups, g)
	}
	p := v.c.p
	for _, e := range p.KV {
		e.Mount, e.Field = cmp.Or(e.Mount, "secret"), cmp.Or(e.Field, "certificate")
		add("kv "+e.Mount+"/"+e.Path, func() ([]keys.Item, error) { return v.kv(ctx, e) })
	}
	for _, e := range p.PKI {
		e.Mount, e.Issuer = cmp.Or(e.Mount, "pki"), cmp.Or(e.Issuer, "default")
		add("pki "+e.Mount+", issuer "+e.Issuer, func() ([]keys.Item, error) { return v.pki(ctx, e) })
	}
	for _, e := range p.Transit {
		e.Mount = cmp.Or(e.Mount, "transit")
		add("transit "+e.Mount+"/"+e.Name, func() ([]keys.Item, error) { return v.transit(ctx, e) })
	}
	return groups, nil
}

// group makes one of what an entry has, and says what is wrong where nothing of it
// is in use.
func (v *provider) group(name string, fetch func() ([]keys.Item, error)) keys.Group {
	g := keys.Group{Name: name}
	var err error
	switch g.Items, err = fetch(); {
	case notFound(err):
		g.Items = []keys.Item{{Name: name, Use: keys.Missing, Why: "it is not in the vault"}}
	case err != nil:
		g.Err, g.Items = err, nil
		return g
	}
	if !slices.ContainsFunc(g.Items, func(it keys.Item) bool { return it.Use == keys.InUse }) {
		why := "there are no versions of it"
		if len(g.Items) > 0 {
			why = g.Items[0].Why
		}
		g.Problem = fmt.Sprintf("%s at %s: %s", name, v.c.host, why)
	}
	return g
}

func notFound(err error) bool {
	var e *keys.Error
	return errors.As(err, &e) && e.Status == http.StatusNotFound && e.Op != opSignIn
}

// kvVersion is what engine 2 says of a version.
type kvVersion struct {
	Version      int       `json:"version"`
	CreatedTime  time.Time `json:"created_time"`
	DeletionTime string    `json:"deletion_time"` // "" = not deleted
	Destroyed    bool      `json:"destroyed"`
}

// gone says why a version is not there any more, "" where it is.
func (m kvVersion) gone(now time.Time) string {
	if m.Destroyed {
		return "it is destroyed"
	}
	if at, err := time.Parse(time.RFC3339Nano, m.DeletionTime); err == nil && !at.After(now) {
		return "it is deleted"
	}
	return ""
}

func (v *provider) kv(ctx context.Context, e KV) ([]keys.Item, error) {
	if e.Engine == 1 {
		var answer struct {
			Data map[string]json.RawMessage `json:"data"`
		}
		if err := v.c.get(ctx, "read", e.Mount+"/"+e.Path, &answer); err != nil {
			return nil, err
		}
		return bundle(e.Path, "", time.Time{}, answer.Data, e.Field), nil
	}
	if e.Version == 0 && e.VersionHistoryLimit > 1 {
		return v.kvHistory(ctx, e)
	}
	return v.kvOne(ctx, e, e.Version)
}

// kvOne reads one version; 0 = the newest.
func (v *provider) kvOne(ctx context.Context, e KV, version int) ([]keys.Item, error) {
	var answer struct {
		Data struct {
			Data     map[string]json.RawMessage `json:"data"`
			Metadata kvVersion                  `json:"metadata"`
		} `json:"data"`
	}
	path := e.Mount + "/data/" + e.Path
	if version > 0 {
		path += "?version=" + strconv.Itoa(version)
	}
	if err := v.c.get(ctx, "read", path, &answer); err != nil {
		return nil, err
	}
	m := answer.Data.Metadata
	name := strconv.Itoa(m.Version)
	if why := m.gone(v.c.env.Clock()); why != "" {
		return []keys.Item{{Name: e.Path, Version: name, Use: keys.Disabled, Why: why, Created: m.CreatedTime.UTC()}}, nil
	}
	return bundle(e.Path, name, m.CreatedTime.UTC(), answer.Data.Data, e.Field), nil
}

// kvHistory reads the newest versions that are there.
func (v *provider) kvHistory(ctx context.Context, e KV) (items []keys.Item, err error) {
	var answer struct {
		Data struct {
			Versions map[string]kvVersion `json:"versions"`
		} `json:"data"`
	}
	if err := v.c.get(ctx, "list versions of", e.Mount+"/metadata/"+e.Path, &answer); err != nil {
		return nil, err
	}
	numbers := make([]int, 0, len(answer.Data.Versions))
	for k := range answer.Data.Versions {
		if n, err := strconv.Atoi(k); err == nil && n > 0 {
			numbers = append(numbers, n)
		}
	}
	slices.SortFunc(numbers, func(a, b int) int { return b - a })
	for _, n := range numbers[:min(len(numbers), keys.MaxListed)] {
		m := answer.Data.Versions[strconv.Itoa(n)]
		if why := m.gone(v.c.env.Clock()); why != "" {
			items = append(items, keys.Item{Name: e.Path, Version: strconv.Itoa(n), Use: keys.Disabled, Why: why, Created: m.CreatedTime.UTC()})
			continue
		}
		found, err := v.kvOne(ctx, e, n)
		if notFound(err) {
			continue // gone since it was listed
		}
		if err != nil {
			return nil, err
		}
		items = append(items, found...)
		if e.VersionHistoryLimit--; e.VersionHistoryLimit == 0 {
			break
		}
	}
	return items, nil
}

// bundle reads the certificates of a secret's field.
func bundle(name, version string, created time.Time, data map[string]json.RawMessage, field string) []keys.Item {
	unusable := func(why string) []keys.Item {
		return []keys.Item{{Name: name, Version: version, Use: keys.Unusable, Why: why, Created: created}}
	}
	var text string
	if json.Unmarshal(data[field], &text) != nil {
		return unusable("it has no text in the field " + keys.Clean(field))
	}
	certs, err := trust.ParseCertificates([]byte(text))
	if err != nil {
		return unusable(keys.Clean(strings.TrimPrefix(err.Error(), "configuration: ")))
	}
	items, _ := keys.Each(name, version, certs)
	for i := range items {
		items[i].Created = created
	}
	return items
}

// pki reads an issuer and its chain.
func (v *provider) pki(ctx context.Context, e PKI) ([]keys.Item, error) {
	var answer struct {
		Data struct {
			Certificate string   `json:"certificate"`
			CAChain     []string `json:"ca_chain"`
			Revoked     bool     `json:"revoked"`
		} `json:"data"`
	}
	if err := v.c.get(ctx, "read issuer", e.Mount+"/issuer/"+e.Issuer+"/json", &answer); err != nil {
		return nil, err
	}
	if answer.Data.Revoked {
		return []keys.Item{{Name: e.Issuer, Use: keys.Disabled, Why: "the issuer is revoked"}}, nil
	}
	certs, err := trust.ParseCertificates([]byte(answer.Data.Certificate + "\n" + strings.Join(answer.Data.CAChain, "\n")))
	if err != nil {
		return []keys.Item{{Name: e.Issuer, Use: keys.Unusable, Why: keys.Clean(strings.TrimPrefix(err.Error(), "configuration: "))}}, nil
	}
	var once []*x509.Certificate // the issuer heads its chain
	for _, c := range certs {
		if !slices.ContainsFunc(once, c.Equal) {
			once = append(once, c)
		}
	}
	items, _ := keys.Each(e.Issuer, "", once)
	return items, nil
}

// transitKey is one version of a key.
type transitKey struct {
	PublicKey        string    `json:"public_key"`
	CertificateChain string    `json:"certificate_chain"`
	CreationTime     time.Time `json:"creation_time"`
}

// keyOfNoUse says why keys are listed and not used.
const keyOfNoUse = "no verifier here trusts a bare key: store the key's certificate chain beside it (transit, set-certificate), or provide the certificate otherwise"

func (v *provider) transit(ctx context.Context, e Transit) (items []keys.Item, err error) {
	var answer struct {
		Data struct {
			Keys                 map[string]transitKey `json:"keys"`
			MinDecryptionVersion int                   `json:"min_decryption_version"`
		} `json:"data"`
	}
	if err := v.c.get(ctx, "read key", e.Mount+"/keys/"+e.Name, &answer); err != nil {
		return nil, err
	}
	numbers := slices.Collect(maps.Keys(answer.Data.Keys))
	slices.SortFunc(numbers, func(a, b string) int {
		x, _ := strconv.Atoi(a)
		y, _ := strconv.Atoi(b)
		return y - x
	})
	for i, n := range numbers {
		if i == max(e.VersionHistoryLimit, 1) {
			break
		}
		k := answer.Data.Keys[n]
		it := keys.Item{Name: e.Name, Version: keys.Clean(n), Created: k.CreationTime.UTC()}
		number, _ := strconv.Atoi(n)
		switch {
		case number < answer.Data.MinDecryptionVersion:
			it.Use, it.Why = keys.Disabled, "it is below the key's min_decryption_version"
		case k.CertificateChain != "":
			certs, err := trust.ParseCertificates([]byte(k.CertificateChain))
			if err != nil {
				it.Use, it.Why = keys.Unusable, keys.Clean(strings.TrimPrefix(err.Error(), "configuration: "))
				break
			}
			it.Use, it.Certificates = keys.InUse, certs
			if _, problem := keys.Each(e.Name, n, certs); problem != "" {
				it.Use, it.Why = keys.Unusable, "its chain contains neither a CA nor a self-signed certificate"
			}
		default:
			it.Use, it.Why = keys.Unusable, keyOfNoUse
			if b, _ := pem.Decode([]byte(k.PublicKey)); b != nil {
				if it.Key, err = x509.ParsePKIXPublicKey(b.Bytes); err != nil {
					it.Why, err = "what the vault shows is no public key", nil
				}
			}
		}
		items = append(items, it)
	}
	return items, nil
}
