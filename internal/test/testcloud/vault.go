package testcloud

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// VaultRole is who may sign in to a Vault by Kubernetes.
type VaultRole struct {
	Issuer            *Issuer
	Subject, Audience string
	Paths             []string // beginnings of what may be read
}

// KVVersion is a version of a secret.
type KVVersion struct {
	Data      map[string]string
	Deleted   bool
	Destroyed bool
}

// TransitVersion is a version of a key.
type TransitVersion struct{ PublicKey, CertificateChain string }

// Vault is a HashiCorp Vault or OpenBao, with the engines KV 1 at kv, KV 2 at
// secret, PKI at pki and transit at transit. Reading issuers needs no token, as in
// Vault.
type Vault struct {
	Host      string
	Namespace string // what X-Vault-Namespace must say
	Redirect  string // where everything is redirected to; "" = nowhere
	c         *Cloud

	mu      sync.Mutex
	sealed  bool
	roles   map[string]VaultRole
	tokens  map[string]vaultToken
	kv1     map[string]map[string]string
	kv2     map[string][]KVVersion
	issuers map[string][]string // PEM, the issuer first
	revoked map[string]bool
	transit map[string][]TransitVersion
}

type vaultToken struct {
	paths []string
	until time.Time
}

// Vault starts a Vault at a host.
func (c *Cloud) Vault(host string) *Vault {
	v := &Vault{Host: host, c: c, roles: map[string]VaultRole{}, tokens: map[string]vaultToken{}, kv1: map[string]map[string]string{},
		kv2: map[string][]KVVersion{}, issuers: map[string][]string{}, revoked: map[string]bool{}, transit: map[string][]TransitVersion{}}
	c.Serve(host, v)
	return v
}

// change changes what is in the vault.
func (v *Vault) change(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

// Seal seals or unseals it.
func (v *Vault) Seal(sealed bool) { v.change(func() { v.sealed = sealed }) }

// Role sets a role of the method kubernetes.
func (v *Vault) Role(name string, r VaultRole) { v.change(func() { v.roles[name] = r }) }

// Token makes a token that may read what begins so.
func (v *Vault) Token(life time.Duration, paths ...string) string {
	token := "hvs." + rand.Text()
	v.c.keep(token)
	v.change(func() { v.tokens[token] = vaultToken{paths, v.c.clock().Add(life)} })
	return token
}

// Revoke makes all tokens bad.
func (v *Vault) Revoke() { v.change(func() { clear(v.tokens) }) }

// KV1 sets a secret of engine 1.
func (v *Vault) KV1(path string, data map[string]string) { v.change(func() { v.kv1[path] = data }) }

// KV2 sets all versions of a secret of engine 2, the oldest first.
func (v *Vault) KV2(path string, versions ...KVVersion) { v.change(func() { v.kv2[path] = versions }) }

// Issuer sets an issuer of PKI: its certificate and its chain, in PEM.
func (v *Vault) Issuer(name string, revoked bool, chain ...string) {
	v.change(func() { v.issuers[name], v.revoked[name] = chain, revoked })
}

// Transit sets all versions of a key, the oldest first.
func (v *Vault) Transit(name string, versions ...TransitVersion) {
	v.change(func() { v.transit[name] = versions })
}

func vaultFail(w http.ResponseWriter, status int, messages ...string) {
	replyJSON(w, status, map[string]any{"errors": append([]string{}, messages...)})
}

func (v *Vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	switch {
	case v.Redirect != "":
		http.Redirect(w, r, v.Redirect+r.URL.Path, http.StatusTemporaryRedirect)
	case v.sealed:
		vaultFail(w, http.StatusServiceUnavailable, "Vault is sealed")
	case !ok:
		vaultFail(w, http.StatusNotFound)
	case r.Header.Get("X-Vault-Request") != "true":
		vaultFail(w, http.StatusPreconditionFailed, "missing 'X-Vault-Request' header")
	case r.Header.Get("X-Vault-Namespace") != v.Namespace:
		vaultFail(w, http.StatusNotFound)
	case path == "auth/kubernetes/login" && r.Method == http.MethodPost:
		v.login(w, r)
	case r.Method != http.MethodGet:
		vaultFail(w, http.StatusMethodNotAllowed, "unsupported operation")
	case strings.HasPrefix(path, "pki/issuer/"):
		v.pki(w, strings.TrimPrefix(path, "pki/issuer/"))
	default:
		token := r.Header.Get("X-Vault-Token")
		v.c.keep(token)
		t, ok := v.tokens[token]
		if !ok || v.c.clock().After(t.until) || !slices.ContainsFunc(t.paths, func(p string) bool { return strings.HasPrefix(path, p) }) {
			vaultFail(w, http.StatusForbidden, "permission denied")
			return
		}
		v.read(w, r, path)
	}
}

func (v *Vault) login(w http.ResponseWriter, r *http.Request) {
	var q struct{ Role, JWT string }
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		vaultFail(w, http.StatusBadRequest, "failed to parse JSON input")
		return
	}
	v.c.keep(q.JWT)
	role, ok := v.roles[q.Role]
	if !ok {
		vaultFail(w, http.StatusBadRequest, `invalid role name "`+q.Role+`"`)
		return
	}
	claims, err := role.Issuer.verify(q.JWT, v.c.clock())
	switch {
	case err != nil, claims.Issuer != role.Issuer.Name:
		vaultFail(w, http.StatusForbidden, "permission denied")
	case claims.Audience != role.Audience:
		vaultFail(w, http.StatusInternalServerError, "error validating token: invalid audience (aud) claim: audience claim does not match any expected audience")
	case claims.Subject != role.Subject:
		vaultFail(w, http.StatusForbidden, "service account name not authorized")
	default:
		token := "hvs." + rand.Text()
		v.c.keep(token)
		v.tokens[token] = vaultToken{role.Paths, v.c.clock().Add(time.Hour)}
		replyJSON(w, http.StatusOK, map[string]any{"auth": map[string]any{"client_token": token, "lease_duration": 3600, "renewable": true, "token_type": "service"}})
	}
}

