package envelope

import (
	"bytes"
	"encoding/base64"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// jws is the flattened JWS JSON serialization (RFC 7515 section 7.2.2).
type jws struct {
	Payload   string         `json:"payload"`
	Protected string         `json:"protected"`
	Header    jsontext.Value `json:"header"`
	Signature string         `json:"signature"`
}

var (
	base64url = base64.RawURLEncoding.Strict()
	base64std = base64.StdEncoding.Strict()
)

func parseJWS(b []byte) (r rawEnvelope, err error) {
	var doc jws
	if err := json.Unmarshal(b, &doc, json.RejectUnknownMembers(true)); err != nil {
		return r, malformedError("JWS: %v", err)
	}
	decode := func(name, text string) []byte {
		if err != nil {
			return nil
		}
		// The decoder itself passes over line breaks; RFC 7515 section 2 has none.
		if text == "" || strings.ContainsAny(text, "\r\n") {
			err = malformedError("JWS: %s is missing or broken", name)
			return nil
		}
		out, derr := base64url.DecodeString(text)
		if derr != nil {
			err = malformedError("JWS: %s: %v", name, derr)
		}
		return out
	}
	protected := decode("protected", doc.Protected)
	r.payload = decode("payload", doc.Payload)
	r.Signature = decode("signature", doc.Signature)
	if err != nil {
		return r, err
	}
	r.signed = make([]byte, 0, len(doc.Protected)+1+len(doc.Payload))
	r.signed = append(append(append(r.signed, doc.Protected...), '.'), doc.Payload...)
	if err := r.jwsProtected(protected); err != nil {
		return r, err
	}
	return r, r.jwsHeader(doc.Header)
}

// eachMember calls visit for each member of a JSON object. Duplicate names, and
// anything after the object, are errors.
func eachMember(b []byte, visit func(name string, value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(b))
	if tok, err := dec.ReadToken(); err != nil {
		return malformedError("JWS: header: %v", err)
	} else if tok.Kind() != '{' {
		return malformedError("JWS: a header is not a JSON object")
	}
	for n := 0; dec.PeekKind() != '}'; n++ {
		if n == MaxAttributes {
			return malformedError("JWS: a header has more than %d members", MaxAttributes)
		}
		tok, err := dec.ReadToken()
		if err != nil {
			return malformedError("JWS: header: %v", err)
		}
		name := tok.String()
		value, err := dec.ReadValue()
		if err != nil {
			return malformedError("JWS: header %.100q: %v", name, err)
		}
		if err := visit(name, value); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return malformedError("JWS: header: %v", err)
	}
	if rest := bytes.TrimSpace(b[dec.InputOffset():]); len(rest) != 0 {
		return malformedError("JWS: something follows a header")
	}
	return nil
}

// foreignNames tells names that another reader, one that does not mind upper and
// lower case, would take for one of ours.
func foreignNames(name string, ours ...string) bool {
	for _, o := range ours {
		if name != o && strings.EqualFold(name, o) {
			return true
		}
	}
	return false
}

func (r *rawEnvelope) jwsProtected(b []byte) error {
	r.present = make(map[string]bool, 8)
	err := eachMember(b, func(name string, v jsontext.Value) (err error) {
		r.present[name] = true
		switch name {
		case "alg":
			var alg string
			if alg, err = readText(name, v); err != nil {
				return err
			}
			switch Algorithm(alg) {
			case PS256, PS384, PS512, ES256, ES384, ES512:
				r.Algorithm = Algorithm(alg)
			default:
				return unsupportedError("JWS: the algorithm %.100q is not one of PS256, PS384, PS512, ES256, ES384, ES512", alg)
			}
		case "cty":
			r.contentType, err = readText(name, v)
		case "crit":
			if v.Kind() != '[' || json.Unmarshal(v, &r.critical) != nil {
				return malformedError("JWS: crit is not a list of names")
			}
		case keyScheme:
			r.Scheme, err = readText(name, v)
		case keySigningTime:
			r.signingTime, err = readTimestamp(name, v)
		case keyAuthentic:
			r.authenticTime, err = readTimestamp(name, v)
		case keyExpiry:
			r.Expiry, err = readTimestamp(name, v)
		case "b64":
			return unsupportedError("JWS: b64 (RFC 7797) is not part of the format")
		default:
			if foreignNames(name, "alg", "cty", "crit", "b64", keyScheme, keySigningTime, keyAuthentic, keyExpiry) {
				return malformedError("JWS: the header %.100q differs from a known one in upper and lower case", name)
			}
			r.Attributes = append(r.Attributes, Attribute{Key: name})
			if name == keyPlugin {
				r.Plugin, _ = readText(name, v)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if r.Algorithm == "" {
		return malformedError("JWS: it states no algorithm")
	}
	return nil
}

// jwsHeader reads the unprotected header. Members that are unknown may be there
// and mean nothing: they are not signed.
func (r *rawEnvelope) jwsHeader(b []byte) error {
	if len(b) == 0 {
		return malformedError("JWS: it has no header, and so no certificate")
	}
	return eachMember(b, func(name string, v jsontext.Value) (err error) {
		switch name {
		case "x5c":
			var certs []string
			if v.Kind() != '[' || json.Unmarshal(v, &certs) != nil {
				return malformedError("JWS: x5c is not a list of certificates")
			}
			if len(certs) > MaxCertificates {
				return tooManyCertificates(len(certs))
			}
			for _, c := range certs {
				der, err := decodeStandard("x5c", c)
				if err != nil {
					return err
				}
				r.certificates = append(r.certificates, der)
			}
		case keyTimestamp:
			s, err := readText(name, v)
			if err != nil {
				return err
			}
			if r.Timestamp, err = decodeStandard(name, s); err != nil {
				return err
			}
		case keySigningAgent:
			r.SigningAgent, err = readText(name, v)
		default:
			if foreignNames(name, "x5c", keyTimestamp, keySigningAgent) {
				return malformedError("JWS: the header %.100q differs from a known one in upper and lower case", name)
			}
		}
		return err
	})
}

func decodeStandard(name, s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, malformedError("JWS: %s: a line break in base64", name)
	}
	b, err := base64std.DecodeString(s)
	if err != nil {
		return nil, malformedError("JWS: %s: %v", name, err)
	}
	return b, nil
}

func readText(name string, v jsontext.Value) (string, error) {
	var s string
	if v.Kind() != '"' || json.Unmarshal(v, &s) != nil {
		return "", malformedError("JWS: %s is not a text", name)
	}
	return s, nil
}

func readTimestamp(name string, v jsontext.Value) (t time.Time, err error) {
	s, err := readText(name, v)
	if err != nil {
		return t, err
	}
	if err := t.UnmarshalText([]byte(s)); err != nil || t.IsZero() {
		return t, malformedError("JWS: %s is not a time (RFC 3339)", name)
	}
	return t, nil
}
