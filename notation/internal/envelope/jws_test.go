package envelope

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// refused checks that an envelope is refused for the cause, in words that say why.
func refused(t *testing.T, mediaType string, b []byte, cause boltseal.Cause, says string) {
	t.Helper()
	e, err := accept(mediaType, b)
	var ee *Error
	switch {
	case err == nil:
		t.Fatalf("accepted: %+v", e)
	case !errors.As(err, &ee) || ee.Cause != cause || !strings.Contains(ee.Detail, says):
		t.Errorf("%v\nwant %s: %q", err, cause, says)
	}
	compare(t, mediaType, b)
}

const (
	bad = boltseal.CauseMalformed
	odd = boltseal.CauseUnsupported
)

// jwsWith signs a JWS whose protected header is changed.
func jwsWith(t *testing.T, c *testca.Chain, o testca.SignOptions, change func([]testca.Member) []testca.Member) testca.JWSParts {
	t.Helper()
	members := need(c.JWSProtected(o))(t)
	if change != nil {
		members = change(members)
	}
	return need(c.SignJWS(testca.RawJWS{Protected: need(testca.EncodeMembers(members))(t), Payload: need(testca.Payload(target, nil))(t)}))(t)
}

func set(key string, value any) func([]testca.Member) []testca.Member {
	return func(m []testca.Member) []testca.Member { return testca.SetMember(m, key, value) }
}

func add(key string, value any) func([]testca.Member) []testca.Member {
	return func(m []testca.Member) []testca.Member { return append(m, testca.Member{Key: key, Value: value}) }
}

func TestJWSHeaders(t *testing.T) {
	t.Parallel()
	c := testca.Test(t, testca.Options{})
	authority := testca.SignOptions{Scheme: testca.SchemeSigningAuthority}
	expires := testca.SignOptions{Expiry: time.Now().Add(time.Hour)}
	now := time.Now().UTC().Format(time.RFC3339)
	for _, tt := range []struct {
		name   string
		o      testca.SignOptions
		change func([]testca.Member) []testca.Member
		cause  boltseal.Cause
		says   string
	}{
		{"alg none", testca.SignOptions{}, set("alg", "none"), odd, `"none" is not one of`},
		{"alg HS256", testca.SignOptions{}, set("alg", "HS256"), odd, "HS256"},
		{"alg RS256", testca.SignOptions{}, set("alg", "RS256"), odd, "RS256"},
		{"alg of another key", testca.SignOptions{}, set("alg", "ES384"), bad, "the signer's key requires ES256"},
		{"alg of another kind", testca.SignOptions{}, set("alg", "PS256"), bad, "requires ES256"},
		{"no alg", testca.SignOptions{}, set("alg", nil), bad, "states no algorithm"},
		{"alg is a number", testca.SignOptions{}, set("alg", 7), bad, "alg is not a text"},
		{"Alg", testca.SignOptions{}, add("Alg", "ES256"), bad, "upper and lower case"},
		{"alg twice", testca.SignOptions{}, add("alg", "ES256"), bad, "duplicate"},
		{"crit twice", testca.SignOptions{}, add("crit", []string{keyScheme}), bad, "duplicate"},
		{"no crit", testca.SignOptions{}, set("crit", nil), bad, "no header is marked"},
		{"crit empty", testca.SignOptions{}, set("crit", []string{}), bad, "no header is marked"},
		{"crit without the scheme", testca.SignOptions{Attributes: []testca.Attribute{{Key: "a", Critical: true, Value: "b"}}}, set("crit", []string{"a"}), bad, keyScheme + " is not marked as critical"},
		{"crit without the expiry", expires, set("crit", []string{keyScheme}), bad, keyExpiry + " is not marked"},
		{"crit without the authority's time", authority, set("crit", []string{keyScheme}), bad, keyAuthentic + " is not marked"},
		{"crit names one twice", testca.SignOptions{}, set("crit", []string{keyScheme, keyScheme}), bad, "critical twice"},
		{"crit names what is not there", testca.SignOptions{}, set("crit", []string{keyScheme, "gone"}), bad, `"gone" is marked as critical, and is not there`},
		{"crit names alg", testca.SignOptions{}, set("crit", []string{keyScheme, "alg"}), bad, `"alg" is marked as critical`},
		{"crit is a text", testca.SignOptions{}, set("crit", keyScheme), bad, "crit is not a list"},
		{"crit has a number", testca.SignOptions{}, set("crit", []any{keyScheme, 1}), bad, "crit is not a list"},
		{"b64", testca.SignOptions{}, add("b64", false), odd, "RFC 7797"},
		{"b64 true", testca.SignOptions{}, add("b64", true), odd, "RFC 7797"},
		{"scheme missing", testca.SignOptions{}, set(keyScheme, nil), odd, "signing scheme"},
		{"scheme unknown", testca.SignOptions{}, set(keyScheme, "notary.other"), odd, "notary.other"},
		{"time missing", testca.SignOptions{}, set(keySigningTime, nil), bad, "signing time is missing"},
		{"time is a number", testca.SignOptions{}, set(keySigningTime, 1700000000), bad, "is not a text"},
		{"time is no time", testca.SignOptions{}, set(keySigningTime, "yesterday"), bad, "is not a time"},
		{"time of the authority in x509", testca.SignOptions{}, add(keyAuthentic, now), bad, "has no place in the scheme"},
		{"signing time with an authority", authority, add(keySigningTime, now), bad, "has no place in the scheme"},
		{"authority without its time", authority, set(keyAuthentic, nil), bad, "signing time is missing"},
		{"expiry before the signing", expires, set(keyExpiry, "2001-01-01T00:00:00Z"), bad, "is not after the signing time"},
		{"content type", testca.SignOptions{}, set("cty", "text/plain"), odd, "text/plain"},
		{"no content type", testca.SignOptions{}, set("cty", nil), odd, "content type"},
		{"too many", testca.SignOptions{}, func(m []testca.Member) []testca.Member {
			for i := range MaxAttributes {
				m = append(m, testca.Member{Key: "x" + string(rune('A'+i)), Value: i})
			}
			return m
		}, bad, "more than 64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			refused(t, MediaTypeJWS, jwsWith(t, c, tt.o, tt.change).JSON(), tt.cause, tt.says)
		})
	}
	e, err := accept(MediaTypeJWS, jwsWith(t, c, testca.SignOptions{}, func(m []testca.Member) []testca.Member {
		return testca.SetMember(add("example.must", "x")(m), "crit", []string{keyScheme, "example.must"})
	}).JSON())
	if err != nil || len(e.Critical()) != 1 || e.Critical()[0] != "example.must" {
		t.Errorf("an unknown critical attribute is for the verifier to refuse: %+v, %v", e, err)
	}
}

