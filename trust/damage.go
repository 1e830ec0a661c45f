package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/boltseal/boltseal"
)

// maxWrapped is how many layers of base64 are looked through.
const maxWrapped = 3

// describeDamage says what became of a text that is no PEM as it is, by what is known to
// happen on the way: shells, editors, Secrets, other formats. nil where there is no
// telling. n is the number of the block that could not be read. The cost is that of
// reading the text a few times; nothing of the text is repeated.
func describeDamage(b []byte, n int) error {
	if hasPrivateKey(b) {
		return privateKey("it")
	}
	if d := checkWrapped(b); d != nil {
		return d
	}
	kind := ErrNoCertificate
	where := ""
	if bytes.Contains(b, begin) {
		kind, where = ErrBadCertificate, fmt.Sprintf("block %d is ", n)
	}
	if what := describeMangled(b); what != "" {
		return fmt.Errorf("%w: %s%w: %s", boltseal.ErrConfiguration, where, kind, what)
	}
	return nil
}

func privateKey(what string) error {
	return fmt.Errorf("%w: %s is %w: remove it, replace the key since it has been seen, and put the certificate here", boltseal.ErrConfiguration, what, ErrPrivateKey)
}

var keyLabel = regexp.MustCompile(`BEGIN[\s+%20]{1,4}([A-Z0-9]+[\s+%20]{1,4}){0,3}PRIVATE[\s+%20]{1,4}KEY`)

// hasPrivateKey reports whether a key's PEM is in the text, however it is broken.
func hasPrivateKey(b []byte) bool { return keyLabel.Match(b) }

// forms of BEGIN lines that are not PEM's.
var (
	anyDashes  = regexp.MustCompile(`[-\x{2010}-\x{2015}\x{2212}\x{2043}\x{00ad}]{2,}\s*BEGIN`)
	fiveDashes = regexp.MustCompile(`(^|[^-])-----BEGIN`)
	indented   = regexp.MustCompile(`(?m)^[ \t>|]+-----BEGIN`)
	unfinished = regexp.MustCompile(`(?m)-----BEGIN[^\r\n-]*-----(.*)$`)
	braces     = regexp.MustCompile(`^\s*(\$\{?[A-Za-z_]|\$\(|\{\{|<[A-Za-z])`)
)

const (
	giveQuotes = `give it in quotes: "$CERT" in a shell`
	oneALine   = "BEGIN, END and the base64 between them are on lines of their own"
)

// describeMangled says what happened to a PEM text; "" where that is not known.
func describeMangled(b []byte) string {
	text := string(b)
	trimmed := strings.TrimSpace(text)
	switch {
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}), bytes.HasPrefix(b, []byte{0xfe, 0xff}), len(b) > 3 && (b[0] == 0) != (b[1] == 0) && bytes.Count(b[:min(len(b), 64)], []byte{0}) > min(len(b), 64)/3:
		return "it is in UTF-16, as PowerShell's > and Notepad write it: save it as UTF-8 or ASCII (Out-File -Encoding ascii)"
	case bytes.Contains(b, []byte("\ufeff")):
		return "a byte order mark (U+FEFF) is before BEGIN or in the text, as Windows tools put it: save it as UTF-8 without one"
	case braces.MatchString(text) && !bytes.Contains(b, begin):
		return "it is a placeholder that nothing has filled in: put the certificate there"
	case strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "["):
		return "it is JSON: take the certificate out of it (such as jq -r .cer)"
	case strings.HasPrefix(strings.ToLower(trimmed), "<!doctype") || strings.HasPrefix(strings.ToLower(trimmed), "<html"):
		return "it is a web page: download the certificate itself"
	case strings.Contains(text, `\n`) || strings.Contains(text, `\r`):
		return `it has \n written out where lines should end: put real line breaks there (printf '%b', jq -r), or write it under "value: |"`
	case strings.Contains(text, "BEGIN%20") || strings.Contains(text, "BEGIN+CERT"):
		return "it is percent-encoded, as for a URL or a header: decode it first"
	case strings.Contains(text, "&#") && bytes.Contains(b, begin):
		return "it contains character references of a web page (&#…;) in place of line breaks: take the text itself"
	case !anyDashes.MatchString(text):
		return ""
	case strings.ContainsAny(text, "‐‑‒–—―−⁃\u00ad"):
		return "its hyphens were replaced by dashes, as word processors do: BEGIN and END lines have five hyphens (-) on either side; copy it from its file"
	case !fiveDashes.MatchString(text):
		return "its BEGIN line does not have five hyphens (-----) on either side"
	}
	return brokenLines(text)
}

// brokenLines says what happened to the lines of a text with a BEGIN that could not be
// read.
func brokenLines(text string) string {
	if !strings.Contains(text, "\n") && strings.Contains(text, "\r") {
		return "its lines end with a carriage return only: put line feeds there (tr '\\r' '\\n')"
	}
	if at := strings.Index(text, "-----BEGIN"); at > 0 {
		if c := text[at-1]; c == '\'' || c == '"' || c == '`' {
			return "it is in quotes: leave them out (in YAML, under \"value: |\", nothing is quoted)"
		}
	}
	if indented.MatchString(text) {
		return "its BEGIN line is indented or quoted like a mail: it must begin the line, and all lines under \"value: |\" are indented alike"
	}
	if m := unfinished.FindStringSubmatch(text); m != nil && strings.TrimSpace(m[1]) != "" {
		if strings.Contains(m[1], "-----END") || strings.ContainsAny(m[1], " \t") {
			return "its lines run together, as a shell makes them of echo $CERT, and YAML of a text without \"|\": " + giveQuotes + "; " + oneALine
		}
		return "something follows BEGIN on its line: " + oneALine
	}
	switch {
	case !strings.Contains(text, "-----END"):
		return "it is cut off: its END line is missing"
	case strings.Contains(text, "…") || strings.Contains(text, "..."):
		return "it is shortened (…): paste the whole certificate"
	}
	return ""
}

