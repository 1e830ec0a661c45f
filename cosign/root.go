package cosign

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/sct"
	"github.com/boltseal/boltseal/cosign/internal/sigkey"
	"github.com/boltseal/boltseal/cosign/internal/wire"
)

// Limits on a trusted root.
const (
	MaxTrustedRootBytes = 1 << 20
	maxInstances        = 64 // of each: logs, certificate authorities, …
	maxAuthorityChain   = 10
)

// The media types of trusted roots (sigstore_trustroot.proto).
const (
	trustedRootV01 = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
	trustedRootV02 = "application/vnd.dev.sigstore.trustedroot.v0.2+json"
)

// TrustedRoot is whom one instance of Sigstore consists of: its certificate authorities,
// its logs, its timestamp authorities, each with the time for which it is trusted. It is
// immutable; two of them are never mixed.
type TrustedRoot struct {
	authorities []*authority
	logs        map[string]*logInstance // by the log's id
	ctLogs      map[[sha256.Size]byte]sct.Log
	tsas        []*authority
}

// window is the time for which something is trusted, its ends included. A zero end is
// none.
type window struct{ start, end time.Time }

func (w window) contains(t time.Time) bool {
	return !t.Before(w.start) && (w.end.IsZero() || !t.After(w.end))
}

// logInstance is a transparency log.
type logInstance struct {
	window
	name string // its address, for messages
	host string
	key  crypto.PublicKey
}

type wireWindow struct {
	Start wire.Time `json:"start"`
	End   wire.Time `json:"end"`
}

func (w *wireWindow) window() (window, error) {
	if w == nil {
		return window{}, nil
	}
	if !w.End.IsZero() && w.End.Before(w.Start.Time) {
		return window{}, errors.New("has a validity that ends before it starts")
	}
	return window{w.Start.Time, w.End.Time}, nil
}

type wireID struct {
	KeyID wire.Bytes `json:"keyId"`
}

type wireLog struct {
	BaseURL       string    `json:"baseUrl"`
	HashAlgorithm wire.Enum `json:"hashAlgorithm"`
	PublicKey     struct {
		RawBytes   wire.Bytes  `json:"rawBytes"`
		KeyDetails wire.Enum   `json:"keyDetails"`
		ValidFor   *wireWindow `json:"validFor"`
	} `json:"publicKey"`
	LogID           wireID `json:"logId"`
	CheckpointKeyID wireID `json:"checkpointKeyId"`
	Operator        string `json:"operator"`
}

type wireAuthority struct {
	Subject struct {
		Organization string `json:"organization"`
		CommonName   string `json:"commonName"`
	} `json:"subject"`
	URI       string `json:"uri"`
	CertChain struct {
		Certificates boundedList[wireCertificate] `json:"certificates"`
	} `json:"certChain"`
	ValidFor *wireWindow `json:"validFor"`
	Operator string      `json:"operator"`
}

type wireCertificate struct {
	RawBytes wire.Bytes `json:"rawBytes"`
}

// boundedList is at most maxInstances values.
type boundedList[T any] []T

