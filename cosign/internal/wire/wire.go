// Package wire reads the JSON form of protocol buffers, strictly and with limits.
package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal"
)

// Decode reads one JSON document into v. Unknown and duplicate members, text after
// the document and invalid UTF-8 wrap [boltseal.ErrMalformed], more bytes than most
// [boltseal.ErrLimit]. what names the document in errors.
func Decode(what string, b []byte, most int, v any) error {
	return decodeStrict(what, b, most, v, json.RejectUnknownMembers(true))
}

// DecodeOpen is Decode for documents that may have members which nobody here reads.
func DecodeOpen(what string, b []byte, most int, v any) error {
	return decodeStrict(what, b, most, v)
}

func decodeStrict(what string, b []byte, most int, v any, options ...json.Options) error {
	if len(b) > most {
		return fmt.Errorf("%w: %s of %d bytes, at most %d", boltseal.ErrLimit, what, len(b), most)
	}
	err := json.Unmarshal(b, v, options...)
	var ce *countError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &ce):
		return fmt.Errorf("%w: %s has more than %d %s", boltseal.ErrLimit, what, ce.most, ce.what)
	}
	return fmt.Errorf("%w: %s cannot be read: %.300s", boltseal.ErrMalformed, what, explainError(err))
}

// explainError says what is wrong with a document and where, without the decoder's words for
// the program's own types.
func explainError(err error) string {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntactic):
		return fmt.Sprintf("it is no valid JSON at byte %d (%v)", syntactic.ByteOffset, syntactic.Err)
	case errors.As(err, &semantic) && errors.Is(err, json.ErrUnknownName):
		return fmt.Sprintf("%q is not known", string(semantic.JSONPointer))
	case errors.As(err, &semantic) && semantic.Err != nil && errors.As(semantic.Err, &semantic):
		return explainError(semantic)
	case errors.As(err, &semantic) && semantic.Err != nil:
		return fmt.Sprintf("%v (%s)", semantic.Err, semantic.JSONPointer)
	case errors.As(err, &semantic):
		return fmt.Sprintf("%q has the wrong type", string(semantic.JSONPointer))
	}
	return err.Error()
}

// countError is a list that is longer than it may be.
type countError struct {
	most int
	what string
}

func (e *countError) Error() string { return fmt.Sprintf("more than %d %s", e.most, e.what) }

// ReadArray calls each for every member of a JSON array, of which there may be at most
// most; null has none. It counts while it reads: what comes after the last that may be
// there costs nothing.
func ReadArray(d *jsontext.Decoder, most int, what string, each func() error) error {
	switch d.PeekKind() {
	case '[', 'n', 0: // 0 is text that is no JSON, or ends here
	default:
		return fmt.Errorf("%s are not an array", what)
	}
	if t, err := d.ReadToken(); err != nil || t.Kind() != '[' {
		return err
	}
	for n := 0; d.PeekKind() != ']'; n++ {
		if n == most {
			return &countError{most, what}
		}
		if d.PeekKind() == 'n' {
			return fmt.Errorf("%s have a null among them", what)
		}
		if err := each(); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// ReadObject calls each with the name of every member of a JSON object, of which there
// may be at most most; null has none. each reads the value.
func ReadObject(d *jsontext.Decoder, most int, what string, each func(name string) error) error {
	switch d.PeekKind() {
	case '{', 'n', 0:
	default:
		return fmt.Errorf("%s are not an object", what)
	}
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return err
	}
	for n := 0; d.PeekKind() != '}'; n++ {
		if n == most {
			return &countError{most, what}
		}
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := each(name.String()); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// readText reads a string; ok is false for null.
func readText(d *jsontext.Decoder, what string) (s string, ok bool, err error) {
	switch d.PeekKind() {
	case '"', 'n', 0:
	default:
		return "", false, fmt.Errorf("%s is not a string", what)
	}
	t, err := d.ReadToken()
	if err != nil || t.Kind() == 'n' {
		return "", false, err
	}
	return t.String(), true, nil
}

// Bytes are base64 in either alphabet, padded or not, as protocol buffers allow; white
// space and bits that are set behind the last byte are not.
type Bytes []byte

// UnmarshalJSONFrom reads a string, or null for none.
func (b *Bytes) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	s, ok, err := readText(d, "base64")
	*b = nil
	if err != nil || !ok {
		return err
	}
	*b, err = ParseBase64(s)
	return err
}

// ParseBase64 reads base64 as [Bytes] says.
func ParseBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("base64 with a line break in it")
	}
	enc := base64.StdEncoding
	if strings.ContainsAny(s, "-_") {
		enc = base64.URLEncoding
	}
	if len(s)%4 != 0 {
		enc = enc.WithPadding(base64.NoPadding)
	}
	out, err := enc.Strict().DecodeString(s)
	if err != nil {
		return nil, errors.New("not base64")
	}
	return out, nil
}

// Int is a whole number, as a JSON string or number.
type Int int64

// UnmarshalJSONFrom reads a number in either form, or null for 0.
func (i *Int) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*i = 0
	switch d.PeekKind() {
	case '"', '0', 'n', 0:
	default:
		return errors.New("not a whole number")
	}
	t, err := d.ReadToken()
	if err != nil || t.Kind() == 'n' {
		return err
	}
	s := t.String()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != s {
		return errors.New("not a whole number of 64 bits")
	}
	*i = Int(n)
	return nil
}

// Time is an instant by RFC 3339.
type Time struct{ time.Time }

// UnmarshalJSONFrom reads a string, or null for the zero time.
func (t *Time) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	t.Time = time.Time{}
	s, ok, err := readText(d, "a time")
	if err != nil || !ok {
		return err
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return errors.New("not a time by RFC 3339")
	}
	t.Time = at.UTC()
	return nil
}

// Enum is the name of a value of an enumeration, "" where it is not set. Where the JSON
// has a number, it is that number's text.
type Enum string

// UnmarshalJSONFrom reads a name or a number, or null for none.
func (e *Enum) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*e = ""
	switch d.PeekKind() {
	case '"', '0', 'n', 0:
	default:
		return errors.New("not the name of a value")
	}
	t, err := d.ReadToken()
	if err != nil || t.Kind() == 'n' {
		return err
	}
	*e = Enum(t.String())
	return nil
}

// ReadValue reads the next value, with the options of its document.
func ReadValue[T any](d *jsontext.Decoder) (v T, err error) {
	err = json.UnmarshalDecode(d, &v)
	return v, err
}