// checkWrapped looks through base64, and at what other formats there are.
func checkWrapped(b []byte) error {
	for layers := 0; layers <= maxWrapped; layers++ {
		if err := foreignFormat(b, layers); err != nil {
			return err
		}
		next, ok := decodeWrapped(b)
		if !ok {
			return nil
		}
		b = next
	}
	return nil
}

// checkWithin is wrapped for what stands in a block that holds no certificate.
func checkWithin(b []byte, n int) error {
	for layers := 1; layers <= maxWrapped; layers++ {
		if err := foreignFormat(b, layers-1); layers == 1 && err != nil {
			return err
		} else if err := foreignFormat(b, layers); err != nil {
			return fmt.Errorf("%w (in block %d)", err, n)
		}
		next, ok := decodeWrapped(b)
		if !ok {
			return nil
		}
		b = next
	}
	return nil
}

// decodeWrapped decodes a text that is base64 as a whole; line breaks and quotes around
// are passed over.
func decodeWrapped(b []byte) ([]byte, bool) {
	text := strings.Trim(strings.TrimSpace(strings.TrimPrefix(string(b), "\ufeff")), `'"`)
	text = strings.NewReplacer("\r", "", "\n", "", " ", "", "\t", "", "-", "+", "_", "/").Replace(text)
	text = strings.TrimRight(text, "=")
	if len(text) < 16 || !utf8.ValidString(text) {
		return nil, false
	}
	out, err := base64.RawStdEncoding.DecodeString(text)
	return out, err == nil
}

// foreignFormat says what bytes are that are no PEM, or are PEM below layers of base64.
func foreignFormat(b []byte, layers int) error {
	no := func(format string, a ...any) error {
		return fmt.Errorf("%w: %w: it is %s%s", boltseal.ErrConfiguration, ErrNoCertificate, strings.Repeat("base64 of ", layers), fmt.Sprintf(format, a...))
	}
	if layers > 0 && bytes.Contains(b, begin) {
		if hasPrivateKey(b) {
			return privateKey("it, decoded,")
		}
		times := [...]string{"", "once", "twice", "three times"}[layers]
		return no("PEM, as a Secret's data has it: decode it %s (base64 -d)", times)
	}
	if len(b) < 2 || b[0] != 0x30 {
		return nil
	}
	var outer asn1.RawValue
	if _, err := asn1.Unmarshal(b, &outer); err != nil {
		return nil
	}
	if derKey(b) {
		return privateKey("it")
	}
	_, certErr := x509.ParseCertificate(b)
	_, requestErr := x509.ParseCertificateRequest(b)
	_, keyErr := x509.ParsePKIXPublicKey(b)
	_, crlErr := x509.ParseRevocationList(b)
	switch {
	case certErr == nil && layers > 0:
		return no("a certificate in DER: put BEGIN and END lines around it (-----BEGIN CERTIFICATE-----), or openssl x509 -inform DER")
	case requestErr == nil:
		return no("a request for a certificate: put what the CA answered here")
	case keyErr == nil:
		return no("a public key: a certificate is needed")
	case crlErr == nil:
		return no("a list of revoked certificates: put the CA's certificate here")
	case bytes.Contains(outer.Bytes[:min(len(outer.Bytes), 16)], oidSignedData) && !bytes.HasPrefix(outer.Bytes, pkcs12Version):
		return no("a PKCS #7 bundle (.p7b): take its certificates out (openssl pkcs7 -inform DER -print_certs)")
	case bytes.HasPrefix(outer.Bytes, pkcs12Version):
		return no("a PKCS #12 file (.pfx, .p12), which usually contains a private key: take the certificates alone (openssl pkcs12 -nokeys)")
	}
	return nil
}

var (
	oidSignedData = []byte{0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02} // RFC 2315, section 14
	pkcs12Version = []byte{0x02, 0x01, 0x03, 0x30}                                           // RFC 7292, section 4
)

// derKey reports whether the bytes are a private key (RFC 5208, 5915, 8017).
func derKey(b []byte) bool {
	if _, err := x509.ParsePKCS8PrivateKey(b); err == nil {
		return true
	}
	if _, err := x509.ParseECPrivateKey(b); err == nil {
		return true
	}
	if _, err := x509.ParsePKCS1PrivateKey(b); err == nil {
		return true
	}
	// What no reader takes may hold a key all the same.
	var shape struct {
		Version   int
		Algorithm struct {
			ID   asn1.ObjectIdentifier
			Rest asn1.RawValue `asn1:"optional"`
		}
		Key  []byte
		Rest asn1.RawValue `asn1:"optional"`
	}
	_, err := asn1.Unmarshal(b, &shape)
	return err == nil
}

// otherBlock says what to do about a block of another type; "" where there is no
// telling.
func otherBlock(kind string) string {
	switch kind {
	case "X509 CERTIFICATE":
		return "write BEGIN CERTIFICATE and END CERTIFICATE"
	case "TRUSTED CERTIFICATE":
		return "it is openssl's own form: write it with openssl x509 -in FILE"
	case "PKCS7", "CMS", "PKCS #7 SIGNED DATA":
		return "take its certificates out: openssl pkcs7 -print_certs"
	case "X509 CRL":
		return "it lists what was revoked: put the CA's certificate here"
	}
	return ""
}