// UnmarshalJSONFrom reads an array, or null for none.
func (l *boundedList[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	return wire.ReadArray(d, maxInstances, "instances of one kind", func() error {
		v, err := wire.ReadValue[T](d)
		*l = append(*l, v)
		return err
	})
}

// ParseTrustedRoot reads a trusted_root.json (sigstore_trustroot.proto, versions 0.1 and
// 0.2). Members that are not known, keys and chains that cannot be used, and logs without
// a start of their validity are errors that wrap [boltseal.ErrConfiguration].
func ParseTrustedRoot(b []byte) (*TrustedRoot, error) {
	var doc struct {
		MediaType              string                     `json:"mediaType"`
		Tlogs                  boundedList[wireLog]       `json:"tlogs"`
		CertificateAuthorities boundedList[wireAuthority] `json:"certificateAuthorities"`
		Ctlogs                 boundedList[wireLog]       `json:"ctlogs"`
		TimestampAuthorities   boundedList[wireAuthority] `json:"timestampAuthorities"`
	}
	if err := wire.Decode("the trusted root", b, MaxTrustedRootBytes, &doc); err != nil {
		return nil, fmt.Errorf("%w: %w", boltseal.ErrConfiguration, err)
	}
	if doc.MediaType != trustedRootV01 && doc.MediaType != trustedRootV02 {
		return nil, fmt.Errorf("%w: the trusted root is of the type %.100q, not %s", boltseal.ErrConfiguration, doc.MediaType, trustedRootV01)
	}
	r := &TrustedRoot{logs: make(map[string]*logInstance), ctLogs: make(map[[sha256.Size]byte]sct.Log)}
	bad := func(kind string, i int, err error) error {
		return fmt.Errorf("%w: the trusted root's %s %d %w", boltseal.ErrConfiguration, kind, i+1, err)
	}
	for i, l := range doc.Tlogs {
		log, err := l.log()
		if err == nil && r.logs[string(l.LogID.KeyID)] != nil {
			err = errors.New("has the id of another log")
		}
		if err != nil {
			return nil, bad("log", i, err)
		}
		r.logs[string(l.LogID.KeyID)] = log
	}
	for i, l := range doc.Ctlogs {
		log, err := l.log()
		if err == nil && len(l.LogID.KeyID) != sha256.Size {
			err = fmt.Errorf("has an id of %d bytes, not %d", len(l.LogID.KeyID), sha256.Size)
		}
		if err != nil {
			return nil, bad("certificate transparency log", i, err)
		}
		id := [sha256.Size]byte(l.LogID.KeyID)
		if _, twice := r.ctLogs[id]; twice {
			return nil, bad("certificate transparency log", i, errors.New("has the id of another log"))
		}
		r.ctLogs[id] = sct.Log{Key: log.key, Valid: log.contains}
	}
	for i, a := range doc.CertificateAuthorities {
		ca, err := a.authority(x509.ExtKeyUsageCodeSigning)
		if err != nil {
			return nil, bad("certificate authority", i, err)
		}
		r.authorities = append(r.authorities, ca)
	}
	for i, a := range doc.TimestampAuthorities {
		tsa, err := a.authority(x509.ExtKeyUsageTimeStamping)
		if err != nil {
			return nil, bad("timestamp authority", i, err)
		}
		r.tsas = append(r.tsas, tsa)
	}
	if len(r.authorities)+len(r.logs)+len(r.tsas) == 0 {
		return nil, fmt.Errorf("%w: the trusted root names nobody: it has no certificate authority, no log and no timestamp authority", boltseal.ErrConfiguration)
	}
	return r, nil
}

func (l *wireLog) log() (*logInstance, error) {
	if l.HashAlgorithm != "SHA2_256" && l.HashAlgorithm != "1" {
		return nil, fmt.Errorf("has the hash algorithm %.20q, not SHA2_256", l.HashAlgorithm)
	}
	if len(l.LogID.KeyID) == 0 {
		return nil, errors.New("has no logId")
	}
	key, err := parseLogKey(string(l.PublicKey.KeyDetails), l.PublicKey.RawBytes)
	if err != nil {
		return nil, err
	}
	w, err := l.PublicKey.ValidFor.window()
	if err != nil {
		return nil, err
	}
	if w.start.IsZero() {
		return nil, errors.New("has no start of its validity (publicKey.validFor.start)")
	}
	u, err := url.Parse(l.BaseURL)
	if err != nil {
		return nil, errors.New("has a baseUrl that is no URL")
	}
	return &logInstance{window: w, name: l.BaseURL, host: u.Hostname(), key: key}, nil
}

// parseLogKey reads a log's key, which must be of the named kind
// (sigstore_common.proto, PublicKeyDetails).
func parseLogKey(details string, der []byte) (key crypto.PublicKey, err error) {
	if strings.HasPrefix(details, "PKCS1_RSA_") {
		key, err = x509.ParsePKCS1PublicKey(der)
	} else {
		key, err = x509.ParsePKIXPublicKey(der)
	}
	if err != nil {
		return nil, errors.New("has a public key that cannot be read")
	}
	fits := false
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		fits = strings.HasPrefix(details, fmt.Sprintf("PKIX_ECDSA_P%d_", k.Curve.Params().BitSize))
	case *rsa.PublicKey:
		fits = strings.HasPrefix(details, "PKIX_RSA_PKCS1V15_") || details == "PKCS1_RSA_PKCS1V5"
	case ed25519.PublicKey:
		fits = details == "PKIX_ED25519"
	}
	if !fits {
		return nil, fmt.Errorf("has a public key of another kind than its keyDetails %.50q", details)
	}
	if _, err := sigkey.Default(key); err != nil {
		return nil, fmt.Errorf("has %w", err)
	}
	return key, nil
}

// HasLogs reports whether the root has a transparency log of signatures.
func (r *TrustedRoot) HasLogs() bool { return r != nil && len(r.logs) > 0 }

// HasCertificateLogs reports whether the root has a certificate transparency log.
func (r *TrustedRoot) HasCertificateLogs() bool { return r != nil && len(r.ctLogs) > 0 }

// HasAuthorities reports whether the root has a certificate authority.
func (r *TrustedRoot) HasAuthorities() bool { return r != nil && len(r.authorities) > 0 }

// HasTimestampAuthorities reports whether the root has a timestamp authority.
func (r *TrustedRoot) HasTimestampAuthorities() bool { return r != nil && len(r.tsas) > 0 }
