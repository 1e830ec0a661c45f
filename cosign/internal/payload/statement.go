package payload

import (
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/cosign/internal/wire"
)

// Limits on a statement.
const (
	MaxSubjects    = 1024
	MaxDigests     = 32 // of a subject
	MaxAnnotations = 64 // of a subject, or of a simple signing payload
	maxStatement   = 4 << 20
)

// The types of statements (in-toto attestation, spec/v1/statement.md and spec/v0.1.0).
const (
	statementV1  = "https://in-toto.io/Statement/v1"
	statementV01 = "https://in-toto.io/Statement/v0.1"
)

// SignPredicate is the predicate type of image signatures that cosign 3 makes.
const SignPredicate = "https://sigstore.dev/cosign/sign/v1"

// Statement is an in-toto statement.
type Statement struct {
	PredicateType string
	Subjects      []Subject
	Predicate     []byte // JSON; empty where there is none
}

// Subject is one of the things that a statement is about.
type Subject struct {
	Name        string
	Digests     map[string]string // hexadecimal, by the algorithm's name
	Annotations map[string]string // those whose values are strings
}

type wireDigests map[string]string

func (m *wireDigests) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*m = wireDigests{}
	return wire.ReadObject(d, MaxDigests, "digests of a subject", func(name string) error {
		v, err := wire.ReadValue[string](d)
		(*m)[name] = v
		return err
	})
}

// wireAnnotations keeps the values that are strings.
type wireAnnotations map[string]string

func (m *wireAnnotations) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*m = nil
	return wire.ReadObject(d, MaxAnnotations, "annotations", func(name string) error {
		if d.PeekKind() != '"' {
			return d.SkipValue()
		}
		v, err := wire.ReadValue[string](d)
		if *m == nil {
			*m = wireAnnotations{}
		}
		(*m)[name] = v
		return err
	})
}

type wireSubjects []Subject

func (l *wireSubjects) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	*l = nil
	return wire.ReadArray(d, MaxSubjects, "subjects", func() error {
		v, err := wire.ReadValue[struct {
			Name        string          `json:"name"`
			Digest      wireDigests     `json:"digest"`
			Annotations wireAnnotations `json:"annotations"`
		}](d)
		*l = append(*l, Subject{Name: v.Name, Digests: v.Digest, Annotations: v.Annotations})
		return err
	})
}

// ParseStatement reads the payload of an envelope. Members that it does not know are
// passed over; duplicates, and names in another case, are not taken for those it does.
// Errors wrap [boltseal.ErrMalformed] or [boltseal.ErrLimit].
func ParseStatement(payloadType string, b []byte) (*Statement, error) {
	if payloadType != InToto {
		return nil, fmt.Errorf("%w: the envelope's payload is of type %.100q, not %s", boltseal.ErrMalformed, payloadType, InToto)
	}
	var doc struct {
		Type          string         `json:"_type"`
		Subject       wireSubjects   `json:"subject"`
		PredicateType string         `json:"predicateType"`
		Predicate     jsontext.Value `json:"predicate"`
	}
	if err := wire.DecodeOpen("the statement", b, maxStatement, &doc); err != nil {
		return nil, err
	}
	switch {
	case doc.Type != statementV1 && doc.Type != statementV01:
		return nil, fmt.Errorf("%w: the statement is of type %.100q, not %s", boltseal.ErrMalformed, doc.Type, statementV1)
	case doc.PredicateType == "":
		return nil, fmt.Errorf("%w: the statement has no predicateType", boltseal.ErrMalformed)
	case len(doc.Subject) == 0:
		return nil, fmt.Errorf("%w: the statement has no subject", boltseal.ErrMalformed)
	}
	return &Statement{PredicateType: doc.PredicateType, Subjects: doc.Subject, Predicate: doc.Predicate}, nil
}

// About is the first subject with the given digest, nil where there is none. The
// algorithm must be the same; the name of a subject says nothing.
func (s *Statement) About(d digest.Digest) *Subject {
	algorithm, value, _ := strings.Cut(string(d), ":")
	for i := range s.Subjects {
		if got := s.Subjects[i].Digests[algorithm]; got != "" && got == value {
			return &s.Subjects[i]
		}
	}
	return nil
}
