package testcloud

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// GoogleVersion is a version of a key of Cloud KMS.
type GoogleVersion struct {
	State     string // "" = ENABLED
	Algorithm string // "" = EC_SIGN_P256_SHA256
	Public    any    // what x509.MarshalPKIXPublicKey takes
	Destroy   time.Time
	// What is wrong with the answer for its public key: another checksum, or none.
	WrongChecksum, NoChecksum bool
}

// GoogleAuthority is one of Certificate Authority Service.
type GoogleAuthority struct {
	State string   // "" = ENABLED
	PEM   []string // its own certificate first
}

// GoogleKMS is Google's Cloud KMS, Certificate Authority Service, Artifact Registry
// (see Registry), and what gives tokens for them: the metadata server of GKE, the Security Token Service and IAM
// Credentials.
type GoogleKMS struct {
	// Audience and Subject are who a Pod is to Workload Identity Federation.
	Audience, Subject string
	// Account is whom it may be besides.
	Account string
	// PageSize bounds a page. 0 means what is asked for.
	PageSize int

	c      *Cloud
	issuer *Issuer

	mu          sync.Mutex
	forbidden   bool
	life        time.Duration
	metadata    bool
	tokens      map[string]googleToken
	pulls       map[string]googlePull            // of registries
	elsewhere   string                           // where registries send for tokens
	keys        map[string]map[int]GoogleVersion // by CryptoKey and number
	authorities map[string]GoogleAuthority
}

type googleToken struct {
	until     time.Time
	federated bool // may only ask for a token of Account
}

