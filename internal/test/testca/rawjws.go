package testca

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Names of the Notary Project's headers, the same in JWS and COSE
// (signature-envelope-jws, signature-envelope-cose).
const (
	headerExpiry        = "io.cncf.notary.expiry"
	headerScheme        = "io.cncf.notary.signingScheme"
	headerSigningTime   = "io.cncf.notary.signingTime"
	headerAuthenticTime = "io.cncf.notary.authenticSigningTime"
	headerTimestamp     = "io.cncf.notary.timestampSignature"
	headerAgent         = "io.cncf.notary.signingAgent"
)

// RawJWS is a JWS to be signed as it is, whatever it says.
type RawJWS struct {
	// Protected is the exact protected header, before base64url.
	Protected []byte
	// Payload is the exact payload, before base64url.
	Payload []byte
	// Algorithm is how to sign really, whatever Protected says: a JOSE name,
	// "none", or "HS256" (keyed with the public key's DER). "" means the one
	// that fits the key.
	Algorithm string
	// Unencoded signs, and carries, the payload without base64url, as
	// b64:false (RFC 7797) asks.
	Unencoded bool
	// Chain replaces the DER certificates of x5c.
	Chain [][]byte
	// Timestamp is a token for the unprotected header, Agent the signing agent.
	Timestamp []byte
	Agent     string
}

// JWSParts are the members of a JWS in flattened serialization (RFC 7515,
// section 7.2.2), as they stand in the JSON: base64url text, and the
// unprotected header as JSON.
type JWSParts struct {
	Protected, Payload, Signature string
	Header                        json.RawMessage
}

// JSON puts the parts together. extra are further members, each written as
// `"name":value`, for envelopes that say too much or say it twice.
func (p JWSParts) JSON(extra ...string) []byte {
	members := append([]string{
		fmt.Sprintf(`"payload":%q`, p.Payload), fmt.Sprintf(`"protected":%q`, p.Protected),
		`"header":` + string(p.Header), fmt.Sprintf(`"signature":%q`, p.Signature),
	}, extra...)
	return []byte("{" + strings.Join(members, ",") + "}")
}

// SignJWS signs a raw JWS with the leaf's key.
func (c *Chain) SignJWS(r RawJWS) (JWSParts, error) {
	alg, err := naturalAlgorithm(c.Leaf().Key.Public())
	if r.Algorithm != "" {
		alg, err = algorithmNamed(r.Algorithm)
	}
	if err != nil {
		return JWSParts{}, err
	}
	p := JWSParts{Protected: base64.RawURLEncoding.EncodeToString(r.Protected), Payload: string(r.Payload)}
	if !r.Unencoded {
		p.Payload = base64.RawURLEncoding.EncodeToString(r.Payload)
	}
	sig, err := alg.sign(c.Leaf().Key, []byte(p.Protected+"."+p.Payload))
	if err != nil {
		return JWSParts{}, err
	}
	p.Signature = base64.RawURLEncoding.EncodeToString(sig)
	if r.Chain == nil {
		r.Chain = c.Raw()
	}
	p.Header, err = jwsHeader(r)
	return p, err
}

func jwsHeader(r RawJWS) (json.RawMessage, error) {
	return json.Marshal(struct {
		Timestamp []byte   `json:"io.cncf.notary.timestampSignature,omitempty"`
		Chain     [][]byte `json:"x5c"`
		Agent     string   `json:"io.cncf.notary.signingAgent,omitempty"`
	}{r.Timestamp, r.Chain, orElse(r.Agent, DefaultAgent)})
}

// Member is one member of a JSON object or one entry of a CBOR map, in order.
type Member struct {
	Key   any
	Value any
}

// JWSProtected lists the members of a well-formed protected header, for tests
// that change it and encode it with [EncodeMembers].
func (c *Chain) JWSProtected(o SignOptions) ([]Member, error) {
	o, err := c.complete(ocispec.Descriptor{}, o)
	if err != nil {
		return nil, err
	}
	alg, err := naturalAlgorithm(c.Leaf().Key.Public())
	if err != nil {
		return nil, err
	}
	crit, timeHeader := criticalHeaders(o)
	m := []Member{
		{"alg", alg.jose}, {"crit", crit}, {"cty", o.PayloadType}, {headerScheme, o.Scheme},
		{timeHeader, o.SigningTime.Format(time.RFC3339)},
	}
	if !o.Expiry.IsZero() {
		m = append(m, Member{headerExpiry, o.Expiry.Format(time.RFC3339)})
	}
	for _, a := range o.Attributes {
		m = append(m, Member{a.Key, a.Value})
	}
	return m, nil
}

// criticalHeaders lists what must be critical, and names the header that holds
// the signing time under the options' scheme.
func criticalHeaders(o SignOptions) (crit []any, timeHeader string) {
	crit, timeHeader = []any{headerScheme}, headerSigningTime
	if o.Scheme == SchemeSigningAuthority {
		timeHeader = headerAuthenticTime
		crit = append(crit, timeHeader)
	}
	if !o.Expiry.IsZero() {
		crit = append(crit, headerExpiry)
	}
	for _, a := range o.Attributes {
		if a.Critical {
			crit = append(crit, a.Key)
		}
	}
	return crit, timeHeader
}

// EncodeMembers encodes members as one JSON object, in order, duplicates included.
func EncodeMembers(members []Member) ([]byte, error) {
	parts := make([]string, len(members))
	for i, m := range members {
		k, err := json.Marshal(m.Key)
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(m.Value)
		if err != nil {
			return nil, err
		}
		parts[i] = string(k) + ":" + string(v)
	}
	return []byte("{" + strings.Join(parts, ",") + "}"), nil
}

// SetMember returns the members with key set to value: replaced where it
// stands, added at the end otherwise. A nil value removes it.
func SetMember(members []Member, key, value any) []Member {
	out := slices.Clone(members)
	i := slices.IndexFunc(out, func(m Member) bool { return m.Key == key })
	switch {
	case i < 0 && value == nil:
	case i < 0:
		out = append(out, Member{key, value})
	case value == nil:
		out = slices.Delete(out, i, i+1)
	default:
		out[i].Value = value
	}
	return out
}

func (c *Chain) signUncheckedJWS(o SignOptions) ([]byte, error) {
	members, err := c.JWSProtected(o)
	if err != nil {
		return nil, err
	}
	protected, err := EncodeMembers(members)
	if err != nil {
		return nil, err
	}
	r := RawJWS{Protected: protected, Payload: o.Payload, Chain: o.Chain, Agent: o.Agent}
	p, err := c.SignJWS(r)
	if err != nil {
		return nil, err
	}
	sig, err := base64.RawURLEncoding.DecodeString(p.Signature)
	if err != nil {
		return nil, err
	}
	if r.Timestamp, err = c.timestamp(o, sig); err != nil {
		return nil, err
	}
	if p.Header, err = jwsHeader(r); err != nil {
		return nil, err
	}
	return p.JSON(), nil
}
