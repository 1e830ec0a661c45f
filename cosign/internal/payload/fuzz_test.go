package payload

import (
	"bytes"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzStatement: a statement is about a digest only where its text has it, and reading
// costs no more than its size.
func FuzzStatement(f *testing.F) {
	about := digest.FromString("x")
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + about.Encoded() + `"},"annotations":{"a":"b","c":1}}],"predicateType":"p","predicate":{}}`))
	f.Add([]byte(`{"_type":"https://in-toto.io/Statement/v0.1","subject":[{"name":"n","digest":{}},{"digest":null}],"predicateType":"p"}`))
	f.Add([]byte(`{"subject":[[],{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: 64 << 10, Times: 64}.Check(t, len(b), func() { _, _ = ParseStatement(InToto, b) })
		s, err := ParseStatement(InToto, b)
		if err == nil && (s.PredicateType == "" || len(s.Subjects) == 0 || len(s.Subjects) > MaxSubjects) {
			t.Fatalf("%+v", s)
		}
		if err == nil && s.About(about) != nil && !bytes.Contains(b, []byte("sha256")) && !bytes.Contains(b, []byte(`\u`)) {
			t.Fatalf("%+v", s)
		}
	})
}

// FuzzSimple: what is read of a payload names a digest, and reading costs no more than
// its size.
func FuzzSimple(f *testing.F) {
	f.Add([]byte(`{"critical":{"identity":{"docker-reference":"a/b"},"image":{"docker-manifest-digest":"` + string(digest.FromString("x")) + `"},"type":"cosign container image signature"},"optional":{"a":"b"}}`))
	f.Add([]byte(`{"critical":{"identity":null,"image":{}},"optional":null}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: 64 << 10, Times: 64}.Check(t, len(b), func() { _, _ = ParseSimple(b) })
		if s, err := ParseSimple(b); err == nil && s.Digest.Validate() != nil {
			t.Fatalf("%+v", s)
		}
	})
}

// FuzzPAE: two envelopes have one encoding only where they are the same.
func FuzzPAE(f *testing.F) {
	f.Add("a", []byte("b"), "ab", []byte(""))
	f.Add("a 1 b", []byte(""), "a", []byte("1 b"))
	f.Fuzz(func(t *testing.T, t1 string, p1 []byte, t2 string, p2 []byte) {
		weight.Bound{Floor: 64 << 10, Times: 8}.Check(t, len(t1)+len(p1), func() { _ = PAE(t1, p1) })
		if bytes.Equal(PAE(t1, p1), PAE(t2, p2)) != (t1 == t2 && bytes.Equal(p1, p2)) {
			t.Fatalf("%q %q, %q %q", t1, p1, t2, p2)
		}
	})
}
