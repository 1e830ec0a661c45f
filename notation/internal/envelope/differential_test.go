package envelope

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// TestDifferential holds thousands of envelopes, right ones and changed ones,
// against notation-core-go. BOLTSEAL_DIFFERENTIAL sets how many.
func TestDifferential(t *testing.T) {
	t.Parallel()
	n := 4000
	if text := os.Getenv("BOLTSEAL_DIFFERENTIAL"); text != "" {
		n = need(strconv.Atoi(text))(t)
	}
	r := rand.New(rand.NewPCG(11, 23))
	cs := chains(t)
	var right []testca.Envelope
	for i := range 24 * len(cs) {
		env := need(cs[i/24].Sign(target, options(i)))(t)
		if !compare(t, env.MediaType, env.Content) {
			_, err := accept(env.MediaType, env.Content)
			t.Fatalf("a right envelope is refused (%d): %v", i, err)
		}
		right = append(right, env)
	}
	both := 0
	for range n {
		env := right[r.IntN(len(right))]
		if compare(t, env.MediaType, change(r, env)) {
			both++
		}
	}
	t.Logf("%d right envelopes, %d changed ones, of which both accept %d", len(right), n, both)
}

// change makes one to three changes to the envelope's bytes or structure.
func change(r *rand.Rand, env testca.Envelope) []byte {
	b := bytes.Clone(env.Content)
	for range 1 + r.IntN(3) {
		switch {
		case r.IntN(2) == 0:
			b = flip(r, b)
		case env.MediaType == MediaTypeJWS:
			b = changeJSON(r, b)
		default:
			b = changeCBOR(r, b)
		}
	}
	return b
}

// flip changes single bytes.
func flip(r *rand.Rand, b []byte) []byte {
	if len(b) == 0 {
		return b
	}
	i := r.IntN(len(b))
	switch r.IntN(4) {
	case 0:
		b[i] ^= 1 << r.IntN(8)
	case 1:
		return append(b[:i:i], b[i+1:]...)
	case 2:
		return append(append(b[:i:i], byte(r.IntN(256))), b[i:]...)
	default:
		return b[:i]
	}
	return b
}

// changeJSON changes a member: dropped, emptied, of another type, twice, of
// another case, or an unknown one.
func changeJSON(r *rand.Rand, b []byte) []byte {
	var doc map[string]json.RawMessage
	if json.Unmarshal(b, &doc) != nil || len(doc) == 0 {
		return flip(r, b)
	}
	names := []string{"payload", "protected", "header", "signature"}
	name := names[r.IntN(len(names))]
	var header map[string]json.RawMessage
	inner := r.IntN(2) == 0 && json.Unmarshal(doc["header"], &header) == nil && len(header) > 0
	m := doc
	if inner {
		m, name = header, []string{"x5c", keySigningAgent, keyTimestamp}[r.IntN(3)]
	}
	values := []string{`null`, `""`, `[]`, `{}`, `0`, `"AAAA"`, `["AAAA"]`, `true`}
	switch r.IntN(5) {
	case 0:
		delete(m, name)
	case 1:
		m[name] = json.RawMessage(values[r.IntN(len(values))])
	case 2:
		m["extra"] = json.RawMessage(values[r.IntN(len(values))])
	case 3:
		m[string(bytes.ToUpper([]byte(name[:1])))+name[1:]] = json.RawMessage(values[r.IntN(len(values))])
	default:
		out, _ := json.Marshal(doc)
		return append(append([]byte(`{"`+name+`":`+values[r.IntN(len(values))]+`,`), out[1:]...), ' ')
	}
	if inner {
		doc["header"], _ = json.Marshal(header)
	}
	out, _ := json.Marshal(doc)
	return out
}

// changeCBOR changes one of the four parts, or the unprotected header.
func changeCBOR(r *rand.Rand, b []byte) []byte {
	var parts []cbor.RawMessage
	if len(b) < 2 || cbor.Unmarshal(b[1:], &parts) != nil || len(parts) != 4 {
		return flip(r, b)
	}
	values := []any{nil, []byte{}, "", int64(0), map[string]any{}, []any{}, true, []byte{0xa0}, []byte{0xbf, 0xff}}
	raw, _ := cbor.Marshal(values[r.IntN(len(values))])
	switch r.IntN(4) {
	case 0:
		parts[r.IntN(4)] = raw
	case 1:
		parts = append(parts, raw)
	case 2:
		parts = parts[:r.IntN(4)]
	default:
		var un map[any]cbor.RawMessage
		if cbor.Unmarshal(parts[1], &un) != nil || un == nil {
			return flip(r, b)
		}
		if un == nil {
			un = map[any]cbor.RawMessage{}
		}
		keys := []any{labelX5Chain, keySigningAgent, keyTimestamp, labelAlg, labelCrit, int64(99), "extra"}
		un[keys[r.IntN(len(keys))]] = raw
		parts[1], _ = cbor.Marshal(un)
	}
	body, _ := cbor.Marshal(parts)
	return append([]byte{tagSign1}, body...)
}

func fuzz(f *testing.F, mediaType string, format testca.Format) {
	for i, c := range chains(f) {
		for j := range 12 {
			o := options(2*j + i)
			o.Format = format
			f.Add(need(c.Sign(target, o))(f).Content)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: 128 << 10, Times: 64}.Check(t, len(b), func() { _, _ = accept(mediaType, b) })
		compare(t, mediaType, b)
	})
}

func FuzzJWS(f *testing.F)  { fuzz(f, MediaTypeJWS, testca.JWS) }
func FuzzCOSE(f *testing.F) { fuzz(f, MediaTypeCOSE, testca.COSE) }

func BenchmarkVerify(b *testing.B) {
	for _, a := range []testca.Algorithm{testca.P256, testca.RSA2048, testca.RSA3072} {
		c := testca.Test(b, testca.Options{Leaf: testca.Spec{Key: a}, Intermediates: []testca.Spec{{}}})
		for _, format := range []testca.Format{testca.JWS, testca.COSE} {
			env := need(c.Sign(target, testca.SignOptions{Format: format}))(b)
			b.Run(string(a)+" "+format.String()+" boltseal", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					need(accept(env.MediaType, env.Content))(b)
				}
			})
			b.Run(string(a)+" "+format.String()+" notation-core-go", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					need(theirs(env.MediaType, env.Content))(b)
				}
			})
		}
	}
}
