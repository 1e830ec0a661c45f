// Package tracecontext reads and writes the header traceparent (W3C Trace Context).
package tracecontext

import "encoding/hex"

// Header is the header's name, as net/http writes it.
const Header = "Traceparent"

const (
	length    = 55  // of version 00: "00-" 32 digits "-" 16 digits "-" 2 digits
	maxLength = 256 // of later versions, which may have more behind a hyphen
	sampled   = 0x01
	random    = 0x02 // level 2: the trace id is random
)

// Parent is who asks, as a part of a trace. The zero value is nobody.
type Parent struct {
	TraceID [16]byte
	SpanID  [8]byte
	flags   byte
}

// NewParent is a parent with these ids.
func NewParent(traceID [16]byte, spanID [8]byte, isSampled bool) Parent {
	p := Parent{TraceID: traceID, SpanID: spanID}
	if isSampled {
		p.flags = sampled
	}
	return p
}

// Parse reads the values of the header. What is not exactly as section 3.2 demands, or
// comes more than once, is no parent.
func Parse(values []string) Parent {
	if len(values) != 1 {
		return Parent{}
	}
	v := values[0]
	var version, flags [1]byte
	var p Parent
	switch {
	case len(v) < length || len(v) > maxLength || v[2] != '-' || v[35] != '-' || v[52] != '-',
		!readDigits(version[:], v[0:2]), version[0] == 0xff,
		version[0] == 0 && len(v) != length,
		len(v) > length && v[length] != '-',
		!readDigits(p.TraceID[:], v[3:35]), p.TraceID == [16]byte{},
		!readDigits(p.SpanID[:], v[36:52]), p.SpanID == [8]byte{},
		!readDigits(flags[:], v[53:55]):
		return Parent{}
	}
	// Of later versions nothing is known but that the flag "sampled" is the same.
	if p.flags = flags[0] & sampled; version[0] == 0 {
		p.flags = flags[0] & (sampled | random)
	}
	return p
}

// readDigits reads lower-case hexadecimal digits.
func readDigits(dst []byte, s string) bool {
	for i := range dst {
		high, ok := readDigit(s[2*i])
		low, ok2 := readDigit(s[2*i+1])
		if !ok || !ok2 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

func readDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// Valid reports whether there is a parent.
func (p Parent) Valid() bool { return p.TraceID != [16]byte{} }

// Sampled reports whether the parent says that it is recorded.
func (p Parent) Sampled() bool { return p.flags&sampled != 0 }

// Unsampled is the parent without that flag.
func (p Parent) Unsampled() Parent {
	p.flags &^= sampled
	return p
}

// ID is the trace's id in hexadecimal digits, "" where there is no parent.
func (p Parent) ID() string {
	if !p.Valid() {
		return ""
	}
	return hex.EncodeToString(p.TraceID[:])
}

// String is the header's value, of version 00; "" where there is no parent.
func (p Parent) String() string {
	if !p.Valid() {
		return ""
	}
	b := make([]byte, 0, length)
	b = append(b, "00-"...)
	b = append(hex.AppendEncode(b, p.TraceID[:]), '-')
	b = append(hex.AppendEncode(b, p.SpanID[:]), '-')
	return string(hex.AppendEncode(b, []byte{p.flags}))
}
