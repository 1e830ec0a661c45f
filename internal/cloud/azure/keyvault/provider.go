package keyvault

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/boltseal/boltseal/internal/cloud/azure"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

// maxShown is how many versions that are switched off are told of.
const maxShown = 10

// provider asks one vault.
type provider struct {
	p            Parameters
	clock        func() time.Time
	host         string
	in           cloud.Configuration
	who          *azure.Identity
	certificates *azcertificates.Client
	secrets      *azsecrets.Client
	keys         *azkeys.Client
	// secretsOnly is set where certificates may not be read and secrets may.
	secretsOnly atomic.Bool

	mu     sync.Mutex
	chains map[string][]*x509.Certificate // by name and version: what a version holds never changes
}

// Open makes the provider.
func (p Parameters) Open(env keys.Env, namespace string) (keys.Provider, error) {
	env = env.Complete()
	host, in, err := p.vault()
	if err != nil {
		return nil, err
	}
	is := p.identity()
	is.Secret = func(ctx context.Context) (string, error) { return p.secret(ctx, env, namespace) }
	v := &provider{p: p, clock: env.Clock, host: host, in: in.config, who: azure.New(is, env), chains: map[string][]*x509.Certificate{}}
	o, cred := azure.ClientOptions(env, in.config), v.who.In(in.config)
	uri := "https://" + host
	if v.certificates, err = azcertificates.NewClient(uri, cred, &azcertificates.ClientOptions{ClientOptions: o}); err != nil {
		return nil, err
	}
	if v.secrets, err = azsecrets.NewClient(uri, cred, &azsecrets.ClientOptions{ClientOptions: o}); err != nil {
		return nil, err
	}
	v.keys, err = azkeys.NewClient(uri, cred, &azkeys.ClientOptions{ClientOptions: o})
	return v, err
}

