package testcloud

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// awsSessionLife is how long a role's session is good.
const awsSessionLife = time.Hour

// AWS is what the fakes of AWS's services have in common: roles, and the sessions that were
// given away for them. Requests are checked by their signature (AWS Signature
// Version 4).
type AWS struct {
	c      *Cloud
	issuer *Issuer

	mu           sync.Mutex
	roles        map[string]string // ARN -> the subject that it trusts
	associations map[string]string // of EKS Pod Identity: subject -> role's ARN
	sessions     map[string]awsRoleSession
	life         time.Duration
}

type awsRoleSession struct {
	role, secret, token string
	until               time.Time
}

// AWS starts an AWS without services. The issuer is a cluster's, whose tokens its IAM
// knows.
func (c *Cloud) AWS(issuer *Issuer) *AWS {
	return &AWS{c: c, issuer: issuer, roles: map[string]string{}, associations: map[string]string{}, sessions: map[string]awsRoleSession{}, life: awsSessionLife}
}

// Trust has a role trust a subject of the issuer's tokens (IRSA).
func (a *AWS) Trust(role, subject string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.roles[role] = subject
}

// Sessions sets how long sessions are good; below 0 they have ended already.
func (a *AWS) Sessions(life time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.life = life
}

// EndSessions has all sessions forgotten, as where an administrator revokes them.
func (a *AWS) EndSessions() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.sessions)
}

// Session makes a session of a role.
func (a *AWS) Session(role string) (id, secret, token string, until time.Time) {
	a.mu.Lock()
	life := a.life
	a.mu.Unlock()
	return a.session(role, life)
}

func (a *AWS) session(role string, life time.Duration) (id, secret, token string, until time.Time) {
	id, secret, token = "ASIA"+rand.Text()[:16], rand.Text()+rand.Text()[:14], rand.Text()+rand.Text()+rand.Text()
	a.c.keep(secret)
	a.c.keep(token)
	a.mu.Lock()
	defer a.mu.Unlock()
	until = a.c.clock().Add(life)
	a.sessions[id] = awsRoleSession{role, secret, token, until}
	return id, secret, token, until
}

// accountOf is a role's.
func accountOf(role string) string {
	if parts := strings.Split(role, ":"); len(parts) > 4 {
		return parts[4]
	}
	return ""
}

// STS starts AWS STS of a region, with what it answers to
// AssumeRoleWithWebIdentity.
func (a *AWS) STS(region string) string {
	host := "sts." + region + "." + awsDomain(region)
	a.c.Serve(host, http.HandlerFunc(a.assume))
	return host
}

