package keyvault

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/boltseal/boltseal/internal/test/testca"
)

// FuzzSecret: what is read of a secret is certificates only, in its order, and what
// cannot be read is told without the secret.
func FuzzSecret(f *testing.F) {
	chain := testca.Must(testca.New(testca.Options{}))
	key := testca.Must(testca.KeyPEM(chain.Leaf().Key))
	pfx := testca.Must(pkcs12.Modern.Encode(chain.Leaf().Key, chain.Leaf().Certificate, chain.X509()[1:], ""))
	f.Add(string(key)+string(chain.PEM()), false)
	f.Add(base64.StdEncoding.EncodeToString(pfx), true)
	f.Add(base64.StdEncoding.EncodeToString(pfx[:len(pfx)/2]), true)
	f.Add("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", false)
	f.Fuzz(func(t *testing.T, value string, binary bool) {
		contentType, managed := contentPEM, true
		if binary {
			contentType = contentPKCS12
		}
		certs, err := chainOf(azsecrets.Secret{Value: &value, ContentType: &contentType, Managed: &managed})
		if err != nil {
			for i := 0; i+16 <= len(value) && i < 1024; i += 16 {
				if piece := value[i : i+16]; !strings.ContainsAny(piece, " \n") && strings.Contains(err.Error(), piece) {
					t.Fatalf("%v holds %q", err, piece)
				}
			}
			return
		}
		if len(certs) == 0 || len(certs) > maxChain {
			t.Fatalf("%d certificates", len(certs))
		}
		for _, c := range certs {
			if again, err := x509.ParseCertificate(c.Raw); err != nil || !again.Equal(c) {
				t.Fatal(err)
			}
			if !binary && !strings.Contains(value, "CERTIFICATE") {
				t.Fatal("a certificate from nowhere")
			}
		}
	})
}

// FuzzWebKey: a key that is read is one: a point of its curve, or a modulus within
// the limits; it reads the same once more.
func FuzzWebKey(f *testing.F) {
	f.Add("RSA", "", []byte(strings.Repeat("\xff", 256)), []byte{1, 0, 1}, []byte{}, []byte{})
	key := testca.Must(testca.GenerateKey(testca.P256, nil)).Public().(*ecdsa.PublicKey)
	point := testca.Must(key.Bytes())
	f.Add("EC", "P-256", []byte{}, []byte{}, point[1:33], point[33:])
	f.Add("oct", "", []byte{}, []byte{}, []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, kty, crv string, n, e, x, y []byte) {
		k, c := azkeys.KeyType(kty), azkeys.CurveName(crv)
		pub, err := publicKey(&azkeys.JSONWebKey{Kty: &k, Crv: &c, N: n, E: e, X: x, Y: y})
		if err != nil {
			return
		}
		switch pub := pub.(type) {
		case *rsa.PublicKey:
			if bits := pub.N.BitLen(); bits < minRSABits || bits > maxRSABits || pub.E < 3 {
				t.Fatalf("%d bits, exponent %d", bits, pub.E)
			}
		case *ecdsa.PublicKey:
			if _, err := pub.ECDH(); err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatalf("%T", pub)
		}
		if der, err := x509.MarshalPKIXPublicKey(pub); err == nil {
			if _, err := x509.ParsePKIXPublicKey(der); err != nil {
				t.Fatal(err)
			}
		}
	})
}
