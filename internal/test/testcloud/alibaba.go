package testcloud

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// AlibabaAudience is for whom an OIDC token of RRSA must be made out.
const AlibabaAudience = "sts.aliyuncs.com"

// AlibabaMetadataHost is where a machine of Alibaba Cloud asks who it is.
const AlibabaMetadataHost = "100.100.100.200"

// alibabaTime is how Alibaba Cloud writes a time.
const alibabaTime = "2006-01-02T15:04:05Z"

// alibabaSkew is how far a request's time may be off.
const alibabaSkew = 15 * time.Minute

// AlibabaRole is a RAM role that a ServiceAccount may assume.
type AlibabaRole struct {
	Provider string // ARN of the OIDC provider
	Issuer   *Issuer
	Subject  string
}

// alibabaKey is a role's temporary key.
type alibabaKey struct {
	id, secret, token, role string
	ends                    time.Time
}

// alibabaInstance is one of Container Registry.
type alibabaInstance struct {
	region string
	pull   []string // roles
	users  map[string]alibabaUser
	tokens map[string]string // repository by bearer token
}

type alibabaUser struct {
	password string
	ends     time.Time
}

// Alibaba is Alibaba Cloud: STS, the metadata of a machine, and Container Registry.
type Alibaba struct {
	c *Cloud

	mu        sync.Mutex
	life      time.Duration
	roles     map[string]AlibabaRole // by ARN
	keys      map[string]alibabaKey  // by access key
	nonces    map[string]bool
	metadata  map[string]time.Time // tokens of the metadata service
	machine   string               // the machine's role
	instances map[string]*alibabaInstance
	elsewhere string // host of a token server that is not theirs
}

// Alibaba starts Alibaba Cloud's STS, at its host without a region too, and Container
// Registry's API in a region.
func (c *Cloud) Alibaba(region string) *Alibaba {
	a := &Alibaba{c: c, life: time.Hour, roles: map[string]AlibabaRole{}, keys: map[string]alibabaKey{}, nonces: map[string]bool{},
		metadata: map[string]time.Time{}, instances: map[string]*alibabaInstance{}}
	for _, host := range []string{"sts", "sts." + region, "sts-vpc." + region} {
		c.Serve(host+".aliyuncs.com", http.HandlerFunc(a.sts))
	}
	for _, host := range []string{"cr." + region, "cr-vpc." + region} {
		c.Serve(host+".aliyuncs.com", a.api(region))
	}
	return a
}

// Role adds a role by its ARN.
func (a *Alibaba) Role(arn string, r AlibabaRole) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roles[arn] = r
}

// Life sets how long temporary keys are good.
func (a *Alibaba) Life(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.life = d
}

func alibabaFail(w http.ResponseWriter, status int, code, message string) {
	replyJSON(w, status, map[string]any{"RequestId": "E069EB86-E6AD-4A98-ADDE-0E993390239A", "HostId": "aliyuncs.com", "Code": code, "Message": message})
}

// key makes a temporary key of a role; the lock is held.
func (a *Alibaba) key(role string) alibabaKey {
	k := alibabaKey{"STS." + rand.Text(), rand.Text() + rand.Text(), "CAIS" + rand.Text() + rand.Text(), role, a.c.clock().Add(a.life).UTC().Truncate(time.Second)}
	a.keys[k.id] = k
	a.c.keep(k.secret)
	a.c.keep(k.token)
	return k
}

