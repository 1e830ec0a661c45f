package govern

import (
	"bytes"
	"io"
	"testing"

	"github.com/boltseal/boltseal/internal/cli/frame"
)

// TestShow prints as az does.
func TestShow(t *testing.T) {
	t.Parallel()
	type item struct {
		ID    string   `json:"id"`
		Count int      `json:"count"`
		Names []string `json:"names"`
		On    *bool    `json:"on"`
	}
	one := item{ID: "/a/<b>", Count: 50000000, Names: []string{"x", "y"}}
	for _, c := range []struct {
		v                   any
		output, query, want string
	}{
		{one, "tsv", "id", "/a/<b>\n"},
		{one, "", "id", "\"/a/<b>\"\n"},
		{one, "tsv", "", "50000000\t/a/<b>\t2\t\n"},
		{[]item{one, one}, "tsv", "[].id", "/a/<b>\n/a/<b>\n"},
		{[]item{one}, "tsv", "[].[id, count]", "/a/<b>\t50000000\n"},
		{[]item{one}, "tsv", "length(@)", "1\n"},
		{one, "tsv", "nothing", "\n"},
		{one, "yaml", "names", "- x\n- \"y\"\n"},
		{one, "json", "{n: count}", "{\n  \"n\": 50000000\n}\n"},
		{item{ID: "a\tb\n\x1b[31m"}, "tsv", "id", "a�b��[31m\n"},
		{one, "", "", "for people\n"},
	} {
		var out bytes.Buffer
		f := showFlags{output: c.output, query: c.query}
		err := f.show(frame.Env{Stdout: &out, Getenv: func(string) string { return "" }}, c.v, func(w io.Writer, _ frame.Style) error {
			_, err := io.WriteString(w, "for people\n")
			return err
		})
		if err != nil || out.String() != c.want {
			t.Errorf("%s %s: %q, want %q (%v)", c.output, c.query, out.String(), c.want, err)
		}
	}
}

// TestHarmless: a spreadsheet takes no cell for a formula.
func TestHarmless(t *testing.T) {
	t.Parallel()
	got := plainCells([]string{"=cmd()", "@x", "+1", "-1", "-", "", "image"})
	for i, want := range []string{"'=cmd()", "'@x", "'+1", "'-1", "-", "", "image"} {
		if got[i] != want {
			t.Errorf("%q, want %q", got[i], want)
		}
	}
}