func (v *Vault) pki(w http.ResponseWriter, path string) {
	name, ok := strings.CutSuffix(path, "/json")
	chain := v.issuers[name]
	if !ok || len(chain) == 0 {
		vaultFail(w, http.StatusInternalServerError, "unable to find PKI issuer for reference: "+name)
		return
	}
	replyJSON(w, http.StatusOK, map[string]any{"data": map[string]any{"certificate": chain[0], "ca_chain": chain, "issuer_name": name, "revoked": v.revoked[name]}})
}

func (v *Vault) read(w http.ResponseWriter, r *http.Request, path string) {
	mount, rest, _ := strings.Cut(path, "/")
	kind, name, _ := strings.Cut(rest, "/")
	switch {
	case mount == "kv" && v.kv1[rest] != nil:
		replyJSON(w, http.StatusOK, map[string]any{"lease_duration": 2764800, "data": v.kv1[rest]})
	case mount == "secret" && kind == "data" && v.kv2[name] != nil:
		v.kvData(w, r, v.kv2[name])
	case mount == "secret" && kind == "metadata" && v.kv2[name] != nil:
		versions := map[string]any{}
		for i := range v.kv2[name] {
			versions[strconv.Itoa(i+1)] = v.kvMetadata(v.kv2[name], i, false)
		}
		replyJSON(w, http.StatusOK, map[string]any{"data": map[string]any{"current_version": len(versions), "versions": versions}})
	case mount == "transit" && kind == "keys" && v.transit[name] != nil:
		all := map[string]any{}
		for i, ver := range v.transit[name] {
			all[strconv.Itoa(i+1)] = map[string]any{"public_key": ver.PublicKey, "certificate_chain": ver.CertificateChain, "creation_time": v.c.clock().UTC().Format(time.RFC3339Nano), "name": "P-256"}
		}
		replyJSON(w, http.StatusOK, map[string]any{"data": map[string]any{"name": name, "type": "ecdsa-p256", "keys": all, "latest_version": len(all), "min_decryption_version": 1}})
	default:
		vaultFail(w, http.StatusNotFound)
	}
}

func (v *Vault) kvMetadata(all []KVVersion, i int, numbered bool) map[string]any {
	m := map[string]any{"created_time": v.c.clock().Add(time.Duration(i-len(all)) * time.Hour).UTC().Format(time.RFC3339Nano), "deletion_time": "", "destroyed": all[i].Destroyed}
	if all[i].Deleted {
		m["deletion_time"] = v.c.clock().Add(-time.Minute).UTC().Format(time.RFC3339Nano)
	}
	if numbered {
		m["version"] = i + 1
	}
	return m
}

func (v *Vault) kvData(w http.ResponseWriter, r *http.Request, all []KVVersion) {
	n := len(all)
	if q := r.URL.Query().Get("version"); q != "" {
		n, _ = strconv.Atoi(q)
	}
	if n < 1 || n > len(all) {
		vaultFail(w, http.StatusNotFound)
		return
	}
	status, data := http.StatusOK, any(all[n-1].Data)
	if all[n-1].Deleted || all[n-1].Destroyed {
		status, data = http.StatusNotFound, nil
	}
	replyJSON(w, status, map[string]any{"data": map[string]any{"data": data, "metadata": v.kvMetadata(all, n-1, true)}})
}