// Hosts of Google's.
const (
	GoogleKMSHost       = "cloudkms.googleapis.com"
	GoogleCAHost        = "privateca.googleapis.com"
	googleSTSHost       = "sts.googleapis.com"
	googleIAMHost       = "iamcredentials.googleapis.com"
	googleMetadataHost  = "metadata.google.internal"
	googleScope         = "https://www.googleapis.com/auth/cloud-platform"
	googleMaxPage       = 1000
	googleExchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// GoogleKMS starts the services. Tokens of the issuer are taken for an audience and
// a subject.
func (c *Cloud) GoogleKMS(issuer *Issuer, audience, subject, account string) *GoogleKMS {
	g := &GoogleKMS{Audience: audience, Subject: subject, Account: account, c: c, issuer: issuer, metadata: true, life: time.Hour,
		tokens: map[string]googleToken{}, pulls: map[string]googlePull{}, keys: map[string]map[int]GoogleVersion{}, authorities: map[string]GoogleAuthority{}}
	c.Serve(GoogleKMSHost, http.HandlerFunc(g.kms))
	c.Serve(GoogleCAHost, http.HandlerFunc(g.ca))
	c.Serve(googleSTSHost, http.HandlerFunc(g.sts))
	c.Serve(googleIAMHost, http.HandlerFunc(g.iam))
	c.Serve(googleMetadataHost, http.HandlerFunc(g.serveMetadata))
	return g
}

func (g *GoogleKMS) change(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

// Version sets a version of a CryptoKey.
func (g *GoogleKMS) Version(key string, number int, v GoogleVersion) {
	g.change(func() {
		if g.keys[key] == nil {
			g.keys[key] = map[int]GoogleVersion{}
		}
		g.keys[key][number] = v
	})
}

// Authority sets an authority by its whole name.
func (g *GoogleKMS) Authority(name string, ca GoogleAuthority) {
	g.change(func() { g.authorities[name] = ca })
}

// Forbid has the identity have no role, or all of them again.
func (g *GoogleKMS) Forbid(on bool) { g.change(func() { g.forbidden = on }) }

// Life is how long tokens live from now on.
func (g *GoogleKMS) Life(d time.Duration) { g.change(func() { g.life = d }) }

// Metadata has the metadata server know the Pod, or not.
func (g *GoogleKMS) Metadata(on bool) { g.change(func() { g.metadata = on }) }

// Revoke takes back all tokens.
func (g *GoogleKMS) Revoke() { g.change(func() { clear(g.tokens); clear(g.pulls) }) }

// page cuts a list as pageSize and pageToken ask for.
func (g *GoogleKMS) page(w http.ResponseWriter, r *http.Request, n int) (from, to int, next string, ok bool) {
	size, err := strconv.Atoi(r.FormValue("pageSize"))
	if r.FormValue("pageSize") == "" {
		size, err = 100, nil
	}
	if err != nil || size < 0 {
		googleFail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid page size")
		return 0, 0, "", false
	}
	if size = min(size, googleMaxPage); g.PageSize > 0 {
		size = min(size, g.PageSize)
	}
	if token := r.FormValue("pageToken"); token != "" {
		if _, err := fmt.Sscanf(token, "from-%d", &from); err != nil || from > n {
			googleFail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "Invalid page token")
			return 0, 0, "", false
		}
	}
	if to = min(from+size, n); to < n {
		next = fmt.Sprintf("from-%d", to)
	}
	return from, to, next, true
}

// kms answers for Cloud KMS.
func (g *GoogleKMS) kms(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	name, rest, listed := strings.Cut(path, "/cryptoKeyVersions")
	versions, known := g.keys[name]
	number, public := strings.CutSuffix(strings.TrimPrefix(rest, "/"), "/publicKey")
	n, err := strconv.Atoi(number)
	v, there := versions[n]
	switch {
	case !g.allowed(w, r, false):
	case !ok || !listed || r.Method != http.MethodGet:
		googleFail(w, http.StatusNotFound, "NOT_FOUND", "The requested URL was not found on this server.")
	case !known:
		googleFail(w, http.StatusNotFound, "NOT_FOUND", "CryptoKey "+name+" not found.")
	case rest == "":
		numbers := slices.Sorted(maps.Keys(versions))
		from, to, next, ok := g.page(w, r, len(numbers))
		if !ok {
			return
		}
		var page []any
		for _, n := range numbers[from:to] {
			page = append(page, versionJSON(name, n, versions[n]))
		}
		replyJSON(w, http.StatusOK, map[string]any{"cryptoKeyVersions": page, "nextPageToken": next, "totalSize": len(numbers)})
	case err != nil || !there:
		googleFail(w, http.StatusNotFound, "NOT_FOUND", "CryptoKeyVersion "+path+" not found.")
	case !public:
		replyJSON(w, http.StatusOK, versionJSON(name, n, v))
	case v.State != "" && v.State != "ENABLED":
		googleFail(w, http.StatusBadRequest, "FAILED_PRECONDITION", path+" is not enabled, current state is: "+v.State+".")
	default:
		publicKey(w, name, n, v)
	}
}

func algorithmOf(v GoogleVersion) string {
	if v.Algorithm == "" {
		return "EC_SIGN_P256_SHA256"
	}
	return v.Algorithm
}

func versionJSON(key string, n int, v GoogleVersion) map[string]any {
	m := map[string]any{"name": fmt.Sprintf("%s/cryptoKeyVersions/%d", key, n), "state": "ENABLED", "protectionLevel": "SOFTWARE", "algorithm": algorithmOf(v),
		"createTime": time.Date(2026, 1, n, 3, 4, 5, 678901234, time.UTC).Format(time.RFC3339Nano)}
	if v.State != "" {
		m["state"] = v.State
	}
	if !v.Destroy.IsZero() {
		m["destroyTime"] = v.Destroy.UTC().Format(time.RFC3339Nano)
	}
	return m
}

func publicKey(w http.ResponseWriter, key string, n int, v GoogleVersion) {
	der, err := x509.MarshalPKIXPublicKey(v.Public)
	if err != nil {
		googleFail(w, http.StatusBadRequest, "INVALID_ARGUMENT", "The algorithm has no public key.")
		return
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	sum := crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli))
	if v.WrongChecksum {
		sum++
	}
	m := map[string]any{"name": fmt.Sprintf("%s/cryptoKeyVersions/%d", key, n), "pem": text, "algorithm": algorithmOf(v), "protectionLevel": "SOFTWARE"}
	if !v.NoChecksum {
		m["pemCrc32c"] = strconv.FormatUint(uint64(sum), 10) // 64-bit integers are text in Google's JSON
	}
	replyJSON(w, http.StatusOK, m)
}

// ca answers for Certificate Authority Service.
func (g *GoogleKMS) ca(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	of := func(name string) map[string]any {
		ca := g.authorities[name]
		state := ca.State
		if state == "" {
			state = "ENABLED"
		}
		return map[string]any{"name": name, "type": "SELF_SIGNED", "tier": "ENTERPRISE", "state": state, "pemCaCertificates": ca.PEM}
	}
	_, known := g.authorities[path]
	pool, listed := strings.CutSuffix(path, "/certificateAuthorities")
	var names []string
	for n := range g.authorities {
		if strings.HasPrefix(n, pool+"/certificateAuthorities/") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	switch {
	case !g.allowed(w, r, false):
	case !ok || r.Method != http.MethodGet:
		googleFail(w, http.StatusNotFound, "NOT_FOUND", "The requested URL was not found on this server.")
	case known:
		replyJSON(w, http.StatusOK, of(path))
	case !listed || len(names) == 0:
		googleFail(w, http.StatusNotFound, "NOT_FOUND", "Resource '"+path+"' was not found")
	default:
		from, to, next, ok := g.page(w, r, len(names))
		if !ok {
			return
		}
		var page []any
		for _, n := range names[from:to] {
			page = append(page, of(n))
		}
		replyJSON(w, http.StatusOK, map[string]any{"certificateAuthorities": page, "nextPageToken": next})
	}
}
