package testcloud

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

// ecrLife is how long an authorization token is good.
const ecrLife = 12 * time.Hour

// ECR is Amazon ECR in one region: its API (Amazon ECR API Reference,
// GetAuthorizationToken), and registries.
type ECR struct {
	Region string
	a      *AWS

	mu        sync.Mutex
	allowed   map[string]bool // roles that may do ecr:GetAuthorizationToken
	readers   map[string]bool // role and registry's account
	throttled bool
	life      time.Duration
	passwords map[string]ecrToken
	instead   http.HandlerFunc
	proxy     string
}

type ecrToken struct {
	role  string
	until time.Time
}

// ECR starts the API of a region, at its hosts.
func (a *AWS) ECR(region string) *ECR {
	e := &ECR{Region: region, a: a, allowed: map[string]bool{}, readers: map[string]bool{}, life: ecrLife, passwords: map[string]ecrToken{}}
	for _, host := range e.APIs() {
		a.c.Serve(host, http.HandlerFunc(e.api))
	}
	return e
}

// APIs are the hosts of the region's API: the usual one, and those for FIPS and both
// kinds of addresses.
func (e *ECR) APIs() []string {
	return []string{"api.ecr." + e.Region + "." + awsDomain(e.Region), "api.ecr-fips." + e.Region + ".amazonaws.com", "ecr." + e.Region + ".api.aws", "ecr-fips." + e.Region + ".api.aws"}
}

func (e *ECR) change(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

// Allow has a role's policy allow ecr:GetAuthorizationToken, and reading the
// registries of accounts.
func (e *ECR) Allow(role string, accounts ...string) {
	e.change(func() {
		e.allowed[role] = true
		for _, a := range accounts {
			e.readers[role+" "+a] = true
		}
	})
}

// Throttle has the API ask to be left alone, which it does by HTTP 400.
func (e *ECR) Throttle(on bool) { e.change(func() { e.throttled = on }) }

// Life sets how long authorization tokens are good.
func (e *ECR) Life(d time.Duration) { e.change(func() { e.life = d }) }

// Revoke ends all authorization tokens.
func (e *ECR) Revoke() { e.change(func() { clear(e.passwords) }) }

// Instead has the API answered by h once a request's signature is right; nil = as AWS
// does.
func (e *ECR) Instead(h http.HandlerFunc) { e.change(func() { e.instead = h }) }

// Proxy sets the proxyEndpoint of answers; "" = that of the account that was asked for.
func (e *ECR) Proxy(endpoint string) { e.change(func() { e.proxy = endpoint }) }

// Keep notes what must never be seen in an error.
func (e *ECR) Keep(secret string) { e.a.c.keep(secret) }

const ecrTarget = "AmazonEC2ContainerRegistry_V20150921.GetAuthorizationToken"

var awsAccount = regexp.MustCompile(`^[0-9]{12}$`)

// api answers for GetAuthorizationToken (AWS JSON 1.1).
func (e *ECR) api(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	as, code, message := e.a.signed(r, body, e.Region, "ecr")
	var in struct {
		RegistryIDs []string `json:"registryIds"`
	}
	e.mu.Lock()
	instead := e.instead
	e.mu.Unlock()
	if code == "" && instead != nil {
		instead(w, r)
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	valid := true
	shape := json.Unmarshal(body, &in)
	for _, id := range in.RegistryIDs {
		valid = valid && awsAccount.MatchString(id)
	}
	switch {
	case code != "":
		awsFail(w, http.StatusBadRequest, code, message)
	case e.throttled:
		awsFail(w, http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
	case r.Method != http.MethodPost || r.URL.Path != "/" || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || shape != nil:
		awsFail(w, http.StatusBadRequest, "SerializationException", "")
	case r.Header.Get("X-Amz-Target") != ecrTarget:
		awsFail(w, http.StatusBadRequest, "UnknownOperationException", "")
	case !valid || len(in.RegistryIDs) > 10:
		awsFail(w, http.StatusBadRequest, "InvalidParameterException", "Invalid parameter at 'registryIds' failed to satisfy constraint")
	case !e.allowed[as.role]:
		awsFail(w, http.StatusBadRequest, "AccessDeniedException", "User: "+as.role+" is not authorized to perform: ecr:GetAuthorizationToken on resource: *")
	default:
		if len(in.RegistryIDs) == 0 {
			in.RegistryIDs = []string{accountOf(as.role)}
		}
		var data []any
		for _, id := range in.RegistryIDs {
			proxy := e.proxy
			if proxy == "" {
				proxy = "https://" + id + ".dkr.ecr." + e.Region + "." + awsDomain(e.Region)
			}
			until := e.a.c.clock().Add(e.life)
			data = append(data, map[string]any{"authorizationToken": e.issue(as.role, until), "expiresAt": float64(until.UnixMilli()) / 1000, "proxyEndpoint": proxy})
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		_ = json.NewEncoder(w).Encode(map[string]any{"authorizationData": data})
	}
}

// issue makes a password of a role, and the token that holds it.
func (e *ECR) issue(role string, until time.Time) string {
	password := base64.StdEncoding.EncodeToString([]byte(`{"payload":"` + rand.Text() + rand.Text() + `","datakey":"` + rand.Text() + rand.Text() + `","version":"2","type":"DATA_KEY"}`))
	token := base64.StdEncoding.EncodeToString([]byte("AWS:" + password))
	e.a.c.keep(password)
	e.a.c.keep(token)
	e.passwords[password] = ecrToken{role, until}
	return token
}

// Registry starts the registry of an account at a host. What it holds is content's;
// nil = nothing.
func (e *ECR) Registry(host string, content http.Handler) {
	id, _, _ := strings.Cut(host, ".")
	e.a.c.Serve(host, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fail := func(status int, code, message string) {
			if status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Basic realm="https://`+host+`/",service="ecr.amazonaws.com"`)
			}
			replyJSON(w, status, map[string]any{"errors": []any{map[string]any{"code": code, "message": message}}})
		}
		name, password, ok := r.BasicAuth()
		e.a.c.keep(password)
		e.mu.Lock()
		token, known := e.passwords[password]
		may := e.readers[token.role+" "+id]
		e.mu.Unlock()
		switch {
		case !ok:
			fail(http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized")
		case name != "AWS" || !known:
			fail(http.StatusUnauthorized, "DENIED", "Not Authorized")
		case !e.a.c.clock().Before(token.until):
			fail(http.StatusForbidden, "DENIED", "Your authorization token has expired. Reauthenticate and try again.")
		case r.URL.Path == "/v2/":
			w.WriteHeader(http.StatusOK)
		case !may:
			fail(http.StatusForbidden, "DENIED", "User: "+token.role+" is not authorized to perform: ecr:BatchGetImage on resource: arn:aws:ecr:"+e.Region+":"+id+":repository because no resource-based policy allows the ecr:BatchGetImage action")
		case content == nil:
			fail(http.StatusNotFound, "NAME_UNKNOWN", "The repository does not exist in the registry with id '"+id+"'")
		default:
			content.ServeHTTP(w, r)
		}
	}))
}
