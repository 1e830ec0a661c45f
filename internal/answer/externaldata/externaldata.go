// Package externaldata reads Gatekeeper's external data requests and writes the answers, in Ratify's shapes.
package externaldata

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal/internal/base/plain"
)

// The versions of the protocol; a request is answered in its own.
const (
	V1Beta1  = "externaldata.gatekeeper.sh/v1beta1"
	V1Alpha1 = "externaldata.gatekeeper.sh/v1alpha1"
)

// Limits on one request.
const (
	MaxBytes = 4 << 20
	MaxKeys  = 10_000
)

// Errors of Decode.
var (
	ErrMalformed = errors.New("not a ProviderRequest")
	ErrLimit     = errors.New("over a limit")
)

// Request is what Gatekeeper asks.
type Request struct {
	APIVersion string // V1Beta1 where the request did not get as far as saying one
	Keys       []string
}

// Key is one key taken apart.
type Key struct {
	Namespace string // "" where the key names none
	Image     string
}

type wireRequest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Request    *struct {
		Keys keyList `json:"keys"`
	} `json:"request"`
}

// keyList keeps one key more than there may be, and passes over the rest: the
// decoder by itself would make thirty bytes of memory out of each byte of a long
// list, only for it to be refused.
type keyList []string

// UnmarshalJSONFrom reads an array of texts, or null for none.
func (l *keyList) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	switch kind := d.PeekKind(); kind {
	case '[', 'n', 0: // 0 is text that is no JSON, or ends here
		if _, err := d.ReadToken(); err != nil || kind == 'n' {
			return err
		}
	default:
		return fmt.Errorf("%s where %s should be", kind, jsontext.Kind('['))
	}
	for d.PeekKind() != ']' {
		if len(*l) > MaxKeys {
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		var s string
		if err := json.UnmarshalDecode(d, &s); err != nil {
			return err
		}
		*l = append(*l, s)
	}
	_, err := d.ReadToken()
	return err
}

// Decode reads a request. On an error the answer is a system error in the
// version that the Request names.
func Decode(body []byte) (Request, error) {
	q := Request{APIVersion: V1Beta1}
	if len(body) > MaxBytes {
		return q, fmt.Errorf("%w: %d bytes, at most %d", ErrLimit, len(body), MaxBytes)
	}
	w, ok := decodeFast(body)
	var err error
	if !ok {
		w = wireRequest{}
		err = json.Unmarshal(body, &w)
	}
	if w.APIVersion == V1Alpha1 {
		q.APIVersion = V1Alpha1
	}
	switch {
	case err != nil:
		return q, fmt.Errorf("%w: %s", ErrMalformed, cleanError(err))
	case w.APIVersion != V1Beta1 && w.APIVersion != V1Alpha1:
		return q, fmt.Errorf("%w: apiVersion %.60q; known: %s, %s", ErrMalformed, w.APIVersion, V1Beta1, V1Alpha1)
	case w.Kind != "ProviderRequest":
		return q, fmt.Errorf("%w: kind %.60q", ErrMalformed, w.Kind)
	case w.Request == nil:
		return q, fmt.Errorf("%w: no request", ErrMalformed)
	case len(w.Request.Keys) > MaxKeys:
		return q, fmt.Errorf("%w: more than %d keys", ErrLimit, MaxKeys)
	}
	q.Keys = w.Request.Keys
	return q, nil
}

// ParseKey takes "[namespace]IMAGE" or "IMAGE" apart.
func ParseKey(key string) (Key, error) {
	rest, ok := strings.CutPrefix(key, "[")
	if !ok {
		return Key{Image: key}, nil
	}
	namespace, image, ok := strings.Cut(rest, "]")
	if !ok {
		return Key{}, fmt.Errorf("the key %.100q has a [ without its ]", key)
	}
	return Key{Namespace: namespace, Image: image}, nil
}

// Item is the answer to one key: Value and then Alike, which are an encoded JSON
// value, or Error. Without either it is an error too, so that one key's fault
// spoils no other's answer.
type Item struct {
	Key   string
	Value []byte
	Alike string
	Error string
}

// AppendResponse appends a ProviderResponse to dst. Values stand in it as they are.
func AppendResponse(dst []byte, apiVersion string, idempotent bool, items []Item) []byte {
	size := 128
	for i := range items {
		size += len(items[i].Key) + len(items[i].Value) + len(items[i].Alike) + len(items[i].Error) + 32
	}
	if cap(dst)-len(dst) < size {
		dst = append(make([]byte, 0, len(dst)+size), dst...)
	}
	dst = append(dst, `{"apiVersion":"`...)
	dst = append(dst, apiVersion...)
	dst = append(dst, `","kind":"ProviderResponse","response":{"idempotent":`...)
	if idempotent {
		dst = append(dst, `true,"items":[`...)
	} else {
		dst = append(dst, `false,"items":[`...)
	}
	for i := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"key":`...)
		dst = appendString(dst, items[i].Key)
		switch {
		case items[i].Error != "":
			dst = append(dst, `,"error":`...)
			dst = appendString(dst, items[i].Error)
		case len(items[i].Value) == 0:
			dst = append(dst, `,"error":"no answer"`...)
		default:
			dst = append(dst, `,"value":`...)
			dst = append(append(dst, items[i].Value...), items[i].Alike...)
		}
		dst = append(dst, '}')
	}
	return append(dst, `]}}`...)
}

// AppendSystemError appends a ProviderResponse that says why nothing is answered.
func AppendSystemError(dst []byte, apiVersion, message string) []byte {
	dst = append(dst, `{"apiVersion":"`...)
	dst = append(dst, apiVersion...)
	dst = append(dst, `","kind":"ProviderResponse","response":{"idempotent":false,"items":[],"systemError":`...)
	dst = appendString(dst, message)
	return append(dst, `}}`...)
}

// EncodeString encodes text as a JSON value.
func EncodeString(s string) []byte { return appendString(nil, s) }

func appendString(dst []byte, s string) []byte {
	if plain.JSON(s) {
		return append(append(append(dst, '"'), s...), '"')
	}
	out, err := jsontext.AppendQuote(dst, s)
	if err != nil { // not UTF-8
		out, _ = jsontext.AppendQuote(dst, strings.ToValidUTF8(s, "\uFFFD"))
	}
	return out
}

// cleanError is the error without too much of the input.
func cleanError(err error) string {
	s := err.Error()
	if len(s) > 300 {
		s = s[:300] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
