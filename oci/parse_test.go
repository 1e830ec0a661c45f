package oci

import (
	"net/http"
	"strings"
	"testing"
)

func TestParseChallenges(t *testing.T) {
	t.Parallel()
	bearer := challenge{scheme: "bearer", realm: "https://auth.example/token", service: "registry.example"}
	basic := challenge{scheme: "basic", realm: "r"}
	const text = `Bearer realm="https://auth.example/token",service="registry.example"`
	for _, c := range []struct {
		headers string // one a line
		want    challenge
	}{
		{text + `,scope="repository:a/b:pull"`, bearer},
		{`bearer  realm = "https://auth.example/token" , , service=registry.example`, bearer},
		{text + `,error="invalid_token"`, bearer},
		{"Basic realm=r\n" + text, bearer},
		{text + "\nBasic realm=r", bearer},
		{"Basic realm=r, " + text, bearer},
		{text + ", Basic realm=r", bearer},
		{"Negotiate, " + text, bearer},
		{"Negotiate abc+/==, " + text, bearer},
		{"Negotiate abc, Basic realm=r", basic},
		{`Digest realm="x", nonce="y, Basic realm=z", ` + text, bearer},
		{`Basic realm="r"`, basic},
		{`BASIC REALM="\r"`, basic},
		{`Basic`, challenge{scheme: "basic"}},
		{`Bearer`, challenge{scheme: "bearer"}},
		{`Bearer realm="a\"b\\c"`, challenge{scheme: "bearer", realm: `a"b\c`}},
		// Not valid, and not guessed at.
		{``, challenge{}}, {`,`, challenge{}}, {`"`, challenge{}}, {`=`, challenge{}},
		{`Bearer realm="https://auth.example/token`, challenge{}},
		{`Bearer realm="a\`, challenge{}},
		{`Bearer realm="a",realm="b"`, challenge{}},
		{`Bearer realm="a",service="b",service="c"`, challenge{}},
		{`Negotiate abc`, challenge{}},
		{text + strings.Repeat(" ", maxChallengeLength), challenge{}},
		{"a\nb\nc\nd\n" + text, challenge{}},
	} {
		got, ok := parseChallenges(strings.Split(c.headers, "\n"))
		if got != c.want || ok != (c.want.scheme != "") {
			t.Errorf("%.200q: %+v, %v; want %+v", c.headers, got, ok, c.want)
		}
	}
}

func TestNextLink(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ headers, want string }{
		{`</v2/a/referrers/x?n=1>; rel="next"`, "/v2/a/referrers/x?n=1"},
		{`<x>;rel=next`, "x"}, {`<x> ; REL = NEXT`, "x"}, {`< x >; rel="prev next"`, "x"},
		{`<a,b>; rel="next"`, "a,b"},
		{`<a>; rel="last", <b>; rel="next"`, "b"},
		{"<a>; rel=\"last\"\n<b>; rel=\"next\"", "b"},
		{`<a>; title="x, <c>; rel=next", <b>; rel="next"`, "b"},
		{`<a>; rel=last; rel=next`, ""}, // of two, the first counts
		{`<a>; x; y=; rel`, "-"}, {`<a>; x; y; rel`, ""},
		{``, ""}, {`,, `, ""}, {`<a>`, ""}, {`<a>; rel="nextx"`, ""},
		{`<>; rel="next"`, "-"}, {`a; rel="next"`, "-"}, {`<a; rel="next"`, "-"}, {`<a> rel="next"`, "-"}, {`<a>; rel="next`, "-"},
		{`<a>; rel="last", b`, "-"}, {`<a>; =next`, "-"},
		{strings.Repeat("<a>\n", maxLinkHeaders) + `<a>; rel="next"`, "-"},
		{`<` + strings.Repeat("a", maxLinkLength) + `>; rel="next"`, "-"},
	} {
		h := http.Header{"Link": strings.Split(c.headers, "\n")}
		got, err := nextLink(h)
		if want := strings.TrimPrefix(c.want, "-"); got != want || (err != nil) != (c.want == "-") {
			t.Errorf("%.100q: %q, %v; want %q", c.headers, got, err, c.want)
		}
	}
}
