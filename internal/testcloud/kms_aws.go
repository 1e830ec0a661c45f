package testcloud

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// KMSKey is an asymmetric key of AWS KMS.
type KMSKey struct {
	State, Usage string // "" = Enabled, SIGN_VERIFY
	PublicKey    []byte // DER
	Deletion     time.Time
}

// PrivateCA is an authority of AWS Private CA.
type PrivateCA struct {
	Status             string // "" = ACTIVE
	Certificate, Chain string // PEM
}

// PodIdentityAgent is where EKS Pod Identity's agent is on each node.
const PodIdentityAgent = "169.254.170.23"

// KMS is AWS KMS and AWS Private CA of one region, with the region's STS and with
// EKS Pod Identity's agent. Requests are checked by their signature (AWS Signature
// Version 4).
type KMS struct {
	Region, RoleARN, Subject string
	c                        *Cloud
	issuer                   *Issuer

	mu          sync.Mutex
	forbidden   bool
	throttled   bool
	keys        map[string]KMSKey    // by identifier or alias/…
	authorities map[string]PrivateCA // by ARN
	sessions    map[string]awsSession
}

type awsSession struct {
	secret, token string
	until         time.Time
}

// KMS starts the services of a region. A role is given to whom the issuer calls
// subject.
func (c *Cloud) KMS(region string, issuer *Issuer, roleARN, subject string) *KMS {
	k := &KMS{Region: region, RoleARN: roleARN, Subject: subject, c: c, issuer: issuer,
		keys: map[string]KMSKey{}, authorities: map[string]PrivateCA{}, sessions: map[string]awsSession{}}
	c.Serve("kms."+region+".amazonaws.com", http.HandlerFunc(k.serve))
	c.Serve("acm-pca."+region+".amazonaws.com", http.HandlerFunc(k.serve))
	c.Serve("sts."+region+".amazonaws.com", http.HandlerFunc(k.sts))
	c.Serve(PodIdentityAgent, http.HandlerFunc(k.agent))
	return k
}

func (k *KMS) change(f func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f()
}

// Key sets a key.
func (k *KMS) Key(name string, key KMSKey) { k.change(func() { k.keys[name] = key }) }

// Authority sets an authority.
func (k *KMS) Authority(arn string, ca PrivateCA) { k.change(func() { k.authorities[arn] = ca }) }

// Forbid has the role's policy allow nothing, or everything again.
func (k *KMS) Forbid(on bool) { k.change(func() { k.forbidden = on }) }

// Throttle has AWS ask to be left alone, which it does by HTTP 400.
func (k *KMS) Throttle(on bool) { k.change(func() { k.throttled = on }) }

// AccessKey makes an access key with its secret and session token.
func (k *KMS) AccessKey(life time.Duration) (id, secret, token string) {
	id, secret, token = "ASIA"+rand.Text()[:16], rand.Text()+rand.Text()[:14], rand.Text()+rand.Text()+rand.Text()
	k.c.keep(secret)
	k.c.keep(token)
	k.change(func() { k.sessions[id] = awsSession{secret, token, k.c.clock().Add(life)} })
	return id, secret, token
}

func awsFail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("X-Amzn-Requestid", rand.Text())
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"__type": code, "message": message})
}

// serve answers for AWS KMS and AWS Private CA (AWS JSON 1.1).
func (k *KMS) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	service, _, _ := strings.Cut(r.Host, ".")
	var q struct{ KeyId, CertificateAuthorityArn string }
	code, message := k.signed(r, body, service)
	switch {
	case code != "":
		awsFail(w, http.StatusBadRequest, code, message)
	case k.throttled:
		awsFail(w, http.StatusBadRequest, "ThrottlingException", "Rate exceeded")
	case k.forbidden:
		awsFail(w, http.StatusBadRequest, "AccessDeniedException", "User: "+k.RoleARN+" is not authorized to perform this")
	case r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/x-amz-json-1.1" || json.Unmarshal(body, &q) != nil:
		awsFail(w, http.StatusBadRequest, "SerializationException", "")
	case service == "kms":
		k.key(w, r.Header.Get("X-Amz-Target"), q.KeyId)
	default:
		k.authority(w, r.Header.Get("X-Amz-Target"), q.CertificateAuthorityArn)
	}
}

