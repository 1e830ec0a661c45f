package trust_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/weight"
	"github.com/boltseal/boltseal/trust"
)

func block(kind string, b []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestParseCertificates(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	leaf, root := chain.Leaf().PEM(), chain.Root().PEM()
	headers := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"Friendly": "signer"}, Bytes: chain.Leaf().Raw})
	for _, c := range []struct {
		name string
		in   []byte
		want int
	}{
		{"one", leaf, 1},
		{"two", chain.PEM(), 2},
		{"the same twice", join(leaf, leaf), 2},
		{"DER", chain.Leaf().Raw, 1},
		{"text around, as openssl prints it", join([]byte("0 s:CN = signer\n  i:CN = root\n"), leaf, []byte("---\nServer certificate\n"), root, []byte("\nthe end\n")), 2},
		{"line breaks of Windows", bytes.ReplaceAll(leaf, []byte("\n"), []byte("\r\n")), 1},
		{"headers in the block", headers, 1},
		{"no last line break", bytes.TrimSpace(leaf), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			certs, err := trust.ParseCertificates(c.in)
			if err != nil || len(certs) != c.want {
				t.Errorf("%d certificates and %v, want %d", len(certs), err, c.want)
			}
		})
	}
}

func TestParseCertificatesRefuses(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	leaf := chain.Leaf().PEM()
	key := testca.Must(testca.KeyPEM(chain.Leaf().Key))
	keyDER, _ := pem.Decode(key)
	secret := strings.Split(string(key), "\n")[1]
	incorrect := []byte("-----BEGIN CERTIFICATE-----\naW5jb3JyZWN0Cg==\n-----END CERTIFICATE-----\n")
	for _, c := range []struct {
		name string
		in   []byte
		is   error
		says string
	}{
		{"empty", nil, trust.ErrNoCertificate, "it is empty"},
		{"blank", []byte(" \n\t\n"), trust.ErrNoCertificate, "it is empty"},
		{"words", []byte("put the certificate here"), trust.ErrNoCertificate, "BEGIN CERTIFICATE"},
		{"base64 without its frame", []byte(base64.StdEncoding.EncodeToString(chain.Leaf().Raw)), trust.ErrNoCertificate, "BEGIN CERTIFICATE"},
		{"a word in the frame", incorrect, trust.ErrBadCertificate, "block 1 is not a certificate"},
		{"a word in the second frame", join(leaf, incorrect), trust.ErrBadCertificate, "block 2 is not a certificate"},
		{"cut off", leaf[:len(leaf)/2], trust.ErrBadCertificate, "block 1 is not a certificate: it is cut off"},
		{"second one cut off", join(leaf, leaf[:len(leaf)/2]), trust.ErrBadCertificate, "block 2"},
		{"broken base64", []byte("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), trust.ErrBadCertificate, "block 1 is not a certificate: it is cut off or its base64 is broken"},
		{"broken base64 before a good one", join([]byte("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), leaf), trust.ErrBadCertificate, "block 1"},
		{"broken base64 between good ones", join(leaf, []byte("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), leaf), trust.ErrBadCertificate, "block 2"},
		{"without its end, before a good one", join([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n"), leaf), trust.ErrBadCertificate, "block 1"},
		{"one byte too many in a block", block("CERTIFICATE", append(bytes.Clone(chain.Leaf().Raw), 0)), trust.ErrBadCertificate, "block 1"},
		{"two in one block", block("CERTIFICATE", join(chain.Leaf().Raw, chain.Root().Raw)), trust.ErrBadCertificate, "block 1"},
		{"DER with something after it", append(bytes.Clone(chain.Leaf().Raw), 0), trust.ErrNoCertificate, ""},
		{"private key", key, trust.ErrPrivateKey, "block 1 is a private key: remove it, replace the key"},
		{"private key of RSA", block("RSA PRIVATE KEY", keyDER.Bytes), trust.ErrPrivateKey, "private key"},
		{"private key of EC", block("EC PRIVATE KEY", keyDER.Bytes), trust.ErrPrivateKey, "private key"},
		{"private key, encrypted", block("ENCRYPTED PRIVATE KEY", keyDER.Bytes), trust.ErrPrivateKey, "private key"},
		{"private key after a certificate", join(leaf, key), trust.ErrPrivateKey, "block 2 is a private key"},
		{"private key called a certificate", block("CERTIFICATE", keyDER.Bytes), trust.ErrPrivateKey, "remove it"},
		{"private key in DER", keyDER.Bytes, trust.ErrPrivateKey, "remove it"},
		{"private key, broken, before a certificate", join(bytes.Replace(key, []byte("\n"), []byte("\n!"), 1), leaf), trust.ErrPrivateKey, "remove it"},
		{"public key", block("PUBLIC KEY", chain.Leaf().RawSubjectPublicKeyInfo), trust.ErrBadCertificate, "a public key; a certificate is needed"},
		{"request", block("CERTIFICATE REQUEST", []byte{1}), trust.ErrBadCertificate, "a request for one"},
		{"PKCS 7", block("PKCS7", []byte{1}), trust.ErrBadCertificate, `but "PKCS7"`},
		{"too many bytes", bytes.Repeat([]byte("x"), trust.MaxPEMBytes+1), nil, fmt.Sprint(trust.MaxPEMBytes)},
		{"too many certificates", bytes.Repeat(block("CERTIFICATE", small(t)), trust.MaxCertificates+1), nil, fmt.Sprintf("more than %d certificates", trust.MaxCertificates)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			certs, err := trust.ParseCertificates(c.in)
			if len(certs) > 0 && err == nil {
				t.Fatalf("%d certificates", len(certs))
			}
			if !errors.Is(err, boltseal.ErrConfiguration) || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v and %q", err, c.is, c.says)
			}
			if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), secret[:20]) || len(err.Error()) > 600 {
				t.Errorf("the error repeats what it was given: %v", err)
			}
		})
	}
}

// small is a certificate of which a thousand fit into the limit of bytes.
func small(t *testing.T) []byte {
	t.Helper()
	c := testca.Must(testca.NewSelfSigned(testca.Options{}))
	if n := len(block("CERTIFICATE", c.Leaf().Raw)) * (trust.MaxCertificates + 1); n > trust.MaxPEMBytes {
		t.Skipf("%d bytes are over the limit of bytes before that of certificates", n)
	}
	return c.Leaf().Raw
}

// FuzzParseCertificates: what is accepted is certificates only, all of them, and
// they read the same once more; no error holds a secret.
func FuzzParseCertificates(f *testing.F) {
	chain := testca.Must(testca.New(testca.Options{}))
	key := testca.Must(testca.KeyPEM(chain.Leaf().Key))
	for _, seed := range [][]byte{nil, chain.PEM(), chain.Leaf().Raw, key, join(chain.PEM(), key),
		[]byte("-----BEGIN CERTIFICATE-----\naW5jb3JyZWN0Cg==\n-----END CERTIFICATE-----\n"),
		join([]byte("-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n"), chain.PEM()),
		join([]byte("text -----BEGIN"), chain.PEM()), []byte("-----BEGIN -----\n-----END -----")} {
		f.Add(seed)
	}
	secret := strings.Split(string(key), "\n")[1]
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: 64 << 10, Times: 64}.Check(t, len(b), func() { _, _ = trust.ParseCertificates(b) })
		certs, err := trust.ParseCertificates(b)
		if err != nil {
			if !errors.Is(err, boltseal.ErrConfiguration) || strings.Contains(err.Error(), secret) || len(err.Error()) > 600 {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(certs) == 0 || len(certs) > trust.MaxCertificates || len(b) > trust.MaxPEMBytes {
			t.Fatalf("%d certificates from %d bytes without an error", len(certs), len(b))
		}
		if _, err := x509.ParseCertificate(b); err != nil && bytes.Count(b, []byte("-----BEGIN")) != len(certs) {
			t.Fatal("a block was passed over")
		}
		again, err := trust.ParseCertificates(testca.CertPEM(certs...))
		if err != nil || len(again) != len(certs) {
			t.Fatalf("%d certificates are %d, %v, when read again", len(certs), len(again), err)
		}
		for i := range certs {
			if !slices.Equal(certs[i].Raw, again[i].Raw) {
				t.Fatalf("certificate %d changed", i+1)
			}
		}
	})
}
