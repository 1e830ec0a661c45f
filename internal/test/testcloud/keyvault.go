package testcloud

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Rights of identities in a vault, as Azure's access policies name them.
const (
	CertificatesGet  = "certificates/get"
	CertificatesList = "certificates/list"
	SecretsGet       = "secrets/get"
	SecretsList      = "secrets/list"
	KeysGet          = "keys/get"
	KeysList         = "keys/list"
)

// apiVersions are those that Key Vault knows.
var apiVersions = []string{"7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01"}

// Version is one of a certificate or a key.
type Version struct {
	ID       string // made where it is empty
	Disabled bool
	Created  time.Time // zero = a moment after the one before
	Expires  time.Time // zero = never
	// Chain, the signer's first, and Content are those of a certificate: its secret
	// is Content, of ContentType, or where that is empty the chain in PEM.
	Chain       []*x509.Certificate
	Content     string
	ContentType string
	// Unmanaged makes the secret one that is not a certificate's.
	Unmanaged bool
	Key       crypto.PublicKey // of a key
}

// KeyVault is one vault.
type KeyVault struct {
	Host     string
	c        *Cloud
	entra    *Entra
	resource string
	page     int

	mu      sync.Mutex
	tenant  string
	rights  map[string][]string   // by client ID
	objects map[string][]*Version // by "certificates/name" and "keys/name", the oldest first
	clock   map[string]time.Time  // when the last version of each was made
}

// KeyVault starts a vault in the cloud of entra, at a host such as
// acme.vault.azure.net, which belongs to a tenant.
func (e *Entra) KeyVault(host, tenant string) *KeyVault {
	_, suffix, _ := strings.Cut(host, ".")
	v := &KeyVault{Host: host, tenant: tenant, c: e.c, entra: e, resource: "https://" + suffix, page: 2,
		rights: map[string][]string{}, objects: map[string][]*Version{}, clock: map[string]time.Time{}}
	e.allow(v.resource)
	e.c.Serve(host, v)
	return v
}

// Move gives the vault to another tenant.
func (v *KeyVault) Move(tenant string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tenant = tenant
}

func (v *KeyVault) owner() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.tenant
}

// Grant gives an identity rights, in place of those that it had.
func (v *KeyVault) Grant(client string, rights ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.rights[client] = rights
}

// Add adds a version of a certificate, or of a key where it has one, and returns
// its identifier.
func (v *KeyVault) Add(name string, ver Version) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if ver.ID == "" {
		var b [16]byte
		_, _ = rand.Read(b[:])
		ver.ID = hex.EncodeToString(b[:])
	}
	object := "certificates/" + name
	if ver.Key != nil {
		object = "keys/" + name
	}
	if ver.Created.IsZero() {
		ver.Created = v.clock[object].Add(time.Second)
		if len(v.objects[object]) == 0 {
			ver.Created = v.c.clock().Add(-24 * time.Hour)
		}
	}
	v.clock[object] = ver.Created
	if strings.Contains(ver.Content, "PRIVATE KEY") || ver.ContentType == "application/x-pkcs12" {
		v.c.keep(strings.TrimSpace(ver.Content))
	}
	v.objects[object] = append(v.objects[object], &ver)
	return ver.ID
}

// Change changes a version of a certificate.
func (v *KeyVault) Change(name, id string, change func(*Version)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, ver := range v.objects["certificates/"+name] {
		if ver.ID == id {
			change(ver)
		}
	}
}

// Delete deletes a certificate with all its versions.
func (v *KeyVault) Delete(name string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.objects, "certificates/"+name)
}

func (v *KeyVault) fail(w http.ResponseWriter, status int, code, inner, message string) {
	e := map[string]any{"code": code, "message": message}
	if inner != "" {
		e["innererror"] = map[string]any{"code": inner}
	}
	replyJSON(w, status, map[string]any{"error": e})
}

// challenge says how to sign in.
func (v *KeyVault) challenge(w http.ResponseWriter, message string) {
	w.Header().Set("WWW-Authenticate", `Bearer authorization="https://`+v.entra.host+"/"+v.owner()+`", resource="`+v.resource+`"`)
	v.fail(w, http.StatusUnauthorized, "Unauthorized", "", message)
}

