package boltseal

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Lists and maps of strangers' documents are counted while they are decoded: an
// entry of two bytes of text takes some hundred of memory.

// Limits on what one descriptor may list.
const (
	maxAnnotations = 64
	maxOSFeatures  = 64
)

// countError is a list or a map that is longer than it may be.
type countError struct {
	most int
	what string
}

func (e *countError) Error() string {
	return fmt.Sprintf("%v: more than %d %s", ErrLimit, e.most, e.what)
}

func (e *countError) Unwrap() error { return ErrLimit }

// countedError is a decoder's error, without the decoder's words where the document is
// longer than it may be.
func countedError(err error) error {
	var ce *countError
	if errors.As(err, &ce) {
		return ce
	}
	return fmt.Errorf("%w: %.300s", ErrMalformed, err.Error())
}

// decodeArray calls each for every member of an array, of which there may be at
// most most; null has none.
func decodeArray(d *jsontext.Decoder, most int, what string, each func() error) error {
	if ok, err := enterValue(d, '[', what); !ok {
		return err
	}
	for n := 0; d.PeekKind() != ']'; n++ {
		if n == most {
			return &countError{most, what}
		}
		if err := each(); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// enterValue goes into an array or an object. It reports false for null and errors.
func enterValue(d *jsontext.Decoder, kind jsontext.Kind, what string) (bool, error) {
	switch got := d.PeekKind(); got {
	case kind, 'n', 0: // 0 is text that is no JSON, or ends here
		_, err := d.ReadToken()
		return got == kind && err == nil, err
	default:
		return false, fmt.Errorf("%s are a JSON %s", what, got)
	}
}

// annotations are texts by name (OCI image-spec 1.1, annotations.md).
type annotations map[string]string

// UnmarshalJSONFrom reads an object, or null for none.
func (m *annotations) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*m = nil
	if ok, err := enterValue(d, '{', "annotations"); !ok {
		return err
	}
	*m = annotations{}
	for d.PeekKind() != '}' {
		if len(*m) == maxAnnotations {
			return &countError{maxAnnotations, "annotations"}
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

// features are a platform's os.features.
type features []string

// UnmarshalJSONFrom reads an array, or null for none.
func (l *features) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	return decodeArray(d, maxOSFeatures, "os.features", func() error {
		var s string
		err := json.UnmarshalDecode(d, &s)
		*l = append(*l, s)
		return err
	})
}

// boundedPlatform is a platform (OCI image-spec 1.1, image-index.md).
type boundedPlatform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version"`
	OSFeatures   features `json:"os.features"`
	Variant      string   `json:"variant"`
}

func (p *boundedPlatform) platform() *ocispec.Platform {
	if p == nil {
		return nil
	}
	return &ocispec.Platform{Architecture: p.Architecture, OS: p.OS, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures, Variant: p.Variant}
}

// boundedDescriptor is what is read of a descriptor; other members, urls and data
// among them, are passed over.
type boundedDescriptor struct {
	MediaType    string        `json:"mediaType"`
	ArtifactType string        `json:"artifactType"`
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`
	Annotations  annotations   `json:"annotations"`
}

func (d *boundedDescriptor) descriptor() *ocispec.Descriptor {
	if d == nil {
		return nil
	}
	return &ocispec.Descriptor{MediaType: d.MediaType, ArtifactType: d.ArtifactType, Digest: d.Digest, Size: d.Size, Annotations: d.Annotations}
}

// layers are at most [MaxLayers] descriptors.
type layers []ocispec.Descriptor

// UnmarshalJSONFrom reads an array, or null for none.
func (l *layers) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	return decodeArray(d, MaxLayers, "layers", func() error {
		var b boundedDescriptor
		err := json.UnmarshalDecode(d, &b)
		*l = append(*l, *b.descriptor())
		return err
	})
}
