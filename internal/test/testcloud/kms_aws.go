package testcloud

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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

// KMS is AWS KMS and AWS Private CA of one region, with the region's STS and with
// EKS Pod Identity's agent.
type KMS struct {
	*AWS
	Region, RoleARN string

	mu          sync.Mutex
	forbidden   bool
	throttled   bool
	keys        map[string]KMSKey    // by identifier or alias/…
	authorities map[string]PrivateCA // by ARN
}

// KMS starts the services of a region. A role is given to whom the issuer calls
// subject.
func (c *Cloud) KMS(region string, issuer *Issuer, roleARN, subject string) *KMS {
	k := &KMS{AWS: c.AWS(issuer), Region: region, RoleARN: roleARN, keys: map[string]KMSKey{}, authorities: map[string]PrivateCA{}}
	k.Trust(roleARN, subject)
	k.Associate(subject, roleARN)
	k.STS(region)
	k.PodIdentity()
	c.Serve("kms."+region+".amazonaws.com", http.HandlerFunc(k.serve))
	c.Serve("acm-pca."+region+".amazonaws.com", http.HandlerFunc(k.serve))
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
	id, secret, token, _ = k.session(k.RoleARN, life)
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
	_, code, message := k.signed(r, body, k.Region, service)
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
		replyJSON(w, http.StatusOK, map[string]any{"KeyMetadata": m})
	case target != "TrentService.GetPublicKey":
		awsFail(w, http.StatusBadRequest, "UnknownOperationException", "")
	case key.State == "Disabled":
		awsFail(w, http.StatusBadRequest, "DisabledException", name+" is disabled.")
	case key.State != "Enabled":
		awsFail(w, http.StatusBadRequest, "KMSInvalidStateException", name+" is pending deletion.")
	default:
		replyJSON(w, http.StatusOK, map[string]any{"KeyId": name, "KeyUsage": key.Usage, "PublicKey": key.PublicKey})
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
		replyJSON(w, http.StatusOK, map[string]any{"CertificateAuthority": map[string]any{"Arn": arn, "Status": ca.Status}})
	case target != "ACMPrivateCA.GetCertificateAuthorityCertificate":
		awsFail(w, http.StatusBadRequest, "UnknownOperationException", "")
	case ca.Status != "ACTIVE" && ca.Status != "EXPIRED":
		awsFail(w, http.StatusBadRequest, "InvalidStateException", "The certificate authority is not in the correct state")
	default:
		replyJSON(w, http.StatusOK, map[string]any{"Certificate": ca.Certificate, "CertificateChain": ca.Chain})
	}
}