func TestJWSShape(t *testing.T) {
	t.Parallel()
	c := testca.Test(t, testca.Options{})
	good := jwsWith(t, c, testca.SignOptions{}, nil)
	if !compare(t, MediaTypeJWS, good.JSON()) {
		t.Fatal("the right envelope is refused")
	}
	with := func(change func(*testca.JWSParts)) []byte {
		p := good
		change(&p)
		return p.JSON()
	}
	header := func(text string) []byte {
		return with(func(p *testca.JWSParts) { p.Header = []byte(text) })
	}
	b64 := base64.StdEncoding.EncodeToString
	leaf, many := b64(c.Raw()[0]), strings.TrimSuffix(strings.Repeat(`"`+b64(c.Raw()[0])+`",`, MaxCertificates+1), ",")
	for _, tt := range []struct {
		name  string
		b     []byte
		cause boltseal.Cause
		says  string
	}{
		{"nothing", nil, bad, "JWS"}, {"null", []byte("null"), bad, "protected is missing"}, {"a list", []byte("[]"), bad, "JWS"},
		{"two documents", append(good.JSON(), good.JSON()...), bad, "JWS"}, {"trailing", append(good.JSON(), 'x'), bad, "JWS"},
		{"payload twice", good.JSON(`"payload":"e30"`), bad, "duplicate"}, {"unknown member", good.JSON(`"signatures":[]`), bad, "unknown"},
		{"other case", good.JSON(`"Payload":"e30"`), bad, "unknown"},
		{"signature empty", with(func(p *testca.JWSParts) { p.Signature = "" }), bad, "signature is missing"},
		{"signature of another", with(func(p *testca.JWSParts) {
			p.Signature = jwsWith(t, c, testca.SignOptions{}, nil).Signature[:80] + "AAAAAA"
		}), boltseal.CauseTampered, "does not match"},
		{"signature too short", with(func(p *testca.JWSParts) { p.Signature = p.Signature[:80] }), boltseal.CauseTampered, "does not match"},
		{"padded base64", with(func(p *testca.JWSParts) { p.Payload += "==" }), bad, "payload"},
		{"line break", with(func(p *testca.JWSParts) { p.Payload = p.Payload[:4] + `\n` + p.Payload[4:] }), bad, "payload"},
		{"payload changed", with(func(p *testca.JWSParts) { p.Payload = base64.RawURLEncoding.EncodeToString([]byte(`{}`)) }), bad, "targetArtifact"},
		{"protected is a list", with(func(p *testca.JWSParts) { p.Protected = base64.RawURLEncoding.EncodeToString([]byte(`[]`)) }), bad, "not a JSON object"},
		{"protected and more", with(func(p *testca.JWSParts) { p.Protected = base64.RawURLEncoding.EncodeToString([]byte(`{} {}`)) }), bad, "something follows"},
		{"protected is cut", with(func(p *testca.JWSParts) { p.Protected = base64.RawURLEncoding.EncodeToString([]byte(`{"alg":`)) }), bad, "alg"},
		{"no header", header("null"), bad, "not a JSON object"}, {"header without certificates", header(`{}`), bad, "no certificate"},
		{"x5c is a text", header(`{"x5c":"` + leaf + `"}`), bad, "x5c is not a list"}, {"x5c has rubbish", header(`{"x5c":["!"]}`), bad, "x5c"},
		{"x5c is no certificate", header(`{"x5c":["AAAA"]}`), bad, "certificate 1 of its chain"}, {"x5c empty", header(`{"x5c":[]}`), bad, "no certificate"},
		{"x5c too long", header(`{"x5c":[` + many + `]}`), boltseal.CauseLimit, "11 certificates"}, {"X5C", header(`{"x5c":["` + leaf + `"],"X5C":[]}`), bad, "upper and lower"},
		{"x5c twice", header(`{"x5c":["` + leaf + `"],"x5c":["` + leaf + `"]}`), bad, "duplicate"},
		{"timestamp is a number", header(`{"x5c":["` + leaf + `"],"` + keyTimestamp + `":1}`), bad, "is not a text"},
		{"deep", append([]byte(`{"a":`), strings.Repeat("[", 20000)+strings.Repeat("]", 20000)+"}"...), bad, "JWS"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			refused(t, MediaTypeJWS, tt.b, tt.cause, tt.says)
		})
	}
	refused(t, "application/json", good.JSON(), odd, "media type")
	unknown := header(`{"x5c":["` + leaf + `","` + b64(c.Raw()[1]) + `"],"kid":"x","extra":{"a":[1]}}`)
	if e, err := accept(MediaTypeJWS, unknown); err != nil || len(e.Attributes) != 0 {
		t.Errorf("what is not signed means nothing, and may be there: %+v, %v", e, err)
	}
}

