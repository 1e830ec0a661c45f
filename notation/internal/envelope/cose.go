package envelope

import (
	"fmt"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Labels of COSE headers (RFC 9052 section 3.1, RFC 9360 section 2).
const (
	labelAlg     = int64(1)
	labelCrit    = int64(2)
	labelContent = int64(3)
	labelX5Chain = int64(33)
)

// Encodings that are compared with as they stand.
const (
	tagSign1 = 0xd2 // tag 18, RFC 9052 section 2
	tagEpoch = 0xc1 // tag 1, RFC 8949 section 3.4.2
)

var coseAlgorithms = map[int64]Algorithm{-37: PS256, -38: PS384, -39: PS512, -7: ES256, -35: ES384, -36: ES512}

// modes refuse what two readers could read differently.
type modes struct {
	cbor.DecMode              // for protected headers, whose times are tagged
	untagged     cbor.DecMode // for everything else
}

var strictCBOR = sync.OnceValues(func() (m modes, err error) {
	o := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, MaxNestedLevels: maxDepth,
		MaxArrayElements: MaxAttributes, MaxMapPairs: MaxAttributes, IntDec: cbor.IntDecConvertSignedOrFail,
		TagsMd: cbor.TagsAllowed, UTF8: cbor.UTF8RejectInvalid,
	}
	if m.DecMode, err = o.DecMode(); err != nil {
		return m, err
	}
	o.TagsMd = cbor.TagsForbidden
	m.untagged, err = o.DecMode()
	return m, err
})

type headers map[any]cbor.RawMessage

func parseCOSE(b []byte) (r rawEnvelope, err error) {
	mode, err := strictCBOR()
	if err != nil {
		return r, err
	}
	if len(b) == 0 || b[0] != tagSign1 {
		return r, malformedError("COSE: it does not start with the tag of COSE_Sign1")
	}
	var parts []cbor.RawMessage
	if err := mode.untagged.Unmarshal(b[1:], &parts); err != nil {
		return r, malformedError("COSE: %v", err)
	}
	if len(parts) != 4 {
		return r, malformedError("COSE: %d parts where COSE_Sign1 has four", len(parts))
	}
	var content [4][]byte
	for _, i := range []int{0, 2, 3} {
		if content[i], err = byteString(mode, parts[i]); err != nil {
			return r, malformedError("COSE: part %d: %v", i+1, err)
		}
	}
	protected, unprotected := headers{}, headers{}
	if err := mode.Unmarshal(content[0], &protected); err != nil {
		return r, malformedError("COSE: protected headers: %v", err)
	}
	if err := mode.Unmarshal(parts[1], &unprotected); err != nil {
		return r, malformedError("COSE: unprotected headers: %v", err)
	}
	r.payload, r.Signature = content[2], content[3]
	r.signed = sigStructure(content[0], content[2])
	for label := range unprotected {
		switch label.(type) {
		case int64, string:
		default:
			return r, malformedError("COSE: a header's label is neither a number nor a text")
		}
		if _, both := protected[label]; both {
			return r, malformedError("COSE: the header %v is both protected and not", label)
		}
	}
	if err := r.coseProtected(mode, protected); err != nil {
		return r, err
	}
	return r, r.coseUnprotected(mode, unprotected)
}

// sigStructure is what is signed: ["Signature1", protected, h”, payload] (RFC
// 9052 section 4.4).
func sigStructure(protected, payload []byte) []byte {
	b := make([]byte, 0, len(protected)+len(payload)+32)
	b = append(b, 0x84, 0x6a)
	b = append(b, "Signature1"...)
	b = append(appendHead(b, len(protected)), protected...)
	b = append(b, 0x40)
	return append(appendHead(b, len(payload)), payload...)
}