func (k *KMS) key(w http.ResponseWriter, target, name string) {
	arn := fmt.Sprintf("arn:aws:kms:%s:111122223333:key/", k.Region)
	key, ok := k.keys[strings.TrimPrefix(name, arn)]
	if key.State == "" {
		key.State = "Enabled"
	}
	if key.Usage == "" {
		key.Usage = "SIGN_VERIFY"
	}
	switch {
	case !ok:
		awsFail(w, http.StatusBadRequest, "NotFoundException", "Key '"+name+"' does not exist")
	case target == "TrentService.DescribeKey":
		id := strings.TrimPrefix(name, arn)
		m := map[string]any{"KeyId": id, "Arn": arn + id, "KeyState": key.State, "KeyUsage": key.Usage, "Enabled": key.State == "Enabled", "CreationDate": 1767225600.5}
		if !key.Deletion.IsZero() {
			m["DeletionDate"] = key.Deletion.Unix()
		}
		reply(w, http.StatusOK, map[string]any{"KeyMetadata": m})
	case target != "TrentService.GetPublicKey":
		awsFail(w, http.StatusBadRequest, "UnknownOperationException", "")
	case key.State == "Disabled":
		awsFail(w, http.StatusBadRequest, "DisabledException", name+" is disabled.")
	case key.State != "Enabled":
		awsFail(w, http.StatusBadRequest, "KMSInvalidStateException", name+" is pending deletion.")
	default:
		reply(w, http.StatusOK, map[string]any{"KeyId": name, "KeyUsage": key.Usage, "PublicKey": key.PublicKey})
	}
}

func (k *KMS) authority(w http.ResponseWriter, target, arn string) {
	ca, ok := k.authorities[arn]
	if ca.Status == "" {
		ca.Status = "ACTIVE"
	}
	switch {
	case !ok:
		awsFail(w, http.StatusBadRequest, "ResourceNotFoundException", "Could not find Certificate Authority with ARN: "+arn)
	case target == "ACMPrivateCA.DescribeCertificateAuthority":
		reply(w, http.StatusOK, map[string]any{"CertificateAuthority": map[string]any{"Arn": arn, "Status": ca.Status}})
	case target != "ACMPrivateCA.GetCertificateAuthorityCertificate":
		awsFail(w, http.StatusBadRequest, "UnknownOperationException", "")
	case ca.Status != "ACTIVE" && ca.Status != "EXPIRED":
		awsFail(w, http.StatusBadRequest, "InvalidStateException", "The certificate authority is not in the correct state")
	default:
		reply(w, http.StatusOK, map[string]any{"Certificate": ca.Certificate, "CertificateChain": ca.Chain})
	}
}