// sts is AssumeRoleWithOIDC.
func (a *Alibaba) sts(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	at, err := time.Parse(alibabaTime, q.Get("Timestamp"))
	now := a.c.clock()
	switch {
	case r.ParseForm() != nil || r.Method != http.MethodPost:
		alibabaFail(w, http.StatusBadRequest, "InvalidParameter", "The request is no form.")
		return
	case q.Get("Version") != "2015-04-01":
		alibabaFail(w, http.StatusNotFound, "InvalidVersion", "Specified parameter Version is not valid.")
		return
	case q.Get("Action") != "AssumeRoleWithOIDC":
		alibabaFail(w, http.StatusNotFound, "InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
		return
	case q.Get("Format") != "JSON":
		alibabaFail(w, http.StatusBadRequest, "InvalidFormat", "This is answered in JSON only.")
		return
	case err != nil || at.Sub(now).Abs() > alibabaSkew:
		alibabaFail(w, http.StatusBadRequest, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
		return
	}
	arn, token := r.PostForm.Get("RoleArn"), r.PostForm.Get("OIDCToken")
	a.c.keep(token)
	a.mu.Lock()
	defer a.mu.Unlock()
	role, ok := a.roles[arn]
	if !ok {
		alibabaFail(w, http.StatusNotFound, "EntityNotExist.Role", "The role not exists.")
		return
	}
	if role.Provider != r.PostForm.Get("OIDCProviderArn") || role.Issuer == nil {
		alibabaFail(w, http.StatusNotFound, "EntityNotExist.OIDCProvider", "The OIDC Provider not exists.")
		return
	}
	claims, err := role.Issuer.verify(token, now)
	switch {
	case errors.Is(err, errExpired):
		alibabaFail(w, http.StatusBadRequest, "AuthenticationFail.OIDCToken.Expired", "This JsonWebToken is expired.")
	case err != nil || claims.Issuer != role.Issuer.Name:
		alibabaFail(w, http.StatusBadRequest, "AuthenticationFail.OIDCToken.Invalid", "This JsonWebToken is invalid.")
	case claims.Audience != AlibabaAudience:
		alibabaFail(w, http.StatusBadRequest, "AuthenticationFail.OIDCToken.AudienceNotMatch", "The audience of the JsonWebToken is not that of the OIDC Provider.")
	case claims.Subject != role.Subject:
		alibabaFail(w, http.StatusForbidden, "AuthenticationFail.NoPermission", "This operator is not authorized to assume the role.")
	case r.PostForm.Get("RoleSessionName") == "":
		alibabaFail(w, http.StatusBadRequest, "MissingRoleSessionName", "Role Session Name must not be null.")
	default:
		k := a.key(arn)
		replyJSON(w, http.StatusOK, map[string]any{"RequestId": "E069EB86-E6AD-4A98-ADDE-0E993390239A",
			"AssumedRoleUser": map[string]any{"Arn": arn + "/" + r.PostForm.Get("RoleSessionName"), "AssumedRoleId": "300000000000000001:boltseal"},
			"OIDCTokenInfo":   map[string]any{"Subject": claims.Subject, "Issuer": claims.Issuer, "ClientIds": claims.Audience},
			"Credentials":     map[string]any{"AccessKeyId": k.id, "AccessKeySecret": k.secret, "SecurityToken": k.token, "Expiration": k.ends.Format(alibabaTime)}})
	}
}

// Metadata starts the metadata service of a machine with a role, in its hardened mode;
// "" = it has none. The role's ARN is acs:ram::1:role/NAME.
func (a *Alibaba) Metadata(role string) {
	a.mu.Lock()
	a.machine = role
	a.mu.Unlock()
	a.c.Serve(AlibabaMetadataHost, http.HandlerFunc(a.describe))
}

func (a *Alibaba) describe(w http.ResponseWriter, r *http.Request) {
	const list = "/latest/meta-data/ram/security-credentials/"
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.c.clock()
	if r.URL.Path == "/latest/api/token" {
		seconds, err := time.ParseDuration(r.Header.Get("X-aliyun-ecs-metadata-token-ttl-seconds") + "s")
		if r.Method != http.MethodPut || err != nil || seconds < time.Second || seconds > 6*time.Hour {
			http.Error(w, "Bad Request", http.StatusBadRequest)
			return
		}
		token := rand.Text() + rand.Text()
		a.metadata[token] = now.Add(seconds)
		a.c.keep(token)
		_, _ = io.WriteString(w, token)
		return
	}
	name, found := strings.CutPrefix(r.URL.Path, list)
	switch {
	case r.Method != http.MethodGet || !now.Before(a.metadata[r.Header.Get("X-aliyun-ecs-metadata-token")]):
		http.Error(w, "Forbidden", http.StatusForbidden)
	case !found || a.machine == "" || name != "" && name != a.machine:
		http.Error(w, "Not Found", http.StatusNotFound)
	case name == "":
		_, _ = io.WriteString(w, a.machine)
	default:
		k := a.key("acs:ram::1:role/" + name)
		replyJSON(w, http.StatusOK, map[string]any{"Code": "Success", "AccessKeyId": k.id, "AccessKeySecret": k.secret, "SecurityToken": k.token,
			"LastUpdated": now.UTC().Format(alibabaTime), "Expiration": k.ends.Format(alibabaTime)})
	}
}

// api is cr 2018-12-01 in a region.
func (a *Alibaba) api(region string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		k, status, code := a.signed(r)
		if code != "" {
			alibabaFail(w, status, code, "Specified signature does not match what is expected of this request.")
			return
		}
		switch {
		case r.Header.Get("x-acs-version") != "2018-12-01":
			alibabaFail(w, http.StatusNotFound, "InvalidVersion", "Specified parameter Version is not valid.")
			return
		case r.Header.Get("x-acs-action") != "GetAuthorizationToken" || r.Method != http.MethodPost:
			alibabaFail(w, http.StatusNotFound, "InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
			return
		}
		in := a.instances[r.URL.Query().Get("InstanceId")]
		switch {
		case in == nil || in.region != region:
			alibabaFail(w, http.StatusNotFound, "INSTANCE_NOT_EXIST", "instance is not exist")
		case !slices.Contains(in.pull, k.role):
			alibabaFail(w, http.StatusForbidden, "NoPermission", "You are not authorized to do this action: cr:GetAuthorizationToken.")
		default:
			user, password := "cr_temp_user", rand.Text()+rand.Text()
			in.users[user+":"+password] = alibabaUser{password, k.ends}
			a.c.keep(password)
			replyJSON(w, http.StatusOK, map[string]any{"RequestId": "E069EB86-E6AD-4A98-ADDE-0E993390239A", "Code": "success", "IsSuccess": true,
				"TempUsername": user, "AuthorizationToken": password, "ExpireTime": k.ends.UnixMilli()})
		}
	}
}

// signed checks a request's V3 signature; the lock is held.
func (a *Alibaba) signed(r *http.Request) (k alibabaKey, status int, code string) {
	const algorithm = "ACS3-HMAC-SHA256 "
	given := map[string]string{}
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), algorithm)
	for part := range strings.SplitSeq(text, ",") {
		name, value, _ := strings.Cut(part, "=")
		given[strings.TrimSpace(name)] = value
	}
	k, known := a.keys[given["Credential"]]
	at, err := time.Parse(alibabaTime, r.Header.Get("x-acs-date"))
	now := a.c.clock()
	body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	sum := sha256.Sum256(body)
	nonce := r.Header.Get("x-acs-signature-nonce")
	switch {
	case !ok:
		return k, http.StatusBadRequest, "MissingAuthorization"
	case !known:
		return k, http.StatusNotFound, "InvalidAccessKeyId.NotFound"
	case r.Header.Get("x-acs-security-token") != k.token:
		return k, http.StatusBadRequest, "InvalidSecurityToken.Malformed"
	case !now.Before(k.ends):
		return k, http.StatusBadRequest, "InvalidSecurityToken.Expired"
	case err != nil || at.Sub(now).Abs() > alibabaSkew:
		return k, http.StatusBadRequest, "InvalidTimeStamp.Expired"
	case nonce == "" || a.nonces[nonce]:
		return k, http.StatusBadRequest, "SignatureNonceUsed"
	case r.Header.Get("x-acs-content-sha256") != hex.EncodeToString(sum[:]):
		return k, http.StatusBadRequest, "SignatureDoesNotMatch"
	}
	names := strings.Split(given["SignedHeaders"], ";")
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-acs-") && !slices.Contains(names, name) {
			return k, http.StatusBadRequest, "SignatureDoesNotMatch"
		}
	}
	if !slices.IsSorted(names) || !slices.Contains(names, "host") {
		return k, http.StatusBadRequest, "SignatureDoesNotMatch"
	}
	var b strings.Builder
	b.WriteString(r.Method + "\n" + r.URL.EscapedPath() + "\n" + canonicalQuery(r.URL.Query()) + "\n")
	for _, name := range names {
		value := r.Host
		if name != "host" {
			value = strings.Join(r.Header.Values(name), ",")
		}
		b.WriteString(name + ":" + strings.TrimSpace(value) + "\n")
	}
	b.WriteString("\n" + given["SignedHeaders"] + "\n" + hex.EncodeToString(sum[:]))
	canonical := sha256.Sum256([]byte(b.String()))
	mac := hmac.New(sha256.New, []byte(k.secret))
	mac.Write([]byte(strings.TrimSpace(algorithm) + "\n" + hex.EncodeToString(canonical[:])))
	if !hmac.Equal([]byte(given["Signature"]), []byte(hex.EncodeToString(mac.Sum(nil)))) {
		return k, http.StatusBadRequest, "SignatureDoesNotMatch"
	}
	a.nonces[nonce] = true
	return k, 0, ""
}

func canonicalQuery(q url.Values) string {
	return strings.NewReplacer("+", "%20", "*", "%2A", "%7E", "~").Replace(q.Encode())
}
