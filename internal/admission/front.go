package admission

import (
	"bytes"

	"github.com/go-json-experiment/json/jsontext"
)

// FrontBytes is how much of the beginning of a review has its uid: the API server
// writes it before all that somebody else chose.
const FrontBytes = 1 << 10

// FrontUID is the uid of a review of which the beginning has been read, "" where it
// is not there. A review that is too large, too late or too much can be answered by
// it all the same: with failurePolicy Ignore the API server takes what is no answer
// for a yes.
func FrontUID(beginning []byte) string {
	d := jsontext.NewDecoder(bytes.NewReader(beginning))
	if !enterMember(d, "request") || !enterMember(d, "uid") {
		return ""
	}
	t, err := d.ReadToken()
	if err != nil || t.Kind() != '"' || len(t.String()) > maxUID {
		return ""
	}
	return t.String()
}

// enterMember reads an object up to the value of a member.
func enterMember(d *jsontext.Decoder, member string) bool {
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return false
	}
	for {
		t, err := d.ReadToken()
		if err != nil || t.Kind() != '"' {
			return false
		}
		if t.String() == member {
			return true
		}
		if d.SkipValue() != nil {
			return false
		}
	}
}
