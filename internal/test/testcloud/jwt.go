package testcloud

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"time"
)

// Claims are what a token says.
type Claims struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Audience  string `json:"aud"`
	Expires   int64  `json:"exp"`
	NotBefore int64  `json:"nbf"`
	Tenant    string `json:"tid,omitempty"`
	App       string `json:"appid,omitempty"`
	Nonce     string `json:"jti,omitempty"`
}

// Issuer signs tokens (RFC 7519) by ES256.
type Issuer struct {
	Name string
	key  *ecdsa.PrivateKey
}

// NewIssuer makes an issuer with a key of its own.
func NewIssuer(tb TB, name string) *Issuer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	return &Issuer{name, key}
}

// Token signs claims. An empty issuer is the signer's name.
func (i *Issuer) Token(c Claims) string {
	if c.Issuer == "" {
		c.Issuer = i.Name
	}
	c.Nonce = rand.Text()
	body, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	enc := base64.RawURLEncoding
	text := enc.EncodeToString([]byte(`{"alg":"ES256","typ":"JWT"}`)) + "." + enc.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		panic(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + enc.EncodeToString(sig)
}

// Errors of verify.
var (
	errToken   = errors.New("not a token of this issuer")
	errExpired = errors.New("outside its time")
)

// verify checks signature and times.
func (i *Issuer) verify(token string, now time.Time) (c Claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, errToken
	}
	enc := base64.RawURLEncoding
	sig, err := enc.DecodeString(parts[2])
	if err != nil || len(sig) != 64 {
		return c, errToken
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if !ecdsa.Verify(&i.key.PublicKey, sum[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return c, errToken
	}
	body, err := enc.DecodeString(parts[1])
	if err != nil || json.Unmarshal(body, &c) != nil {
		return c, errToken
	}
	if now.Unix() >= c.Expires || now.Unix() < c.NotBefore {
		return c, errExpired
	}
	return c, nil
}

// unverifiedClaims reads claims without checking anything.
func unverifiedClaims(token string) (c Claims) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c
	}
	if body, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
		_ = json.Unmarshal(body, &c)
	}
	return c
}
