package oci

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
)

// collector gathers descriptors over pages. What is malformed is left out; it
// must not hide what is not.
type collector struct {
	limit   int // descriptors to keep
	types   []string
	listing boltseal.Listing
	at      map[digest.Digest]int // in the listing
}

func (a *asking) collector() *collector {
	return &collector{limit: a.r.opts.Limits.Referrers, types: a.types}
}

// rawDescriptor is what is read of a descriptor in an index.
type rawDescriptor struct {
	MediaType    string         `json:"mediaType"`
	ArtifactType string         `json:"artifactType"`
	Digest       digest.Digest  `json:"digest"`
	Size         jsontext.Value `json:"size"` // a hint, whatever its type
	Annotations  hints          `json:"annotations"`
}

// hints are the annotations of an entry that verifiers read before they fetch it.
type hints map[string]string

// UnmarshalJSONFrom keeps the hints among the annotations; what has another form, or
// is too long, is left out, and does no harm to the entry.
func (h *hints) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		return d.SkipValue()
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		hint := name.String() // before the decoder moves on
		if !boltseal.IsHint(hint) || d.PeekKind() != '"' {
			if err := d.SkipValue(); err != nil {
				return err
			}
			continue
		}
		value, err := d.ReadToken()
		if err != nil {
			return err
		}
		if text := value.String(); len(text) <= boltseal.MaxHintBytes {
			*h = hints{hint: text}
		}
	}
	_, err := d.ReadToken()
	return err
}

// add takes the entries of an index that was served as contentType.
func (c *collector) add(contentType string, b []byte) error {
	ix, err := eachManifest(b, func(raw jsontext.Value) (more bool) {
		var d rawDescriptor
		if json.Unmarshal(raw, &d) != nil {
			return true
		}
		return c.keep(d)
	})
	if err != nil {
		return fmt.Errorf("%w: the list of referrers: %.200s", boltseal.ErrUnusable, err.Error())
	}
	if c.listing.Truncated != "" {
		return nil // not read to its end
	}
	// What is no index must not pass for an empty one.
	named := ix.mediaType == "" && boltseal.IsIndex(contentType) && (ix.manifests || ix.schemaVersion)
	shaped := ix.mediaType == "" && ix.manifests && ix.schemaVersion
	if !named && !shaped && !boltseal.IsIndex(ix.mediaType) {
		return fmt.Errorf("%w: the list of referrers: %w (served as %.100q)", boltseal.ErrUnusable, errNotIndex, contentType)
	}
	return nil
}

func (c *collector) keep(d rawDescriptor) (more bool) {
	// Digests are written in lower case; some write them otherwise.
	d.Digest = digest.Digest(strings.ToLower(string(d.Digest)))
	if boltseal.ValidateDigest(d.Digest) != nil {
		return true
	}
	if !c.wanted(d.ArtifactType) {
		c.other(ocispec.Descriptor{MediaType: d.MediaType, ArtifactType: d.ArtifactType, Digest: d.Digest})
		return true
	}
	desc := ocispec.Descriptor{MediaType: d.MediaType, ArtifactType: d.ArtifactType, Digest: d.Digest, Annotations: d.Annotations}
	if json.Unmarshal(d.Size, &desc.Size) != nil || boltseal.ValidateDescriptor(desc) != nil {
		desc.Size = 0
	}
	if i, listed := c.at[d.Digest]; listed {
		// Of what one digest is said to be, what can be used counts.
		if old := &c.listing.Referrers[i]; boltseal.Untyped(old.ArtifactType) || !slices.Contains(c.types, old.ArtifactType) && slices.Contains(c.types, d.ArtifactType) {
			*old = desc
		}
		return true
	}
	if len(c.listing.Referrers) == c.limit {
		c.listing.Truncated = fmt.Sprintf("only the first %d referrers were checked", c.limit)
		return false
	}
	if c.at == nil {
		c.at = make(map[digest.Digest]int)
	}
	c.at[d.Digest] = len(c.listing.Referrers)
	c.listing.Referrers = append(c.listing.Referrers, desc)
	return true
}

// maxOthers bounds how many types that nobody asked for a listing names.
const maxOthers = 10

// maxTypeLength bounds the types that are kept for messages (RFC 6838, section 4.2).
const maxTypeLength = 255

// other keeps one artifact of each type that nobody asked for.
func (c *collector) other(d ocispec.Descriptor) {
	same := func(o ocispec.Descriptor) bool { return o.ArtifactType == d.ArtifactType }
	if len(d.ArtifactType) <= maxTypeLength && len(c.listing.Others) < maxOthers && !slices.ContainsFunc(c.listing.Others, same) {
		c.listing.Others = append(c.listing.Others, d)
	}
}

// wanted checks what a registry may have claimed to filter and did not. With
// several types, or any, the caller sees all and can tell what else there is.
func (c *collector) wanted(artifactType string) bool {
	return len(c.types) != 1 || c.types[0] == artifactType || boltseal.Untyped(artifactType)
}

// maxEntryBytes bounds one entry of an index: it repeats the annotations of a
// manifest that may have as many bytes.
const maxEntryBytes = boltseal.MaxArtifactManifest

// indexForm is what tells an index from other JSON.
type indexForm struct {
	mediaType     string
	schemaVersion bool // it is 2
	manifests     bool // a list, or null
}

// eachManifest visits the entries of an index's member manifests (OCI
// image-spec 1.1, image-index.md), until one visit wants no more. It keeps no
// list, as an index of some megabytes can have a million entries, nor the names of
// members, of which an entry can have as many: names that are there twice are an
// error within an entry only, and an entry is small.
func eachManifest(b []byte, visit func(jsontext.Value) (more bool)) (ix indexForm, err error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(b), jsontext.AllowDuplicateNames(true))
	if t, err := d.ReadToken(); err != nil {
		return ix, err
	} else if t.Kind() != '{' {
		return ix, errNotIndex
	}
	stopped := false
	for d.PeekKind() != '}' {
		name, err := d.ReadToken()
		if err != nil {
			return ix, err
		}
		member := name.String()
		if member == "manifests" {
			if ix.manifests {
				return ix, errNotIndex // two lists in one index
			}
			ix.manifests = true
			if err := ix.members(d, visit, &stopped); err != nil || stopped {
				return ix, err
			}
			continue
		}
		if member != "mediaType" && member != "schemaVersion" {
			if err := d.SkipValue(); err != nil {
				return ix, err
			}
			continue
		}
		raw, err := d.ReadValue()
		switch {
		case err != nil:
			return ix, err
		case member == "schemaVersion":
			ix.schemaVersion = string(raw) == "2"
		case json.Unmarshal(raw, &ix.mediaType) != nil:
			return ix, errNotIndex
		}
	}
	if _, err := d.ReadToken(); err != nil {
		return ix, err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return ix, errNotIndex
	}
	return ix, nil
}

// members visits a list, or null.
func (ix *indexForm) members(d *jsontext.Decoder, visit func(jsontext.Value) bool, stopped *bool) error {
	switch t, err := d.ReadToken(); {
	case err != nil:
		return err
	case t.Kind() == 'n':
		return nil
	case t.Kind() != '[':
		return errNotIndex
	}
	for d.PeekKind() != ']' {
		raw, err := d.ReadValue()
		if err != nil {
			return err
		}
		if len(raw) > maxEntryBytes {
			raw = jsontext.Value("null") // nothing that anybody wants
		}
		if !visit(raw) {
			*stopped = true
			return nil
		}
	}
	_, err := d.ReadToken()
	return err
}
