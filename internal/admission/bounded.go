package admission

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// limitError is a list or a map that is longer than it may be.
type limitError struct {
	most int
	what string
}

func (e *limitError) Error() string {
	return fmt.Sprintf("%v: more than %d %s", ErrLimit, e.most, e.what)
}

func (e *limitError) Unwrap() error { return ErrLimit }

// list is a JSON array of at most MaxImages members. The decoder by itself would
// make some fifty bytes of memory out of each byte of "{},{},…".
type list[T any] []T

// UnmarshalJSONFrom reads an array, or null for none.
func (l *list[T]) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	if ok, err := openValue(d, '['); !ok {
		return err
	}
	for d.PeekKind() != ']' {
		if len(*l) == MaxImages {
			return &limitError{MaxImages, "containers, volumes or imagePullSecrets"}
		}
		var zero T
		*l = append(*l, zero)
		if err := json.UnmarshalDecode(d, &(*l)[len(*l)-1]); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// texts is a JSON array of at most MaxTexts texts.
type texts []string

// UnmarshalJSONFrom reads an array, or null for none.
func (l *texts) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	if ok, err := openValue(d, '['); !ok {
		return err
	}
	for d.PeekKind() != ']' {
		if len(*l) == MaxTexts {
			return &limitError{MaxTexts, "groups"}
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

// labels is a JSON object of at most MaxTexts texts.
type labels map[string]string

// UnmarshalJSONFrom reads an object, or null for none.
func (m *labels) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*m = nil
	if ok, err := openValue(d, '{'); !ok {
		return err
	}
	*m = make(labels)
	for d.PeekKind() != '}' {
		if len(*m) == MaxTexts {
			return &limitError{MaxTexts, "labels"}
		}
		var name, value string
		if err := json.UnmarshalDecode(d, &name); err != nil {
			return err
		}
		if err := json.UnmarshalDecode(d, &value); err != nil {
			return err
		}
		(*m)[name] = value
	}
	_, err := d.ReadToken()
	return err
}

// openValue goes into an array or an object. It reports false for null.
func openValue(d *jsontext.Decoder, kind jsontext.Kind) (bool, error) {
	switch got := d.PeekKind(); got {
	case kind, 'n', 0: // 0 is text that is no JSON, or ends here
		_, err := d.ReadToken()
		return got == kind && err == nil, err
	default:
		return false, fmt.Errorf("%s where %s should be", got, kind)
	}
}

// owner is an ownerReference.
type owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
	Controller *bool  `json:"controller"`
}

// owners is a JSON array of at most MaxOwners ownerReferences.
type owners []owner

// UnmarshalJSONFrom reads an array, or null for none.
func (l *owners) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	if ok, err := openValue(d, '['); !ok {
		return err
	}
	for d.PeekKind() != ']' {
		if len(*l) == MaxOwners {
			return &limitError{MaxOwners, "owners"}
		}
		var o owner
		if err := json.UnmarshalDecode(d, &o); err != nil {
			return err
		}
		*l = append(*l, o)
	}
	_, err := d.ReadToken()
	return err
}

// controller is the one owner that manages the object. The API server admits one
// at most.
func (l owners) controller() *integrity.Owner {
	var found *integrity.Owner
	for _, o := range l {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		if found != nil {
			return nil
		}
		found = &integrity.Owner{APIVersion: o.APIVersion, Kind: o.Kind, Name: o.Name, UID: o.UID}
	}
	return found
}
