package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/weight"
)

func seeds(f *testing.F) {
	for _, s := range []string{
		"", "a: b\n", "{\"a\": [1, true, null, 1.5e3]}", "kind: List\nitems:\n- name: a\n", "a: &x {b: c}\nd: *x\n", "a: &a [*a]\n", "<<: {a: b}\n",
		"name: a\nflag: yes\nttl: 5\nscopes: [x]\nleaf: {level: l}\nleaves: [{level: m}]\nwhen: now\n", "name: 2026-11-23\nraw: {0x10: 1, on: 2}\n",
		"a: !!binary aGk=\n", "? [a]\n: b\n", "\ufeffa: b\n---\n\ufeffc: d\n", "a: |\n  x\n  y\n", "a: 1_000\nb: 0o14\nc: 014\nd: 1:30\ne: .inf\nf: 0b11\ng: y\nh: 1e3\n",
		"a: \"\\x01\"\n", "---\n---\n", "%YAML 1.1\n---\na: b\n", "a:\n\tb\n", "nmae: x\nnmae: y\n", "a: 99999999999999999999\nb: -0\nc: 18446744073709551615\n",
	} {
		f.Add([]byte(s))
	}
	if b, err := os.ReadFile(filepath.Join("..", "..", "..", "examples", "verify-config.yaml")); err == nil {
		f.Add(b)
	}
}

// FuzzDecode: every problem is one of the configuration, in a line that the
// file has, in words that a terminal can show; and what was accepted reads the
// same after it was written again.
func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: 256 << 10, Times: 512}.Check(t, len(b), func() { _, _ = Documents("f", b) })
		docs, err := Documents("f", b)
		if err != nil {
			checkProblems(t, b, err)
			return
		}
		if len(docs) > MaxDocuments {
			t.Fatalf("%d documents", len(docs))
		}
		for _, d := range docs {
			var v sample
			if err := d.Decode(&v); err != nil {
				checkProblems(t, b, err)
				continue
			}
			again, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			more, err := Documents("g", again)
			if err != nil || len(more) != 1 {
				t.Fatalf("%s: %v", again, err)
			}
			var w sample
			if err := more[0].Decode(&w); err != nil && len(again) < MaxBytes {
				t.Fatalf("%s: %v", again, err)
			}
			third, err := json.Marshal(w)
			if err != nil || !bytes.Equal(again, third) {
				t.Fatalf("%s\nis not\n%s\n%v", again, third, err)
			}
		}
	})
}

func checkProblems(t *testing.T, b []byte, err error) {
	t.Helper()
	ps := flatten(err)
	if len(ps) == 0 || len(ps) > MaxProblems+1 || !errors.Is(err, boltseal.ErrConfiguration) {
		t.Fatalf("%d problems: %v", len(ps), err)
	}
	// YAML has more line breaks than Unix: \r, NEL, LS and PS.
	text := string(b)
	if bytes.HasPrefix(b, []byte("\xff\xfe")) || bytes.HasPrefix(b, []byte("\xfe\xff")) {
		text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "")
	}
	lines := 1
	for _, br := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
		lines += strings.Count(text, br)
	}
	for _, p := range ps {
		if p.Line < 0 || p.Line > lines+1 {
			t.Fatalf("line %d of %d: %v", p.Line, lines, p)
		}
		if p.Message == "" || len(p.Error()) > 4000 || strings.ContainsFunc(p.Error(), func(r rune) bool { return r < ' ' }) {
			t.Fatalf("%q", p.Error())
		}
	}
}

// nonSpecific is a tag that says nothing: the parser does not tell it from none,
// and kubectl takes an empty value with one for a text.
var nonSpecific = regexp.MustCompile(`!([^!<a-zA-Z0-9]|$)`)

// FuzzLikeKubectl: what is accepted means what kubectl would make of it.
func FuzzLikeKubectl(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		docs, err := Documents("f", b)
		if err != nil || len(docs) != 1 || bytes.Contains(b, []byte("List")) || nonSpecific.Match(b) || bytes.Contains(b, []byte("---")) || bytes.Contains(b, []byte("...")) {
			return
		}
		var ours any
		if docs[0].Decode(&ours) != nil {
			return
		}
		var theirs any
		if err := yaml.Unmarshal(b, &theirs); err != nil {
			return // we need not be the stricter one where it does not matter
		}
		if o, th := normal(t, ours), normal(t, theirs); !reflect.DeepEqual(o, th) {
			t.Fatalf("%q\nhere:    %#v\nkubectl: %#v", b, o, th)
		}
	})
}

func normal(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}
