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
		return r, malformed("JWS: %v", err)
	}
	decode := func(name, text string) []byte {
		if err != nil {
			return nil
		}
		// The decoder itself passes over line breaks; RFC 7515 section 2 has none.
		if text == "" || strings.ContainsAny(text, "\r\n") {
			err = malformed("JWS: %s is missing or broken", name)
			return nil
		}
		out, derr := base64url.DecodeString(text)
		if derr != nil {
			err = malformed("JWS: %s: %v", name, derr)
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

// members calls visit for each member of a JSON object. Duplicate names, and
// anything after the object, are errors.
func members(b []byte, visit func(name string, value jsontext.Value) error) error {
	dec := jsontext.NewDecoder(bytes.NewBuffer(b))
	if tok, err := dec.ReadToken(); err != nil {
		return malformed("JWS: header: %v", err)
	} else if tok.Kind() != '{' {
		return malformed("JWS: a header is not a JSON object")
	}
	for n := 0; dec.PeekKind() != '}'; n++ {
		if n == MaxAttributes {
			return malformed("JWS: a header has more than %d members", MaxAttributes)
		}
		tok, err := dec.ReadToken()
		if err != nil {
			return malformed("JWS: header: %v", err)
		}
		name := tok.String()
		value, err := dec.ReadValue()
		if err != nil {
			return malformed("JWS: header %.100q: %v", name, err)
		}
		if err := visit(name, value); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil {
		return malformed("JWS: header: %v", err)
	}
	if rest := bytes.TrimSpace(b[dec.InputOffset():]); len(rest) != 0 {
		return malformed("JWS: something follows a header")
	}
	return nil
}

// foreign tells names that another reader, one that does not mind upper and
// lower case, would take for one of ours.
func foreign(name string, ours ...string) bool {
	for _, o := range ours {
		if name != o && strings.EqualFold(name, o) {
			return true
		}
	}
	return false
}

func (r *rawEnvelope) jwsProtected(b []byte) error {
	r.present = make(map[string]bool, 8)
	err := members(b, func(name string, v jsontext.Value) (err error) {
		r.present[name] = true
		switch name {
		case "alg":
			var alg string
			if alg, err = text(name, v); err != nil {
				return err
			}
			switch Algorithm(alg) {
			case PS256, PS384, PS512, ES256, ES384, ES512:
				r.Algorithm = Algorithm(alg)
			default:
				return unsupported("JWS: the algorithm %.100q is not one of PS256, PS384, PS512, ES256, ES384, ES512", alg)
			}
		case "cty":
			r.contentType, err = text(name, v)
		case "crit":
			if v.Kind() != '[' || json.Unmarshal(v, &r.critical) != nil {
				return malformed("JWS: crit is not a list of names")
			}
		case keyScheme:
			r.Scheme, err = text(name, v)
		case keySigningTime:
			r.signingTime, err = timestamp(name, v)
		case keyAuthentic:
			r.authenticTime, err = timestamp(name, v)
		case keyExpiry:
			r.Expiry, err = timestamp(name, v)
		case "b64":
			return unsupported("JWS: b64 (RFC 7797) is not part of the format")
		default:
			if foreign(name, "alg", "cty", "crit", "b64", keyScheme, keySigningTime, keyAuthentic, keyExpiry) {
				return malformed("JWS: the header %.100q differs from a known one in upper and lower case", name)
			}
			r.Attributes = append(r.Attributes, Attribute{Key: name})
			if name == keyPlugin {
				r.Plugin, _ = text(name, v)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	if r.Algorithm == "" {
		return malformed("JWS: it states no algorithm")
	}
	return nil
}

// jwsHeader reads the unprotected header. Members that are unknown may be there
// and mean nothing: they are not signed.
func (r *rawEnvelope) jwsHeader(b []byte) error {
	if len(b) == 0 {
		return malformed("JWS: it has no header, and so no certificate")
	}
	return members(b, func(name string, v jsontext.Value) (err error) {
		switch name {
		case "x5c":
			var certs []string
			if v.Kind() != '[' || json.Unmarshal(v, &certs) != nil {
				return malformed("JWS: x5c is not a list of certificates")
			}
			if len(certs) > MaxCertificates {
				return tooManyCertificates(len(certs))
			}
			for _, c := range certs {
				der, err := standard("x5c", c)
				if err != nil {
					return err
				}
				r.certificates = append(r.certificates, der)
			}
		case keyTimestamp:
			s, err := text(name, v)
			if err != nil {
				return err
			}
			if r.Timestamp, err = standard(name, s); err != nil {
				return err
			}
		case keySigningAgent:
			r.SigningAgent, err = text(name, v)
		default:
			if foreign(name, "x5c", keyTimestamp, keySigningAgent) {
				return malformed("JWS: the header %.100q differs from a known one in upper and lower case", name)
			}
		}
		return err
	})
}

func standard(name, s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, malformed("JWS: %s: a line break in base64", name)
	}
	b, err := base64std.DecodeString(s)
	if err != nil {
		return nil, malformed("JWS: %s: %v", name, err)
	}
	return b, nil
}

func text(name string, v jsontext.Value) (string, error) {
	var s string
	if v.Kind() != '"' || json.Unmarshal(v, &s) != nil {
		return "", malformed("JWS: %s is not a text", name)
	}
	return s, nil
}

func timestamp(name string, v jsontext.Value) (t time.Time, err error) {
	s, err := text(name, v)
	if err != nil {
		return t, err
	}
	if err := t.UnmarshalText([]byte(s)); err != nil || t.IsZero() {
		return t, malformed("JWS: %s is not a time (RFC 3339)", name)
	}
	return t, nil
}