func awsDomain(region string) string {
	if strings.HasPrefix(region, "cn-") {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

var sessionNames = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// assume answers for AssumeRoleWithWebIdentity (AWS Query protocol).
func (a *AWS) assume(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, code, message string) {
		w.Header().Set("Content-Type", "text/xml")
		w.Header().Set("X-Amzn-Requestid", rand.Text())
		w.WriteHeader(status)
		fmt.Fprintf(w, `<ErrorResponse xmlns="%s"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>%s</RequestId></ErrorResponse>`, stsNamespace, code, message, rand.Text())
	}
	if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") || r.ParseForm() != nil ||
		r.PostForm.Get("Action") != "AssumeRoleWithWebIdentity" || r.PostForm.Get("Version") != "2011-06-15" {
		fail(http.StatusBadRequest, "InvalidAction", "Could not find operation for version 2011-06-15")
		return
	}
	if r.Header.Get("Authorization") != "" {
		fail(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid.")
		return
	}
	token, role := r.PostForm.Get("WebIdentityToken"), r.PostForm.Get("RoleArn")
	a.c.keep(token)
	claims, err := a.issuer.verify(token, a.c.clock())
	a.mu.Lock()
	trusts, known := a.roles[role]
	a.mu.Unlock()
	switch {
	case !sessionNames.MatchString(r.PostForm.Get("RoleSessionName")):
		fail(http.StatusBadRequest, "ValidationError", "Value at 'roleSessionName' failed to satisfy constraint")
	case errors.Is(err, errExpired):
		fail(http.StatusBadRequest, "ExpiredTokenException", fmt.Sprintf("Token expired: current date/time %d must be before the expiration date/time %d", a.c.clock().Unix(), claims.Expires))
	case err != nil && unverifiedClaims(token).Issuer != a.issuer.Name:
		fail(http.StatusBadRequest, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for "+unverifiedClaims(token).Issuer)
	case err != nil || claims.Issuer != a.issuer.Name:
		fail(http.StatusBadRequest, "InvalidIdentityToken", "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token): "+token)
	case claims.Audience != "sts.amazonaws.com":
		fail(http.StatusBadRequest, "InvalidIdentityToken", "Incorrect token audience")
	case !known || trusts != claims.Subject:
		fail(http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	default:
		id, secret, session, until := a.Session(role)
		type credentials struct {
			AccessKeyId, SecretAccessKey, SessionToken, Expiration string
		}
		type user struct{ Arn, AssumedRoleId string }
		w.Header().Set("Content-Type", "text/xml")
		_ = xml.NewEncoder(w).Encode(struct {
			XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
			Result  struct {
				Credentials     credentials
				AssumedRoleUser user
			} `xml:"AssumeRoleWithWebIdentityResult"`
		}{Result: struct {
			Credentials     credentials
			AssumedRoleUser user
		}{credentials{id, secret, session, until.UTC().Format(time.RFC3339)},
			user{strings.Replace(strings.Replace(role, ":iam:", ":sts:", 1), ":role/", ":assumed-role/", 1) + "/" + r.PostForm.Get("RoleSessionName"), "AROA" + id[4:] + ":boltseal"}}})
	}
}

// signed checks a request's signature (AWS IAM User Guide, "Create a signed AWS API
// request"), and returns whose it is, or what is wrong with it. How old a signature
// is goes by the machine's clock, which AWS's SDK signs by.
func (a *AWS) signed(r *http.Request, body []byte, region, service string) (as awsRoleSession, code, message string) {
	fields, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return as, "MissingAuthenticationTokenException", "Missing Authentication Token"
	}
	part := map[string]string{}
	for f := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		part[name] = value
	}
	scope := strings.Split(part["Credential"], "/")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	switch {
	case len(scope) != 5 || scope[4] != "aws4_request" || err != nil || scope[1] != at.Format("20060102"):
		return as, "IncompleteSignatureException", "Credential must have the form of a scope"
	case scope[2] != region:
		return as, "InvalidSignatureException", "Credential should be scoped to a valid region."
	case scope[3] != service:
		return as, "InvalidSignatureException", "Credential should be scoped to correct service: '" + service + "'."
	case time.Since(at).Abs() > 5*time.Minute:
		return as, "InvalidSignatureException", "Signature expired: " + r.Header.Get("X-Amz-Date") + " is now earlier than " + time.Now().Format("20060102T150405Z")
	}
	a.mu.Lock()
	as, ok = a.sessions[scope[0]]
	a.mu.Unlock()
	switch {
	case !ok || as.token != r.Header.Get("X-Amz-Security-Token"):
		return as, "UnrecognizedClientException", "The security token included in the request is invalid."
	case !a.c.clock().Before(as.until):
		return as, "ExpiredTokenException", "The security token included in the request is expired"
	}
	names := strings.Split(part["SignedHeaders"], ";")
	for _, must := range []string{"host", "x-amz-date", "x-amz-security-token"} {
		if !slices.IsSorted(names) || !slices.Contains(names, must) {
			return as, "InvalidSignatureException", "'" + must + "' must be a 'SignedHeader' in the AWS Authorization."
		}
	}
	canonical := canonicalRequest(r, names, part["SignedHeaders"], body)
	if want := requestSignature(as.secret, scope[1:], r.Header.Get("X-Amz-Date"), canonical); !hmac.Equal([]byte(want), []byte(part["Signature"])) {
		return as, "InvalidSignatureException", "The request signature we calculated does not match the signature you provided. The Canonical String for this request should have been '" + canonical + "'"
	}
	return as, "", ""
}

func canonicalRequest(r *http.Request, names []string, signed string, body []byte) string {
	var text bytes.Buffer
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	fmt.Fprintf(&text, "%s\n%s\n%s\n", r.Method, path, r.URL.Query().Encode())
	for _, n := range names {
		v := strings.Join(strings.Fields(strings.Join(r.Header.Values(n), ",")), " ")
		switch n {
		case "host":
			v = r.Host
		case "content-length":
			v = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&text, "%s:%s\n", n, v)
	}
	sum := sha256.Sum256(body)
	fmt.Fprintf(&text, "\n%s\n%s", signed, hex.EncodeToString(sum[:]))
	return text.String()
}

// requestSignature is what a request has to carry; scope is date, region, service and
// aws4_request.
func requestSignature(secret string, scope []string, date, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	key := []byte("AWS4" + secret)
	for _, step := range append(slices.Clone(scope), "AWS4-HMAC-SHA256\n"+date+"\n"+strings.Join(scope, "/")+"\n"+hex.EncodeToString(sum[:])) {
		mac := hmac.New(sha256.New, key)
		_, _ = io.WriteString(mac, step)
		key = mac.Sum(nil)
	}
	return hex.EncodeToString(key)
}
