package testca

import (
	"fmt"
	"time"

	"github.com/fxamacker/cbor/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Labels of COSE header parameters (RFC 9052, section 3.1; RFC 9360).
const (
	coseLabelAlg         = int64(1)
	coseLabelCrit        = int64(2)
	coseLabelContentType = int64(3)
	coseLabelX5Chain     = int64(33)
)

// RawCOSE is a COSE_Sign1 to be signed as it is, whatever it says.
type RawCOSE struct {
	// Protected is the exact encoded map of the protected header.
	Protected []byte
	// Payload is the exact payload.
	Payload []byte
	// Algorithm is how to sign really, as in [RawJWS].
	Algorithm string
	// Chain replaces the DER certificates of x5chain; Timestamp and Agent are
	// further unprotected headers.
	Chain     [][]byte
	Timestamp []byte
	Agent     string
	// Unprotected is the exact encoded map of the unprotected header, and wins
	// over Chain, Timestamp and Agent.
	Unprotected []byte
	// Untagged leaves out tag 18.
	Untagged bool
	// Indefinite encodes the outer array with an indefinite length.
	Indefinite bool
	// Detached carries null in the payload's place.
	Detached bool
}

// COSEParts are the elements of a signed COSE_Sign1, not yet put together.
type COSEParts struct {
	Protected, Unprotected, Payload, Signature []byte // Unprotected is an encoded map
	Untagged, Indefinite, Detached             bool
}

// SignCOSE signs a raw COSE_Sign1 with the leaf's key (RFC 9052, section 4.4).
func (c *Chain) SignCOSE(r RawCOSE) (COSEParts, error) {
	alg, err := naturalAlgorithm(c.Leaf().Key.Public())
	if r.Algorithm != "" {
		alg, err = algorithmNamed(r.Algorithm)
	}
	if err != nil {
		return COSEParts{}, err
	}
	toSign, err := cbor.Marshal([]any{"Signature1", r.Protected, []byte{}, r.Payload})
	if err != nil {
		return COSEParts{}, err
	}
	p := COSEParts{Protected: r.Protected, Payload: r.Payload, Unprotected: r.Unprotected,
		Untagged: r.Untagged, Indefinite: r.Indefinite, Detached: r.Detached}
	if p.Signature, err = alg.sign(c.Leaf().Key, toSign); err != nil {
		return COSEParts{}, err
	}
	if p.Unprotected == nil {
		if r.Chain == nil {
			r.Chain = c.Raw()
		}
		p.Unprotected, err = coseUnprotected(r)
	}
	return p, err
}

func coseUnprotected(r RawCOSE) ([]byte, error) {
	m := []Member{{coseLabelX5Chain, r.Chain}, {headerAgent, orElse(r.Agent, DefaultAgent)}}
	if r.Timestamp != nil {
		m = append(m, Member{headerTimestamp, r.Timestamp})
	}
	return EncodeCOSEMembers(m)
}

// CBOR puts the parts together.
func (p COSEParts) CBOR() ([]byte, error) {
	var out []byte
	if !p.Untagged {
		out = append(out, 0xd2) // tag 18
	}
	if p.Indefinite {
		out = append(out, 0x9f)
	} else {
		out = append(out, 0x84)
	}
	payload := any(p.Payload)
	if p.Detached {
		payload = nil
	}
	for _, v := range []any{p.Protected, cbor.RawMessage(p.Unprotected), payload, p.Signature} {
		b, err := cbor.Marshal(v)
		if err != nil {
			return nil, err
		}
		out = append(out, b...)
	}
	if p.Indefinite {
		out = append(out, 0xff)
	}
	return out, nil
}

// COSEProtected lists the entries of a well-formed protected header, for tests
// that change it and encode it with [EncodeCOSEMembers]. Labels are int64 or string.
func (c *Chain) COSEProtected(o SignOptions) ([]Member, error) {
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
		{coseLabelAlg, int64(alg.cose)}, {coseLabelCrit, crit}, {coseLabelContentType, o.PayloadType},
		{headerScheme, o.Scheme}, {timeHeader, coseTime(o.SigningTime)},
	}
	if !o.Expiry.IsZero() {
		m = append(m, Member{headerExpiry, coseTime(o.Expiry)})
	}
	for _, a := range o.Attributes {
		m = append(m, Member{a.Key, a.Value})
	}
	return m, nil
}

// coseTime is tag 1 (RFC 8949, section 3.4.2), as signature-envelope-cose asks.
func coseTime(t time.Time) cbor.Tag { return cbor.Tag{Number: 1, Content: t.Unix()} }

// EncodeCOSEMembers encodes entries as one CBOR map, in order, duplicates included.
func EncodeCOSEMembers(members []Member) ([]byte, error) {
	if len(members) > 255 {
		return nil, fmt.Errorf("testca: %d entries; at most 255 are encoded", len(members))
	}
	out := []byte{0xa0 | byte(len(members))}
	if len(members) > 23 {
		out = []byte{0xb8, byte(len(members))}
	}
	for _, m := range members {
		for _, v := range []any{m.Key, m.Value} {
			b, err := cbor.Marshal(v)
			if err != nil {
				return nil, err
			}
			out = append(out, b...)
		}
	}
	return out, nil
}

func (c *Chain) signUncheckedCOSE(o SignOptions) ([]byte, error) {
	members, err := c.COSEProtected(o)
	if err != nil {
		return nil, err
	}
	protected, err := EncodeCOSEMembers(members)
	if err != nil {
		return nil, err
	}
	r := RawCOSE{Protected: protected, Payload: o.Payload, Chain: o.Chain, Agent: o.Agent}
	p, err := c.SignCOSE(r)
	if err != nil {
		return nil, err
	}
	if r.Timestamp, err = c.timestamp(o, p.Signature); err != nil {
		return nil, err
	}
	if p.Unprotected, err = coseUnprotected(r); err != nil {
		return nil, err
	}
	return p.CBOR()
}
