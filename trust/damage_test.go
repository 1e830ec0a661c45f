package trust_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode/utf16"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/trust"
)

// TestPEMThatWasDamagedOnTheWay: each is refused, with what happened to it and what to
// do, and a private key is told as one in whatever shape it is there.
func TestPEMThatWasDamagedOnTheWay(t *testing.T) {
	t.Parallel()
	chain := testca.Test(t, testca.Options{})
	cert := string(chain.Root().PEM())
	der := chain.Root().Raw
	key := string(testca.Must(testca.KeyPEM(chain.Leaf().Key)))
	keyDER, _ := pem.Decode([]byte(key))
	request := testca.Must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, chain.Leaf().Key))
	pfx := testca.Must(pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{chain.Root().Certificate}, "x"))
	p7b := append([]byte{0x30, 0x0b}, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02)
	b64 := base64.StdEncoding.EncodeToString
	replaced := func(old, new string) string { return strings.ReplaceAll(cert, old, new) }
	for _, c := range []struct{ name, in, says string }{
		{"spaces for line breaks", replaced("\n", " "), "lines run together"},
		{"tabs for line breaks", replaced("\n", "\t"), "lines run together"},
		{"nothing for line breaks", replaced("\n", ""), "lines run together"},
		{"spaces, twice over", replaced("\n", " ") + replaced("\n", " "), "lines run together"},
		{"spaces, and a good one after it", replaced("\n", " ") + "\n" + cert, "lines run together"},
		{"a good one, and spaces", cert + replaced("\n", " "), "block 2 is not a certificate: its lines run together"},
		{"carriage returns alone", replaced("\n", "\r"), "carriage return"},
		{`a written \n`, strings.ReplaceAll(strings.TrimSpace(cert), "\n", `\n`), `\n written out`},
		{`a written \r\n`, replaced("\n", `\r\n`), "written out"},
		{`a written \n twice escaped`, replaced("\n", `\\n`), "written out"},
		{"single quotes", "'" + strings.TrimSpace(cert) + "'", "in quotes"},
		{"double quotes", `"` + strings.TrimSpace(cert) + `"`, "in quotes"},
		{"base64 of it", b64([]byte(cert)), "decode it once"},
		{"base64 of it, in lines", wrap(b64([]byte(cert))), "decode it once"},
		{"base64 of base64 of it", b64([]byte(b64([]byte(cert)))), "decode it twice"},
		{"base64 of base64 of it, in lines", wrap(b64([]byte(wrap(b64([]byte(cert)))))), "decode it twice"},
		{"base64 of it in a frame", string(block("CERTIFICATE", []byte(cert))), "base64 of PEM"},
		{"base64 of DER", b64(der), "put BEGIN and END lines around it"},
		{"base64 for URLs of DER", base64.RawURLEncoding.EncodeToString(der), "put BEGIN and END lines around it"},
		{"a byte order mark", "\ufeff" + cert, "byte order mark"},
		{"a byte order mark between two", cert + "\ufeff" + cert, "byte order mark"},
		{"UTF-16, little endian", utf16Of(cert, binary.LittleEndian, true), "UTF-16"},
		{"UTF-16, big endian", utf16Of(cert, binary.BigEndian, true), "UTF-16"},
		{"UTF-16 without a mark", utf16Of(cert, binary.LittleEndian, false), "UTF-16"},
		{"dashes of a word processor", replaced("-----", "—–—"), "dashes"},
		{"hyphens that do not break", replaced("-", "\u2011"), "dashes"},
		{"four hyphens", replaced("-----", "----"), "five hyphens"},
		{"a space after hyphens", replaced("-----BEGIN CERTIFICATE-----", "---- BEGIN CERTIFICATE ----"), "five hyphens"},
		{"indented", replaced("-----BEGIN", "  -----BEGIN"), "indented"},
		{"quoted in a mail", "> " + replaced("\n", "\n> "), "quoted like a mail"},
		{"percent-encoded", url.QueryEscape(cert), "percent-encoded"},
		{"percent-encoded path", url.PathEscape(cert), "percent-encoded"},
		{"a web page's references", replaced("\n", "&#10;"), "character references"},
		{"JSON", `{"cer": "MIIB"}`, "it is JSON"},
		{"a web page", "<!DOCTYPE html><html></html>", "web page"},
		{"a shell's variable", "${CERT}", "placeholder"},
		{"a template", "{{ .Values.cert }}", "placeholder"},
		{"an angle", "<paste the certificate here>", "placeholder"},
		{"without its end", cert[:len(cert)/2], "END line is missing"},
		{"shortened", "-----BEGIN CERTIFICATE-----\nMIIB...\n-----END CERTIFICATE-----\n", "shortened"},
		{"PKCS #7 in DER", string(p7b), "PKCS #7"},
		{"PKCS #7 in PEM", string(block("PKCS7", p7b)), "openssl pkcs7"},
		{"PKCS #7 called a certificate", string(block("CERTIFICATE", p7b)), "PKCS #7"},
		{"base64 of PKCS #7", b64(p7b), "PKCS #7"},
		{"PKCS #12", string(pfx), "PKCS #12"},
		{"base64 of PKCS #12", b64(pfx), "PKCS #12"},
		{"a request in DER", string(request), "a request for a certificate"},
		{"a request called a certificate", string(block("CERTIFICATE", request)), "a request for a certificate"},
		{"a public key in DER", string(chain.Leaf().RawSubjectPublicKeyInfo), "public key"},
		{"openssl's own form", string(block("TRUSTED CERTIFICATE", der)), "openssl x509"},
		{"an older name", string(block("X509 CERTIFICATE", der)), "BEGIN CERTIFICATE"},
		{"a list of revoked certificates", string(block("X509 CRL", []byte{1})), "revoked"},
		{"a key with spaces for line breaks", strings.ReplaceAll(key, "\n", " "), "a private key: remove it"},
		{"a key in base64", b64([]byte(key)), "a private key: remove it"},
		{"a key in base64 of base64", b64([]byte(b64([]byte(key)))), "a private key: remove it"},
		{"a key's DER in base64", b64(keyDER.Bytes), "a private key: remove it"},
		{"a key with a mark", "\ufeff" + key, "a private key: remove it"},
		{`a key with a written \n`, strings.ReplaceAll(key, "\n", `\n`), "a private key: remove it"},
		{"a key in quotes", `"` + key + `"`, "a private key: remove it"},
		{"a key, percent-encoded", url.QueryEscape(key), "a private key: remove it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			certs, err := trust.ParseCertificates([]byte(c.in))
			if err == nil {
				t.Fatalf("%d certificates", len(certs))
			}
			if !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if strings.Contains(c.says, "private key: remove") != errors.Is(err, trust.ErrPrivateKey) {
				t.Errorf("%v: %v", c.says, err)
			}
			if strings.Contains(err.Error(), strings.Split(key, "\n")[1][:16]) || len(err.Error()) > 600 {
				t.Errorf("the error repeats what it was given: %v", err)
			}
		})
	}
}

// wrap breaks lines as base64 and openssl do.
func wrap(s string) string {
	var b strings.Builder
	for ; len(s) > 64; s = s[64:] {
		b.WriteString(s[:64] + "\n")
	}
	return b.String() + s + "\n"
}

func utf16Of(s string, order binary.ByteOrder, mark bool) string {
	units := utf16.Encode([]rune(s))
	if mark {
		units = append([]uint16{0xfeff}, units...)
	}
	out := make([]byte, 2*len(units))
	for i, u := range units {
		order.PutUint16(out[2*i:], u)
	}
	return string(out)
}

// BenchmarkDamaged is of what costs most to look into: a megabyte that is none of it.
func BenchmarkDamaged(b *testing.B) {
	for name, unit := range map[string]string{"base64": "QUFB", "hyphens": "-----BEGIN ", "lines": "-----BEGIN\n", "spaces": "   ", "backslashes": "\\"} {
		in := []byte(strings.Repeat(unit, trust.MaxPEMBytes/len(unit)))
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			for b.Loop() {
				if _, err := trust.ParseCertificates(in); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}
