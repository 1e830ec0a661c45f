package envelope

import (
	"bytes"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// coseWith signs a COSE_Sign1 whose protected header is changed.
func coseWith(t *testing.T, c *testca.Chain, o testca.SignOptions, change func([]testca.Member) []testca.Member) testca.COSEParts {
	t.Helper()
	members := need(c.COSEProtected(o))(t)
	if change != nil {
		members = change(members)
	}
	return need(c.SignCOSE(testca.RawCOSE{Protected: need(testca.EncodeCOSEMembers(members))(t), Payload: need(testca.Payload(target, nil))(t)}))(t)
}

func label(key, value any) func([]testca.Member) []testca.Member {
	return func(m []testca.Member) []testca.Member { return testca.SetMember(m, key, value) }
}

func more(key, value any) func([]testca.Member) []testca.Member {
	return func(m []testca.Member) []testca.Member { return append(m, testca.Member{Key: key, Value: value}) }
}

func TestCOSEHeaders(t *testing.T) {
	t.Parallel()
	c := testca.Test(t, testca.Options{})
	authority := testca.SignOptions{Scheme: testca.SchemeSigningAuthority}
	expires := testca.SignOptions{Expiry: time.Now().Add(time.Hour)}
	at := func(seconds any) cbor.Tag { return cbor.Tag{Number: 1, Content: seconds} }
	for _, tt := range []struct {
		name   string
		o      testca.SignOptions
		change func([]testca.Member) []testca.Member
		cause  boltseal.Cause
		says   string
	}{
		{"alg unknown", testca.SignOptions{}, label(labelAlg, int64(-257)), odd, "-257"},
		{"alg of another key", testca.SignOptions{}, label(labelAlg, int64(-35)), bad, "requires ES256"},
		{"alg missing", testca.SignOptions{}, label(labelAlg, nil), bad, "states no algorithm"},
		{"alg is a text", testca.SignOptions{}, label(labelAlg, "ES256"), bad, "algorithm is not a number"},
		{"alg twice", testca.SignOptions{}, more(labelAlg, int64(-7)), bad, "duplicate map key"},
		{"crit missing", testca.SignOptions{}, label(labelCrit, nil), bad, "no header is marked"},
		{"crit empty", testca.SignOptions{}, label(labelCrit, []any{}), bad, "no header is marked"},
		{"crit is a text", testca.SignOptions{}, label(labelCrit, keyScheme), bad, "crit is not a list"},
		{"crit has a list", testca.SignOptions{}, label(labelCrit, []any{keyScheme, []any{}}), bad, "neither a number nor a text"},
		{"crit has what looks like a number", testca.SignOptions{}, label(labelCrit, []any{keyScheme, "#1"}), bad, `crit names "#1"`},
		{"crit without the scheme", testca.SignOptions{}, func(m []testca.Member) []testca.Member {
			return testca.SetMember(append(m, testca.Member{Key: "a", Value: "b"}), labelCrit, []any{"a"})
		}, bad, keyScheme + " is not marked"},
		{"crit without the expiry", expires, label(labelCrit, []any{keyScheme}), bad, keyExpiry + " is not marked"},
		{"crit without the authority's time", authority, label(labelCrit, []any{keyScheme}), bad, keyAuthentic + " is not marked"},
		{"crit names what is not there", testca.SignOptions{}, label(labelCrit, []any{keyScheme, int64(99)}), bad, "is not there"},
		{"scheme unknown", testca.SignOptions{}, label(keyScheme, "other"), odd, "signing scheme"},
		{"scheme is a number", testca.SignOptions{}, label(keyScheme, int64(1)), bad, "is not a text"},
		{"time missing", testca.SignOptions{}, label(keySigningTime, nil), bad, "signing time is missing"},
		{"time without its tag", testca.SignOptions{}, label(keySigningTime, int64(1700000000)), bad, "not a time"},
		{"time with another tag", testca.SignOptions{}, label(keySigningTime, cbor.Tag{Number: 0, Content: "2026-01-01T00:00:00Z"}), bad, "not a time"},
		{"time is a fraction", testca.SignOptions{}, label(keySigningTime, at(1700000000.5)), bad, "not a time"},
		{"time is negative", testca.SignOptions{}, label(keySigningTime, at(int64(-1))), bad, "not a time"},
		{"time is far away", testca.SignOptions{}, label(keySigningTime, at(int64(1)<<62)), bad, "not a time"},
		{"time of the authority in x509", testca.SignOptions{}, more(keyAuthentic, at(int64(1700000000))), bad, "has no place"},
		{"expiry before the signing", expires, label(keyExpiry, at(int64(1))), bad, "is not after the signing time"},
		{"content type", testca.SignOptions{}, label(labelContent, "text/plain"), odd, "text/plain"},
		{"content type is a number", testca.SignOptions{}, label(labelContent, int64(50)), bad, "content type is not a text"},
		{"a label of bytes", testca.SignOptions{}, more([]byte("x"), "y"), bad, "COSE"},
		{"a label that is true", testca.SignOptions{}, more(true, "y"), bad, "neither a number nor a text"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			refused(t, MediaTypeCOSE, need(coseWith(t, c, tt.o, tt.change).CBOR())(t), tt.cause, tt.says)
		})
	}
	e, err := accept(MediaTypeCOSE, need(coseWith(t, c, testca.SignOptions{}, func(m []testca.Member) []testca.Member {
		m = append(m, testca.Member{Key: int64(99), Value: "n"}, testca.Member{Key: "example", Value: "t"})
		return testca.SetMember(m, labelCrit, []any{keyScheme, int64(99)})
	}).CBOR())(t))
	if err != nil || len(e.Attributes) != 2 || len(e.Critical()) != 1 || e.Critical()[0] != "#99" {
		t.Errorf("unknown attributes are for the verifier to refuse: %+v, %v", e, err)
	}
}