func TestPayload(t *testing.T) {
	t.Parallel()
	c := testca.Test(t, testca.Options{})
	digest := target.Digest.String()
	for name, text := range map[string]string{
		"nothing": ``, "null": `null`, "no target": `{}`, "target null": `{"targetArtifact":null}`, "a list": `[]`,
		"unknown member": `{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":1},"more":1}`,
		"twice":          `{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":1},"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":2}}`,
		"digest twice":   `{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","digest":"` + digest + `","size":1}}`,
		"other case":     `{"TargetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":1}}`,
		"digest's case":  `{"targetArtifact":{"mediaType":"a/b","Digest":"` + digest + `","size":1}}`,
		"no media type":  `{"targetArtifact":{"digest":"` + digest + `","size":1}}`,
		"no digest":      `{"targetArtifact":{"mediaType":"a/b","size":1}}`,
		"bad digest":     `{"targetArtifact":{"mediaType":"a/b","digest":"sha256:00","size":1}}`,
		"negative size":  `{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":-1}}`,
		"huge size":      `{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":4611686018427387904}}`,
		"size is a text": `{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":"1"}}`,
		"two documents":  `{"targetArtifact":{"mediaType":"a/b","digest":"` + digest + `","size":1}}{}`,
		"not UTF-8":      "{\"targetArtifact\":{\"mediaType\":\"a/\xff\",\"digest\":\"" + digest + "\",\"size\":1}}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := need(c.SignJWS(testca.RawJWS{Protected: need(testca.EncodeMembers(need(c.JWSProtected(testca.SignOptions{}))(t)))(t), Payload: []byte(text)}))(t)
			e, err := accept(MediaTypeJWS, p.JSON())
			var ee *Error
			if !errors.As(err, &ee) || ee.Cause != bad || !strings.Contains(ee.Detail, "payload") {
				t.Errorf("%+v, %v", e, err)
			}
		})
	}
}
