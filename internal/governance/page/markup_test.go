package page

import (
	"errors"
	"html/template"
	"strings"
	"testing"
)

// FuzzEscapedTextIsWhatATemplateWrites: html/template, which knows the contexts of HTML, is the oracle for texts, attributes
// and links. It is not in the program, since it keeps methods alive that nothing calls.
func FuzzEscapedTextIsWhatATemplateWrites(f *testing.F) {
	for _, s := range []string{"", "a", `<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, "' onmouseover='x", "&lt;b&gt;", "a+b`c=d", "\x00", "\xff\xfe", "–"} {
		f.Add(s)
	}
	oracle := template.Must(template.New("").Parse(`<p>{{.}}</p><td data-of="{{.}}"><span class="state {{.}}"></span>`))
	f.Fuzz(func(t *testing.T, s string) {
		var m markup
		m.within("p", "", s)
		m.raw("<td")
		m.attr("data-of", s)
		m.raw("><span")
		m.attr("class", "state "+s)
		m.raw("></span>")
		var want strings.Builder
		if err := oracle.Execute(&want, s); err != nil {
			t.Fatal(err)
		}
		// The template escapes plus signs too, for pages without a charset.
		if got := m.buf.String(); got != strings.ReplaceAll(want.String(), "&#43;", "+") {
			t.Errorf("%q: %s, want %s", s, got, want.String())
		}
	})
}

// TestLinksLeadToThePageItself: an address of anything else is no link, whatever it is.
func TestLinksLeadToThePageItself(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ href, want string }{
		{"", "a &amp; b"}, {"javascript:alert(1)", "a &amp; b"}, {"//evil.example", "a &amp; b"}, {"https://evil.example", "a &amp; b"}, {"/x", "a &amp; b"},
		{"?cluster=a&namespace=b", `<a href="?cluster=a&amp;namespace=b">a &amp; b</a>`}, {`#"><x`, `<a href="#&#34;&gt;&lt;x">a &amp; b</a>`},
	} {
		var m markup
		if m.link("a & b", c.href); m.buf.String() != c.want {
			t.Errorf("%q: %s, want %s", c.href, m.buf.String(), c.want)
		}
	}
}

// TestAPageHasAnEnd: what is too large is an error, and not written in part.
func TestAPageHasAnEnd(t *testing.T) {
	t.Parallel()
	var m markup
	half := strings.Repeat("a", maxBytes/2+1)
	if m.text(half); m.err != nil {
		t.Fatal(m.err)
	}
	m.text(half)
	m.text("b")
	if !errors.Is(m.err, ErrTooLarge) || m.buf.Len() != len(half) {
		t.Errorf("%d bytes, %v", m.buf.Len(), m.err)
	}
}
