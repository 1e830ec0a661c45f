package tracecontext_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/tracing/tracecontext"
)

const (
	traceID = "4bf92f3577b34da6a3ce929d0e0e4736"
	spanID  = "00f067aa0ba902b7"
	example = "00-" + traceID + "-" + spanID + "-01"
)

// TestParse: the examples of W3C Trace Context, sections 3.2.2 and 3.2.4, and what it
// says is to be ignored.
func TestParse(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		example:                                                             example,
		"00-" + traceID + "-" + spanID + "-00":                              "00-" + traceID + "-" + spanID + "-00",
		"00-" + traceID + "-" + spanID + "-ff":                              "00-" + traceID + "-" + spanID + "-03", // flags that nobody knows are not passed on
		"cc-" + traceID + "-" + spanID + "-01":                              example,                                // a later version
		"cc-" + traceID + "-" + spanID + "-03":                              example,
		"cc-" + traceID + "-" + spanID + "-01-what-is-new":                  example,
		"cc-" + traceID + "-" + spanID + "-01.what-is-new":                  "",
		"cc-" + traceID + "-" + spanID + "-01what-is-new":                   "",
		"ff-" + traceID + "-" + spanID + "-01":                              "",
		"00-" + traceID + "-" + spanID + "-01-more":                         "",
		"00-" + traceID + "-" + spanID + "-01 ":                             "",
		" " + example:                                                       "",
		"00-" + traceID + "-" + spanID + "-1":                               "",
		"00-" + traceID + "-" + spanID:                                      "",
		"0-" + traceID + "-" + spanID + "-01":                               "",
		"00-" + strings.Repeat("0", 32) + "-" + spanID + "-01":              "",
		"00-" + traceID + "-" + strings.Repeat("0", 16) + "-01":             "",
		"00-" + strings.ToUpper(traceID) + "-" + spanID + "-01":             "",
		"00-" + traceID[1:] + "g-" + spanID + "-01":                         "",
		"00_" + traceID + "_" + spanID + "_01":                              "",
		"cc-" + traceID + "-" + spanID + "-01-" + strings.Repeat("x", 1000): "",
		"": "",
	} {
		if got := tracecontext.Parse([]string{value}).String(); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
	if tracecontext.Parse(nil).Valid() || tracecontext.Parse([]string{example, example}).Valid() {
		t.Error("none, or more than one, is no parent")
	}
	p := tracecontext.Parse([]string{example})
	if !p.Sampled() || p.Unsampled().Sampled() || p.ID() != traceID || p != tracecontext.NewParent(p.TraceID, p.SpanID, true) || (tracecontext.Parent{}).ID() != "" {
		t.Errorf("%+v", p)
	}
}

var wellFormed = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-0[0-3]$`)

// FuzzParse: what is taken up is written again as the standard demands, and costs
// nothing.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{example, "", "cc-" + traceID + "-" + spanID + "-01-x", "00-" + strings.Repeat("0", 32) + "-" + spanID + "-01"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		values := []string{value}
		p := tracecontext.Parse(values)
		if n := testing.AllocsPerRun(1, func() { tracecontext.Parse(values) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		if !p.Valid() {
			if p != (tracecontext.Parent{}) || p.String() != "" {
				t.Errorf("%q: half a parent: %+v", value, p)
			}
			return
		}
		again := p.String()
		if !wellFormed.MatchString(again) || tracecontext.Parse([]string{again}) != p || value[3:52] != again[3:52] {
			t.Errorf("%q became %q", value, again)
		}
	})
}