// signed checks a request's signature (AWS IAM User Guide, "Create a signed AWS API
// request"), and returns what is wrong with it.
func (k *KMS) signed(r *http.Request, body []byte, service string) (code, message string) {
	fields, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return "MissingAuthenticationTokenException", "Missing Authentication Token"
	}
	part := map[string]string{}
	for _, f := range strings.Split(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(f), "=")
		part[name] = value
	}
	scope := strings.Split(part["Credential"], "/")
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	switch {
	case len(scope) != 5 || scope[4] != "aws4_request" || err != nil || scope[1] != at.Format("20060102"):
		return "IncompleteSignatureException", "Credential must have the form of a scope"
	case scope[2] != k.Region:
		return "InvalidSignatureException", "Credential should be scoped to a valid region."
	case scope[3] != service:
		return "InvalidSignatureException", "Credential should be scoped to correct service."
	case k.c.clock().Sub(at).Abs() > 5*time.Minute:
		return "InvalidSignatureException", "Signature expired"
	}
	s, ok := k.sessions[scope[0]]
	switch {
	case !ok || s.token != r.Header.Get("X-Amz-Security-Token"):
		return "UnrecognizedClientException", "The security token included in the request is invalid."
	case k.c.clock().After(s.until):
		return "ExpiredTokenException", "The security token included in the request is expired"
	}
	names := strings.Split(part["SignedHeaders"], ";")
	if !slices.IsSorted(names) || !slices.Contains(names, "host") || !slices.Contains(names, "x-amz-date") || !slices.Contains(names, "x-amz-security-token") {
		return "InvalidSignatureException", "headers must be signed"
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "%s\n%s\n%s\n", r.Method, r.URL.EscapedPath(), r.URL.RawQuery)
	for _, n := range names {
		v := strings.Join(strings.Fields(r.Header.Get(n)), " ")
		switch n {
		case "host":
			v = r.Host
		case "content-length":
			v = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&text, "%s:%s\n", n, v)
	}
	sum := sha256.Sum256(body)
	fmt.Fprintf(&text, "\n%s\n%s", part["SignedHeaders"], hex.EncodeToString(sum[:]))
	sum = sha256.Sum256(text.Bytes())
	key := []byte("AWS4" + s.secret)
	for _, step := range append(scope[1:5:5], "AWS4-HMAC-SHA256\n"+r.Header.Get("X-Amz-Date")+"\n"+strings.Join(scope[1:], "/")+"\n"+hex.EncodeToString(sum[:])) {
		mac := hmac.New(sha256.New, key)
		_, _ = io.WriteString(mac, step)
		key = mac.Sum(nil)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(key)), []byte(part["Signature"])) {
		return "InvalidSignatureException", "The request signature we calculated does not match the signature you provided."
	}
	return "", ""
}

// sts answers for AssumeRoleWithWebIdentity (AWS Query protocol).
func (k *KMS) sts(w http.ResponseWriter, r *http.Request) {
	fail := func(code, message string) {
		w.Header().Set("Content-Type", "text/xml")
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>%s</Code><Message>%s</Message></Error></ErrorResponse>`, code, message)
	}
	if r.Method != http.MethodPost || r.FormValue("Action") != "AssumeRoleWithWebIdentity" || r.FormValue("Version") != "2011-06-15" || r.FormValue("RoleSessionName") == "" {
		fail("InvalidAction", "no such action")
		return
	}
	token := r.FormValue("WebIdentityToken")
	k.c.keep(token)
	claims, err := k.issuer.verify(token, k.c.clock())
	switch {
	case err == errExpired:
		fail("ExpiredTokenException", "Token expired")
	case err != nil || claims.Issuer != k.issuer.Name:
		fail("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider")
	case claims.Audience != "sts.amazonaws.com":
		fail("InvalidIdentityToken", "Incorrect token audience")
	case claims.Subject != k.Subject || r.FormValue("RoleArn") != k.RoleARN:
		fail("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	default:
		id, secret, session := k.AccessKey(time.Hour)
		type credentials struct {
			AccessKeyId, SecretAccessKey, SessionToken, Expiration string
		}
		w.Header().Set("Content-Type", "text/xml")
		_ = xml.NewEncoder(w).Encode(struct {
			XMLName xml.Name `xml:"https://sts.amazonaws.com/doc/2011-06-15/ AssumeRoleWithWebIdentityResponse"`
			Result  struct {
				Credentials credentials
			} `xml:"AssumeRoleWithWebIdentityResult"`
		}{Result: struct{ Credentials credentials }{credentials{id, secret, session, k.c.clock().Add(time.Hour).UTC().Format(time.RFC3339)}}})
	}
}

// agent answers for EKS Pod Identity's agent.
func (k *KMS) agent(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get("Authorization")
	k.c.keep(token)
	claims, err := k.issuer.verify(token, k.c.clock())
	if r.URL.Path != "/v1/credentials" || err != nil || claims.Audience != "pods.eks.amazonaws.com" || claims.Subject != k.Subject {
		reply(w, http.StatusBadRequest, map[string]string{"code": "InvalidTokenException", "message": "Service account token cannot be verified"})
		return
	}
	id, secret, session := k.AccessKey(time.Hour)
	reply(w, http.StatusOK, map[string]string{"AccessKeyId": id, "SecretAccessKey": secret, "Token": session, "AccountId": "111122223333", "Expiration": k.c.clock().Add(time.Hour).UTC().Format(time.RFC3339)})
}
