// Package testsigstore is an instance of Sigstore in the process: Fulcio, a certificate transparency log, Rekor of both versions, a timestamp authority, and what they sign, right and wrong, for tests and the demo.
package testsigstore

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/boltseal/boltseal/internal/test/testca"
)

// Hosts of the instance's services.
const (
	FulcioURL  = "https://fulcio.sigstore.example"
	RekorHost  = "rekor.sigstore.example"
	Rekor2Host = "log2026-1.rekor.sigstore.example"
	CTURL      = "https://ctfe.sigstore.example"
	TSAURL     = "https://timestamp.sigstore.example"
)

// Options make an Instance. The zero value is one like the public instance: its CAs and
// its timestamp authority have keys on P-384, its logs on P-256, and Ed25519 for the
// second version of Rekor.
type Options struct {
	// Clock is the time of all that is signed. Nil means time.Now.
	Clock func() time.Time
	// Intermediates are the CAs between the root and the leaves. Nil means one.
	Intermediates []testca.Spec
	// TSA are the options of the timestamp authority, but its chain and its clock.
	TSA testca.TSAOptions
	// TSALeaf describes the certificate that signs timestamps.
	TSALeaf testca.Spec
}

// Instance is an instance of Sigstore. It is safe for concurrent use.
type Instance struct {
	// CA has the chain of CAs; its leaf is not used.
	CA *testca.Chain
	// TSA is the timestamp authority.
	TSA *testca.TSA
	// CT is the key of the certificate transparency log.
	CT *ecdsa.PrivateKey
	// Rekor and Rekor2 are the transparency logs of the two versions.
	Rekor, Rekor2 *Log

	clock func() time.Time
}

// New makes an instance with keys of its own.
func New(o Options) (*Instance, error) {
	i := &Instance{clock: o.Clock}
	if i.clock == nil {
		i.clock = time.Now
	}
	if o.Intermediates == nil {
		o.Intermediates = []testca.Spec{{Key: testca.P384, CommonName: "sigstore-intermediate"}}
	}
	var err error
	if i.CA, err = testca.New(testca.Options{Clock: o.Clock, Intermediates: o.Intermediates, Root: testca.Spec{Key: testca.P384, CommonName: "sigstore"}}); err != nil {
		return nil, err
	}
	o.TSALeaf.Key, o.TSALeaf.CommonName = testca.P384, "Sigstore Timestamp Authority"
	o.TSA.Clock = o.Clock
	o.TSA.Chain, err = testca.New(testca.Options{Clock: o.Clock, Timestamping: true, Root: testca.Spec{Key: testca.P384, CommonName: "Timestamp Root"}, Leaf: o.TSALeaf})
	if err != nil {
		return nil, err
	}
	if i.TSA, err = testca.NewTSA(o.TSA); err != nil {
		return nil, err
	}
	if i.CT, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	_, key2, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	i.Rekor, err = newLog(RekorHost, key, false)
	if err != nil {
		return nil, err
	}
	i.Rekor2, err = newLog(Rekor2Host, key2, true)
	return i, err
}

// RootOptions change what a trusted root says. The zero value is a right one.
type RootOptions struct {
	// NoLogs, NoRekor2, NoCT, NoTSA and NoCA leave those out.
	NoLogs, NoRekor2, NoCT, NoTSA, NoCA bool
	// NoTSALeaf leaves out the certificate that signs timestamps, so that tokens must
	// bring it along.
	NoTSALeaf bool
	// Start is when all of it begins to be trusted. Zero means a year before the clock.
	Start time.Time
	// End is when it ends; zero means never.
	End time.Time
	// Mutate changes the document before it is encoded.
	Mutate func(map[string]any)
}

// TrustedRoot is the instance's trusted_root.json.
func (i *Instance) TrustedRoot(o RootOptions) []byte {
	if o.Start.IsZero() {
		o.Start = i.clock().AddDate(-1, 0, 0)
	}
	valid := map[string]any{"start": o.Start.UTC().Format(time.RFC3339Nano)}
	if !o.End.IsZero() {
		valid["end"] = o.End.UTC().Format(time.RFC3339Nano)
	}
	log := func(url, details string, key crypto.PublicKey, id []byte) map[string]any {
		return map[string]any{"baseUrl": url, "hashAlgorithm": "SHA2_256", "logId": map[string]any{"keyId": encodeBase64(id)},
			"publicKey": map[string]any{"rawBytes": encodeBase64(publicKeyInfo(key)), "keyDetails": details, "validFor": valid}}
	}
	authority := func(url string, certs []*x509.Certificate) map[string]any {
		var list []any
		for _, c := range certs {
			list = append(list, map[string]any{"rawBytes": encodeBase64(c.Raw)})
		}
		return map[string]any{"uri": url, "subject": map[string]any{"organization": "sigstore.example", "commonName": "sigstore"},
			"certChain": map[string]any{"certificates": list}, "validFor": valid}
	}
	doc := map[string]any{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}
	if !o.NoLogs {
		logs := []any{log("https://"+RekorHost, "PKIX_ECDSA_P256_SHA_256", i.Rekor.Key.Public(), i.Rekor.ID)}
		if !o.NoRekor2 {
			logs = append(logs, log("https://"+Rekor2Host, "PKIX_ED25519", i.Rekor2.Key.Public(), i.Rekor2.ID))
		}
		doc["tlogs"] = logs
	}
	if !o.NoCT {
		doc["ctlogs"] = []any{log(CTURL, "PKIX_ECDSA_P256_SHA_256", i.CT.Public(), keyID(i.CT.Public()))}
	}
	if !o.NoCA {
		doc["certificateAuthorities"] = []any{authority(FulcioURL, i.CA.X509()[1:])}
	}
	if !o.NoTSA {
		chain := i.TSA.Chain.X509()
		if o.NoTSALeaf {
			chain = chain[1:]
		}
		doc["timestampAuthorities"] = []any{authority(TSAURL, chain)}
	}
	if o.Mutate != nil {
		o.Mutate(doc)
	}
	return mustJSON(doc)
}

func encodeBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// publicKeyInfo is the DER form of a key of this package, which always has one.
func publicKeyInfo(key crypto.PublicKey) []byte { return testca.Must(x509.MarshalPKIXPublicKey(key)) }

func keyID(key crypto.PublicKey) []byte {
	sum := sha256.Sum256(publicKeyInfo(key))
	return sum[:]
}

func mustJSON(v any) []byte { return testca.Must(json.Marshal(v)) }

// signDigest signs a message's digest, or with Ed25519 the message.
func signDigest(key crypto.Signer, h crypto.Hash, message []byte) ([]byte, error) {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	}
	s := h.New()
	s.Write(message)
	out, err := key.Sign(rand.Reader, s.Sum(nil), h)
	if err != nil {
		return nil, fmt.Errorf("testsigstore: %w", err)
	}
	return out, nil
}