func TestCOSEShape(t *testing.T) {
	t.Parallel()
	c := testca.Test(t, testca.Options{})
	good := coseWith(t, c, testca.SignOptions{}, nil)
	right := need(good.CBOR())(t)
	if !compare(t, MediaTypeCOSE, right) {
		t.Fatal("the right envelope is refused")
	}
	with := func(change func(*testca.COSEParts)) []byte {
		p := good
		change(&p)
		return need(p.CBOR())(t)
	}
	unprotected := func(m map[any]any) []byte {
		return with(func(p *testca.COSEParts) { p.Unprotected = need(cbor.Marshal(m))(t) })
	}
	chain := []any{}
	for _, der := range c.Raw() {
		chain = append(chain, der)
	}
	tooMany := []any{}
	for range MaxCertificates + 1 {
		tooMany = append(tooMany, c.Raw()[0])
	}
	nested := []byte{tagSign1, 0x84, 0x40, 0xa1, 0x61, 'x'}
	nested = append(append(nested, bytes.Repeat([]byte{0x81}, 5000)...), 0x00, 0x40, 0x40)
	for _, tt := range []struct {
		name  string
		b     []byte
		cause boltseal.Cause
		says  string
	}{
		{"nothing", nil, bad, "tag"}, {"untagged", with(func(p *testca.COSEParts) { p.Untagged = true }), bad, "tag"},
		{"another tag", append([]byte{0xd1}, right[1:]...), bad, "tag"}, {"indefinite", with(func(p *testca.COSEParts) { p.Indefinite = true }), bad, "indefinite"},
		{"detached", with(func(p *testca.COSEParts) { p.Detached = true }), bad, "part 3"}, {"trailing", append(bytes.Clone(right), 0), bad, "COSE"},
		{"cut", right[:len(right)/2], bad, "COSE"}, {"three parts", []byte{tagSign1, 0x83, 0x40, 0xa0, 0x40}, bad, "3 parts"},
		{"a map in place of parts", []byte{tagSign1, 0xa0}, bad, "COSE"}, {"deep", nested, bad, "COSE"},
		{"no signature", with(func(p *testca.COSEParts) { p.Signature = []byte{} }), bad, "signature is empty"},
		{"another signature", with(func(p *testca.COSEParts) {
			p.Signature = coseWith(t, c, testca.SignOptions{SigningTime: time.Now().Add(-time.Hour)}, nil).Signature
		}), boltseal.CauseTampered, "does not match"},
		{"payload changed", with(func(p *testca.COSEParts) { p.Payload = bytes.Replace(p.Payload, []byte("1234"), []byte("4321"), 1) }), boltseal.CauseTampered, "does not match"},
		{"protected is empty", with(func(p *testca.COSEParts) { p.Protected = nil }), bad, "COSE"},
		{"no chain", unprotected(map[any]any{}), bad, "no certificate"}, {"chain is bytes", unprotected(map[any]any{labelX5Chain: c.Raw()[0]}), bad, "not a list"},
		{"chain has texts", unprotected(map[any]any{labelX5Chain: []any{"x"}}), bad, "x5chain"}, {"chain has rubbish", unprotected(map[any]any{labelX5Chain: []any{[]byte("x")}}), bad, "certificate 1"},
		{"chain empty", unprotected(map[any]any{labelX5Chain: []any{}}), bad, "no certificate"}, {"chain too long", unprotected(map[any]any{labelX5Chain: tooMany}), boltseal.CauseLimit, "11 certificates"},
		{"alg not protected", unprotected(map[any]any{labelX5Chain: chain, labelAlg: int64(-7)}), bad, "both protected and not"},
		{"crit not protected", unprotected(map[any]any{labelX5Chain: chain, labelCrit: []any{}}), bad, "both protected and not"},
		{"a tag where none belongs", unprotected(map[any]any{labelX5Chain: chain, "x": cbor.Tag{Number: 1, Content: int64(0)}}), bad, "COSE"},
		{"timestamp is a text", unprotected(map[any]any{labelX5Chain: chain, keyTimestamp: "x"}), bad, "not a byte string"},
		{"agent is bytes", unprotected(map[any]any{labelX5Chain: chain, keySigningAgent: []byte("x")}), bad, "is not a text"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			refused(t, MediaTypeCOSE, tt.b, tt.cause, tt.says)
		})
	}
	if e, err := accept(MediaTypeCOSE, unprotected(map[any]any{labelX5Chain: chain, "kid": "x", int64(4): []byte("k")})); err != nil || len(e.Attributes) != 0 {
		t.Errorf("what is not signed means nothing, and may be there: %+v, %v", e, err)
	}
}