func (v *KeyVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		v.challenge(w, "AKV10000: Request is missing a Bearer or PoP token.")
		return
	}
	v.c.keep(token)
	claims, err := v.entra.issuer.verify(token, v.c.clock())
	switch {
	case err != nil:
		v.challenge(w, "AKV10001: Token is invalid or has expired.")
		return
	case claims.Audience != v.resource:
		v.challenge(w, "AKV10022: Invalid audience. Expected "+v.resource+", found: "+claims.Audience)
		return
	case claims.Tenant != v.owner():
		v.challenge(w, "AKV10032: Invalid issuer. Expected one of https://sts.windows.net/"+v.owner()+"/, found https://sts.windows.net/"+claims.Tenant+"/")
		return
	}
	if version := r.URL.Query().Get("api-version"); version == "" {
		v.fail(w, http.StatusBadRequest, "BadParameter", "", "api-version must be specified")
		return
	} else if !slices.Contains(apiVersions, version) {
		v.fail(w, http.StatusBadRequest, "BadParameter", "", "The specified version ("+version+") is not recognized. Consider using the latest supported version.")
		return
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if r.Method != http.MethodGet || len(parts) < 2 || len(parts) > 3 || !slices.Contains([]string{"certificates", "secrets", "keys"}, parts[0]) {
		v.fail(w, http.StatusBadRequest, "BadParameter", "", "Method or path is not known")
		return
	}
	version := ""
	if len(parts) == 3 {
		version = parts[2]
	}
	need := parts[0] + "/get"
	if version == "versions" {
		need = parts[0] + "/list"
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !slices.Contains(v.rights[claims.App], need) {
		v.fail(w, http.StatusForbidden, "Forbidden", "ForbiddenByPolicy", "The user, group or application 'appid="+claims.App+"' does not have "+parts[0]+" "+need+" permission on key vault '"+v.Host+"'.\r\nhelp: https://go.microsoft.com/fwlink/")
		return
	}
	object := parts[0]
	if object == "secrets" {
		object = "certificates" // there are no other secrets here
	}
	versions := v.objects[object+"/"+parts[1]]
	what := map[string]string{"certificates": "Certificate", "secrets": "Secret", "keys": "Key"}[parts[0]]
	if len(versions) == 0 {
		v.fail(w, http.StatusNotFound, what+"NotFound", "", "A "+what+" with (name/id) "+parts[1]+" was not found in this key vault.")
		return
	}
	if version == "versions" {
		v.list(w, r, parts[0], parts[1], versions)
		return
	}
	found := versions[len(versions)-1]
	if version != "" {
		i := slices.IndexFunc(versions, func(ver *Version) bool { return ver.ID == version })
		if i < 0 {
			v.fail(w, http.StatusNotFound, what+"NotFound", "", "A "+what+" with (name/id) "+parts[1]+"/"+version+" was not found in this key vault.")
			return
		}
		found = versions[i]
	}
	v.show(w, parts[0], parts[1], found)
}

func (v *KeyVault) id(kind, name, version string) string {
	return "https://" + v.Host + "/" + kind + "/" + name + "/" + version
}

func versionAttributes(ver *Version) map[string]any {
	a := map[string]any{"enabled": !ver.Disabled, "created": ver.Created.Unix(), "updated": ver.Created.Unix(), "recoveryLevel": "Recoverable+Purgeable"}
	if !ver.Expires.IsZero() {
		a["exp"] = ver.Expires.Unix()
	}
	return a
}

// list answers a page of versions. Their order is not that of time.
func (v *KeyVault) list(w http.ResponseWriter, r *http.Request, kind, name string, versions []*Version) {
	sorted := slices.Clone(versions)
	slices.SortFunc(sorted, func(a, b *Version) int { return strings.Compare(a.ID, b.ID) })
	from, _ := strconv.Atoi(r.URL.Query().Get("$skiptoken"))
	from = min(max(from, 0), len(sorted))
	to := min(from+v.page, len(sorted))
	items := []any{}
	field := "id"
	if kind == "keys" {
		field = "kid"
	}
	for _, ver := range sorted[from:to] {
		items = append(items, map[string]any{field: v.id(kind, name, ver.ID), "attributes": versionAttributes(ver)})
	}
	var next any
	if to < len(sorted) {
		q := url.Values{"api-version": {r.URL.Query().Get("api-version")}, "$skiptoken": {strconv.Itoa(to)}}
		next = "https://" + v.Host + "/" + kind + "/" + name + "/versions?" + q.Encode()
	}
	replyJSON(w, http.StatusOK, map[string]any{"value": items, "nextLink": next})
}

func (v *KeyVault) show(w http.ResponseWriter, kind, name string, ver *Version) {
	out := map[string]any{"id": v.id(kind, name, ver.ID), "attributes": versionAttributes(ver)}
	switch kind {
	case "certificates":
		out["kid"], out["sid"] = v.id("keys", name, ver.ID), v.id("secrets", name, ver.ID)
		out["cer"] = base64.StdEncoding.EncodeToString(ver.Chain[0].Raw)
	case "secrets":
		if ver.Disabled {
			v.fail(w, http.StatusForbidden, "Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled secret.")
			return
		}
		out["value"], out["contentType"] = ver.Content, ver.ContentType
		if ver.Content == "" {
			var pem strings.Builder
			for _, c := range ver.Chain {
				pem.WriteString("-----BEGIN CERTIFICATE-----\n" + base64.StdEncoding.EncodeToString(c.Raw) + "\n-----END CERTIFICATE-----\n")
			}
			out["value"], out["contentType"] = pem.String(), "application/x-pem-file"
		}
		if !ver.Unmanaged {
			out["managed"], out["kid"] = true, v.id("keys", name, ver.ID)
		}
	case "keys":
		delete(out, "id")
		out["key"] = webKey(ver.Key, v.id(kind, name, ver.ID))
	}
	replyJSON(w, http.StatusOK, out)
}

// webKey is a public key as JSON (RFC 7518, section 6).
func webKey(key crypto.PublicKey, kid string) map[string]any {
	enc := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }
	switch k := key.(type) {
	case *rsa.PublicKey:
		return map[string]any{"kid": kid, "kty": "RSA", "key_ops": []string{"verify"}, "n": enc(k.N), "e": enc(big.NewInt(int64(k.E)))}
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
		return map[string]any{"kid": kid, "kty": "EC", "key_ops": []string{"verify"}, "crv": k.Curve.Params().Name,
			"x": base64.RawURLEncoding.EncodeToString(x), "y": base64.RawURLEncoding.EncodeToString(y)}
	}
	return nil
}
