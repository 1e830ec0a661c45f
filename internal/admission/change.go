package admission

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Operations of a [Change].
const (
	Create = "CREATE"
	Update = "UPDATE"
	Delete = "DELETE"
)

// MaxTokens bounds the names and values in an object of Boltseal's own kinds: what is
// made of them when it is read takes a hundred times their bytes.
const MaxTokens = 20_000

// Change is a write of an object of Boltseal's own kinds, as its review has it.
type Change struct {
	UID       string
	Operation string // Create, Update or Delete
	// Group and Kind are the object's, as the API server says.
	Group, Kind string
	// Object is the object as it is to be, or the one that is deleted, in JSON.
	Object []byte
}

// DecodeChange reads a review of an object that Boltseal has no images of. On an
// error the UID is set where it could be read, so that the answer finds its question.
func DecodeChange(body []byte) (Change, error) {
	if len(body) > MaxBytes {
		return Change{}, fmt.Errorf("%w: %d bytes, at most %d", ErrLimit, len(body), MaxBytes)
	}
	var rv review
	err := json.Unmarshal(body, &rv)
	r := rv.Request
	if r == nil {
		r = &request{}
	}
	if len(r.UID) > maxUID {
		r.UID = ""
	}
	c := Change{UID: r.UID, Operation: r.Operation, Group: r.Kind.Group, Kind: r.Kind.Kind, Object: r.Object}
	if r.Operation == Delete {
		c.Object = r.OldObject
	}
	switch {
	case err != nil:
		return c, unreadableText("", err)
	case rv.Kind != "AdmissionReview" || rv.APIVersion != Version:
		return c, fmt.Errorf("%w of %s: kind %.60q, apiVersion %.60q", ErrMalformed, Version, rv.Kind, rv.APIVersion)
	case r.UID == "":
		return c, fmt.Errorf("%w: no usable request.uid", ErrMalformed)
	case r.Operation != Create && r.Operation != Update && r.Operation != Delete:
		return c, fmt.Errorf("%w: operation %.60q", ErrMalformed, r.Operation)
	case len(c.Object) == 0 || c.Object[0] != '{':
		return c, fmt.Errorf("%w: the object is not there", ErrMalformed)
	}
	return c, fewTokens(c.Object)
}

// fewTokens refuses a text with more than MaxTokens.
func fewTokens(text []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(text))
	for range MaxTokens {
		if _, err := d.ReadToken(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return unreadableText("", err)
		}
	}
	return fmt.Errorf("%w: more than %d names and values", ErrLimit, MaxTokens)
}