// Fetch asks for all certificates and keys.
func (v *provider) Fetch(ctx context.Context) ([]keys.Group, error) {
	var groups []keys.Group
	used := map[string]bool{}
	var gone error // set once there is no point in asking on
	for _, e := range v.p.Certificates {
		g := keys.Group{Name: groupName("certificate", e), Err: gone}
		if gone == nil {
			g = v.group(g.Name, e, func() ([]keys.Item, error) { return v.certificate(ctx, e, used) })
		}
		gone = stop(gone, g.Err)
		groups = append(groups, g)
	}
	for _, e := range v.p.Keys {
		g := keys.Group{Name: groupName("key", e), Err: gone}
		if gone == nil {
			g = v.group(g.Name, e, func() ([]keys.Item, error) { return v.key(ctx, e) })
		}
		gone = stop(gone, g.Err)
		groups = append(groups, g)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if gone == nil {
		for k := range v.chains {
			if !used[k] {
				delete(v.chains, k)
			}
		}
	}
	return groups, nil
}

// stop tells a failure that the next question would meet too: of the vault, not of
// one thing in it.
func stop(before, err error) error {
	var e *keys.Error
	if before != nil || err == nil {
		return before
	}
	if errors.As(err, &e) && e.Status != 0 && e.Op != azure.OpSignIn && e.Status != http.StatusTooManyRequests && e.Status != http.StatusServiceUnavailable {
		return nil
	}
	return err
}

func groupName(what string, e Entry) string {
	if e.Version != "" {
		return what + " " + e.Name + ", version " + e.Version
	}
	return what + " " + e.Name
}

// group makes one of what an entry has, and says what is wrong where nothing of it
// is in use.
func (v *provider) group(name string, e Entry, fetch func() ([]keys.Item, error)) keys.Group {
	g := keys.Group{Name: name}
	items, err := fetch()
	switch {
	case notFound(err):
		items = []keys.Item{{Name: e.Name, Version: e.Version, Use: keys.Missing, Why: "it is not in the vault"}}
	case err != nil:
		g.Err = err
		return g
	}
	g.Items = items
	if !slices.ContainsFunc(items, func(it keys.Item) bool { return it.Use == keys.InUse }) {
		why := "there are no versions of it"
		if len(items) > 0 {
			why = items[0].Why
		}
		g.Problem = fmt.Sprintf("%s at %s: %s", name, v.host, why)
	}
	return g
}

// version is what a vault says of one without showing it.
type version struct {
	name             string
	enabled          bool
	created, expires time.Time
}

// certificate fetches the versions of one certificate that are to be in use.
func (v *provider) certificate(ctx context.Context, e Entry, used map[string]bool) ([]keys.Item, error) {
	if e.Version != "" || e.VersionHistoryLimit <= 1 {
		it, err := v.one(ctx, e.Name, e.Version, used)
		if err != nil || it.Use != keys.Disabled || e.Version != "" {
			return []keys.Item{it}, err
		}
		// The newest is switched off: the newest that is not takes its place, where we
		// may see which one that is.
		if items, err := v.history(ctx, e.Name, 1, used); err == nil {
			return items, nil
		}
		return []keys.Item{it}, nil
	}
	return v.history(ctx, e.Name, e.VersionHistoryLimit, used)
}

// history fetches the newest versions that are enabled.
func (v *provider) history(ctx context.Context, name string, most int, used map[string]bool) ([]keys.Item, error) {
	versions, err := v.versions(ctx, name)
	if err != nil {
		return nil, err
	}
	return newest(name, versions, most, func(version string) (keys.Item, error) { return v.one(ctx, name, version, used) })
}

// newest takes the newest versions that are enabled, and tells of the others
// between them.
func newest(name string, versions []version, most int, get func(version string) (keys.Item, error)) (items []keys.Item, err error) {
	slices.SortStableFunc(versions, func(a, b version) int { return b.created.Compare(a.created) })
	off := 0
	for _, ver := range versions {
		if most == 0 {
			break
		}
		if !ver.enabled {
			if off++; off <= maxShown {
				items = append(items, disabled(name, ver.name, ver.created, ver.expires))
			}
			continue
		}
		it, err := get(ver.name)
		switch {
		case notFound(err): // deleted since it was listed
			continue
		case err != nil:
			return nil, err
		case it.Use != keys.Disabled: // switched off since then
			most--
		}
		items = append(items, it)
	}
	return items, nil
}

func disabled(name, version string, created, expires time.Time) keys.Item {
	return keys.Item{Name: name, Version: version, Use: keys.Disabled, Why: "it is disabled in the vault", Created: created, Expires: expires}
}

// one fetches one version of a certificate with its chain; "" = the newest.
func (v *provider) one(ctx context.Context, name, version string, used map[string]bool) (keys.Item, error) {
	if v.secretsOnly.Load() {
		if it, err := v.bySecret(ctx, name, version, used); !forbidden(err) {
			return it, err
		}
		v.secretsOnly.Store(false) // rights have changed
	}
	const op = "get certificate"
	resp, err := v.certificates.GetCertificate(ctx, name, version, nil)
	err = v.wrap(op, name, err)
	if forbidden(err) {
		it, second := v.bySecret(ctx, name, version, used)
		if forbidden(second) {
			return keys.Item{}, rights(err)
		}
		v.secretsOnly.Store(second == nil)
		return it, second
	}
	if err != nil {
		return keys.Item{}, err
	}
	if resp.ID == nil {
		return keys.Item{}, v.garbled(op, name)
	}
	it := keys.Item{Name: name, Version: resp.ID.Version(), Use: keys.InUse}
	if a := resp.Attributes; a != nil {
		it.Created, it.Expires = value(a.Created), value(a.Expires)
		if a.Enabled != nil && !*a.Enabled {
			return disabled(name, it.Version, it.Created, it.Expires), nil
		}
	}
	key := name + "/" + it.Version
	if it.Certificates = v.known(key, used); it.Certificates != nil {
		return v.noted(it), nil
	}
	cert, err := x509.ParseCertificate(resp.CER)
	if err != nil {
		return keys.Item{}, v.garbled(op, name)
	}
	if it.Certificates = []*x509.Certificate{cert}; trust.Admit(trust.TypeCA, cert) == nil {
		v.learn(key, it.Certificates, used) // its own root: there is no chain to fetch
		return v.noted(it), nil
	}
	full, err := v.bySecret(ctx, name, it.Version, used)
	if forbidden(err) {
		return keys.Item{}, chainRights(err)
	}
	if err == nil && full.Use == keys.InUse && !slices.ContainsFunc(full.Certificates, cert.Equal) {
		return unusable(it, "the chain in the secret of this name is not this certificate's"), nil
	}
	return full, err
}

// bySecret fetches one version by the secret behind the certificate: it holds the
// chain, and where the key may be exported the key too, which is not looked at.
func (v *provider) bySecret(ctx context.Context, name, version string, used map[string]bool) (keys.Item, error) {
	const op = "get secret of certificate"
	resp, err := v.secrets.GetSecret(ctx, name, version, nil)
	err = v.wrap(op, name, err)
	if secretDisabled(err) {
		return disabled(name, version, time.Time{}, time.Time{}), nil
	}
	if err != nil {
		return keys.Item{}, err
	}
	if resp.ID == nil {
		return keys.Item{}, v.garbled(op, name)
	}
	it := keys.Item{Name: name, Version: resp.ID.Version(), Use: keys.InUse}
	if a := resp.Attributes; a != nil {
		it.Created, it.Expires = value(a.Created), value(a.Expires)
		if a.Enabled != nil && !*a.Enabled {
			return disabled(name, it.Version, it.Created, it.Expires), nil
		}
	}
	key := name + "/" + it.Version
	if it.Certificates = v.known(key, used); it.Certificates != nil {
		return v.noted(it), nil
	}
	chain, err := chainOf(resp.Secret)
	if err != nil {
		return unusable(it, err.Error()), nil
	}
	it.Certificates = chain
	if !slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return trust.Admit(trust.TypeCA, c) == nil }) {
		return unusable(it, "its chain contains neither a CA nor a self-signed certificate: merge the whole chain into the vault, or provide the CA that issued it"), nil
	}
	v.learn(key, chain, used)
	return v.noted(it), nil
}

func unusable(it keys.Item, why string) keys.Item {
	it.Use, it.Why = keys.Unusable, why
	return it
}

// noted says what deserves a look.
func (v *provider) noted(it keys.Item) keys.Item {
	if !it.Expires.IsZero() && v.clock().After(it.Expires) {
		it.Why = "it has expired: only what was signed before, with a timestamp, is trusted by it"
	}
	return it
}

func (v *provider) known(key string, used map[string]bool) []*x509.Certificate {
	v.mu.Lock()
	defer v.mu.Unlock()
	used[key] = true
	return v.chains[key]
}

func (v *provider) learn(key string, chain []*x509.Certificate, used map[string]bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	used[key] = true
	v.chains[key] = chain
}

func value(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
