// Package vault fetches certificates and keys from HashiCorp Vault and OpenBao: KV, PKI and transit.
package vault

import (
	"fmt"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

// Name is the provider's type.
const Name = "vault"

// Methods of Auth.
const (
	MethodKubernetes = "kubernetes"
	MethodToken      = "token"
)

var methods = []string{MethodKubernetes, MethodToken}

// Parameters are those of a provider of type vault.
type Parameters struct {
	// Address is such as https://vault.example:8200. Plain HTTP is for loopback only.
	Address string `json:"address"`
	// VaultNamespace is one of Vault Enterprise's or OpenBao's.
	VaultNamespace string `json:"vaultNamespace"`
	// CACert are the authorities of its TLS certificate, in PEM. Left out, and caFile
	// too, they are the system's.
	CACert string `json:"caCert"`
	// CAFile is a file with them, in place of caCert.
	CAFile string `json:"caFile"`
	// Auth is how to sign in.
	Auth Auth `json:"auth"`

	// KV are secrets with certificates in PEM.
	KV []KV `json:"kv"`
	// PKI are issuers with their chains.
	PKI []PKI `json:"pki"`
	// Transit are keys, with the certificates that belong to their versions.
	Transit []Transit `json:"transit"`
}

// Auth says how to sign in.
type Auth struct {
	// Method is kubernetes or token.
	Method string `json:"method"`
	// Mount is where the method kubernetes is mounted. "" means kubernetes.
	Mount string `json:"mount"`
	// Role is who to sign in as by the method kubernetes.
	Role string `json:"role"`
	// TokenFile is the service account's token, or Vault's own; it is read anew each
	// time. "" means the Pod's, for the method kubernetes.
	TokenFile string `json:"tokenFile"`
	// TokenRef is a Secret with Vault's token, for the method token.
	TokenRef *keys.SecretRef `json:"tokenRef"`
}

// KV is a secret with certificates in PEM.
type KV struct {
	// Mount is where the engine is. "" means secret.
	Mount string `json:"mount"`
	// Path is the secret's below the mount.
	Path string `json:"path"`
	// Field holds the certificates. "" means certificate.
	Field string `json:"field"`
	// Engine is the version of the engine, 1 or 2. 0 means 2.
	Engine int `json:"engine"`
	// Version is one version. 0 means the newest.
	Version int `json:"version"`
	// VersionHistoryLimit is how many of the newest versions are in use. 0 means 1.
	VersionHistoryLimit int `json:"versionHistoryLimit"`
}

// PKI is an issuer with its chain.
type PKI struct {
	// Mount is where the engine is. "" means pki.
	Mount string `json:"mount"`
	// Issuer is its name or identifier. "" means default.
	Issuer string `json:"issuer"`
}

// Transit is a key, with the certificates that belong to its versions.
type Transit struct {
	// Mount is where the engine is. "" means transit.
	Mount string `json:"mount"`
	// Name is the key's.
	Name string `json:"name"`
	// VersionHistoryLimit is how many of the newest versions are in use. 0 means 1.
	VersionHistoryLimit int `json:"versionHistoryLimit"`
}

var (
	pathName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)
	oneName  = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]*$`)
)

const maxPath = 512

// address reads Address.
func (p Parameters) address() (*url.URL, error) {
	u, err := url.Parse(p.Address)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%s is no address, such as https://vault.example:8200", strict.Label(p.Address))
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("%s is without TLS, and gets no token: anybody on the way could read it", strict.Label(p.Address))
	}
	u.Path, u.Host = "", strings.ToLower(u.Host)
	if u.Scheme == "https" {
		u.Host = strings.TrimSuffix(u.Host, ":443")
	}
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Check finds what is wrong.
func (p Parameters) Check(namespace string) (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	if p.Address == "" {
		fail("address", "it is missing: where is the vault?")
	} else if u, err := p.address(); err != nil {
		fail("address", "%v", err)
	} else if namespace != "" && u.Scheme != "https" {
		fail("address", "a provider of a namespace speaks TLS only")
	}
	if p.VaultNamespace != "" {
		name(fail, "vaultNamespace", strings.TrimSuffix(p.VaultNamespace, "/"), pathName)
	}
	switch {
	case p.CACert != "" && p.CAFile != "":
		fail("caFile", "caCert and caFile are both there; keep one")
	case p.CAFile != "" && namespace != "":
		fail("caFile", "a provider of a namespace reads no files of Boltseal's")
	case p.CACert != "":
		if _, err := trust.ParseCertificates([]byte(p.CACert)); err != nil {
			fail("caCert", "%s", strings.TrimPrefix(err.Error(), "configuration: "))
		}
	}
	p.Auth.check(fail, namespace)
	p.entries(fail)
	return problems
}

func (a Auth) check(fail func(field, format string, a ...any), namespace string) {
	if a.TokenFile != "" && !filepath.IsAbs(a.TokenFile) {
		fail("auth.tokenFile", "%s must begin at the root", strict.Label(a.TokenFile))
	}
	if a.TokenFile != "" && namespace != "" {
		fail("auth.tokenFile", "a provider of a namespace reads no files of Boltseal's")
	}
	switch a.Method {
	case MethodKubernetes:
		if namespace != "" {
			// Whoever chooses the address would be sent Boltseal's own token.
			fail("auth.method", "a provider of a namespace signs in with a token of its own: method %s with tokenRef", MethodToken)
		}
		if a.Role == "" {
			fail("auth.role", "it is missing: who is to sign in?")
		} else {
			name(fail, "auth.role", a.Role, oneName)
		}
		if a.Mount != "" {
			name(fail, "auth.mount", a.Mount, pathName)
		}
		if a.TokenRef != nil {
			fail("auth.tokenRef", "it is of use with method %s only", MethodToken)
		}
	case MethodToken:
		if (a.TokenRef == nil) == (a.TokenFile == "") {
			fail("auth.tokenRef", "name where the token is: either tokenRef or tokenFile")
		}
		if a.Role != "" || a.Mount != "" {
			fail("auth.role", "role and mount are of use with method %s only", MethodKubernetes)
		}
		if a.TokenRef != nil {
			a.TokenRef.Check(namespace, func(field, message string) { fail("auth.tokenRef."+field, "%s", message) })
		}
	case "":
		fail("auth.method", "it is missing: one of %s", strings.Join(methods, ", "))
	default:
		fail("auth.method", "%s is not one of %s%s", strict.Label(a.Method), strings.Join(methods, ", "), nearest.Hint(a.Method, methods))
	}
}

func (p Parameters) entries(fail func(field, format string, a ...any)) {
	if n := len(p.KV) + len(p.PKI) + len(p.Transit); n == 0 {
		fail("kv", "it is missing, and so are pki and transit: what is to be fetched?")
	} else if n > keys.MaxEntries {
		fail("kv", "%d entries, at most %d", n, keys.MaxEntries)
	}
	history := func(field string, n int) {
		if n < 0 || n > keys.MaxVersions {
			fail(field+".versionHistoryLimit", "%d is not between 1 and %d", n, keys.MaxVersions)
		}
	}
	mount := func(field, m string) {
		if m != "" {
			name(fail, field+".mount", m, pathName)
		}
	}
	for i, e := range p.KV {
		field := fmt.Sprintf("kv[%d]", i)
		mount(field, e.Mount)
		name(fail, field+".path", e.Path, pathName)
		history(field, e.VersionHistoryLimit)
		switch {
		case e.Engine < 0 || e.Engine > 2:
			fail(field+".engine", "%d is neither 1 nor 2", e.Engine)
		case e.Engine == 1 && (e.Version != 0 || e.VersionHistoryLimit > 1):
			fail(field+".version", "engine 1 keeps no versions")
		case e.Version < 0:
			fail(field+".version", "%d is no version", e.Version)
		case e.Version > 0 && e.VersionHistoryLimit > 1:
			fail(field+".versionHistoryLimit", "one version is named, so there is no history: leave one of the two out")
		}
	}
	for i, e := range p.PKI {
		field := fmt.Sprintf("pki[%d]", i)
		mount(field, e.Mount)
		if e.Issuer != "" {
			name(fail, field+".issuer", e.Issuer, oneName)
		}
	}
	for i, e := range p.Transit {
		field := fmt.Sprintf("transit[%d]", i)
		mount(field, e.Mount)
		name(fail, field+".name", e.Name, oneName)
		history(field, e.VersionHistoryLimit)
	}
}

// name refuses what would ask for another path than it seems to.
func name(fail func(field, format string, a ...any), field, value string, form *regexp.Regexp) {
	switch {
	case value == "":
		fail(field, "it is missing")
	case len(value) > maxPath || !form.MatchString(value) || path.Clean(value) != value:
		fail(field, "%s is no name in a vault: letters, digits, _, . and - only", strict.Label(value))
	}
}