// appendHead encodes the head of a byte string of n bytes in its shortest form.
func appendHead(b []byte, n int) []byte {
	switch {
	case n < 24:
		return append(b, 0x40|byte(n))
	case n < 1<<8:
		return append(b, 0x58, byte(n))
	case n < 1<<16:
		return append(b, 0x59, byte(n>>8), byte(n))
	}
	return append(b, 0x5a, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
}

func majorType(raw cbor.RawMessage) byte {
	if len(raw) == 0 {
		return 0xff
	}
	return raw[0] >> 5
}

func byteString(mode modes, raw cbor.RawMessage) ([]byte, error) {
	if majorType(raw) != 2 {
		return nil, fmt.Errorf("not a byte string")
	}
	var b []byte
	err := mode.Unmarshal(raw, &b)
	return b, err
}

func textString(mode modes, name string, raw cbor.RawMessage) (s string, err error) {
	if majorType(raw) != 3 || mode.Unmarshal(raw, &s) != nil {
		return "", malformedError("COSE: %s is not a text", name)
	}
	return s, nil
}

func (r *rawEnvelope) coseProtected(mode modes, h headers) (err error) {
	r.present = make(map[string]bool, 8)
	for label, raw := range h {
		key := labelName(label)
		r.present[key] = true
		switch label {
		case labelAlg:
			var n int64
			if majorType(raw) > 1 || mode.Unmarshal(raw, &n) != nil {
				return malformedError("COSE: the algorithm is not a number")
			}
			if r.Algorithm = coseAlgorithms[n]; r.Algorithm == "" {
				return unsupportedError("COSE: the algorithm %d is not one of PS256, PS384, PS512, ES256, ES384, ES512", n)
			}
		case labelContent:
			r.contentType, err = textString(mode, "content type", raw)
		case labelCrit:
			err = r.coseCritical(mode, raw)
		case keyScheme:
			r.Scheme, err = textString(mode, keyScheme, raw)
		case keySigningTime:
			r.signingTime, err = readEpoch(mode, keySigningTime, raw)
		case keyAuthentic:
			r.authenticTime, err = readEpoch(mode, keyAuthentic, raw)
		case keyExpiry:
			r.Expiry, err = readEpoch(mode, keyExpiry, raw)
		default:
			switch label.(type) {
			case int64, string:
			default:
				return malformedError("COSE: a header's label is neither a number nor a text")
			}
			r.Attributes = append(r.Attributes, Attribute{Key: key})
			if key == keyPlugin {
				r.Plugin, _ = textString(mode, key, raw)
			}
			err = checkSound(mode, key, raw)
		}
		if err != nil {
			return err
		}
	}
	if r.Algorithm == "" {
		return malformedError("COSE: it states no algorithm")
	}
	return nil
}

// checkSound checks a value that nobody reads, down to its last text.
func checkSound(mode cbor.DecMode, name string, raw cbor.RawMessage) error {
	var v any
	if err := mode.Unmarshal(raw, &v); err != nil {
		return malformedError("COSE: %.100s: %v", name, err)
	}
	return nil
}

// labelName makes one namespace of numbers and texts: a text can be no "#1".
func labelName(label any) string {
	if s, ok := label.(string); ok {
		return s
	}
	return fmt.Sprintf("#%v", label)
}

func (r *rawEnvelope) coseCritical(mode modes, raw cbor.RawMessage) error {
	var labels []any
	if majorType(raw) != 4 || mode.Unmarshal(raw, &labels) != nil {
		return malformedError("COSE: crit is not a list")
	}
	for _, l := range labels {
		switch l := l.(type) {
		case string:
			if len(l) > 0 && l[0] == '#' {
				return malformedError("COSE: crit names %.100q", l)
			}
		case int64:
		default:
			return malformedError("COSE: crit names what is neither a number nor a text")
		}
		r.critical = append(r.critical, labelName(l))
	}
	return nil
}

// readEpoch reads a time: tag 1 with a whole number of seconds
// (signature-envelope-cose.md).
func readEpoch(mode modes, name string, raw cbor.RawMessage) (time.Time, error) {
	var seconds int64
	if len(raw) < 2 || raw[0] != tagEpoch || majorType(raw[1:]) != 0 || mode.Unmarshal(raw[1:], &seconds) != nil ||
		seconds < 0 || seconds > maxTimeInSeconds {
		return time.Time{}, malformedError("COSE: %s is not a time in whole seconds", name)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

func (r *rawEnvelope) coseUnprotected(mode modes, h headers) (err error) {
	for _, label := range []any{labelAlg, labelCrit, labelContent} {
		if _, ok := h[label]; ok {
			return malformedError("COSE: the header %v must be protected", label)
		}
	}
	for label, raw := range h {
		if err := checkSound(mode.untagged, labelName(label), raw); err != nil {
			return err
		}
	}
	raw, ok := h[labelX5Chain]
	if !ok {
		return malformedError("COSE: it carries no certificate")
	}
	var certs []cbor.RawMessage
	if majorType(raw) != 4 || mode.Unmarshal(raw, &certs) != nil {
		return malformedError("COSE: x5chain is not a list of certificates")
	}
	for _, c := range certs {
		der, err := byteString(mode, c)
		if err != nil {
			return malformedError("COSE: x5chain: %v", err)
		}
		r.certificates = append(r.certificates, der)
	}
	if raw, ok := h[keyTimestamp]; ok {
		if r.Timestamp, err = byteString(mode, raw); err != nil {
			return malformedError("COSE: %s: %v", keyTimestamp, err)
		}
	}
	if raw, ok := h[keySigningAgent]; ok {
		r.SigningAgent, err = textString(mode, keySigningAgent, raw)
	}
	return err
}
