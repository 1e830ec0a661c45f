package cosign

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Artifact is what a signature must be about.
type Artifact struct {
	// Digest is the artifact's. Where it is "", it is computed of Content.
	Digest digest.Digest
	// Content is the artifact itself, where it is at hand: some keys sign it by another
	// hash than that of Digest. Nil means that it is not.
	Content []byte
	// AnyPredicate: a statement with any predicate type counts, not only an image
	// signature's. For files, whose attestations are asked for as such.
	AnyPredicate bool
}

// digests are the digests that a statement may name.
func (a Artifact) digests() []digest.Digest {
	if a.Content == nil {
		return []digest.Digest{a.Digest}
	}
	return []digest.Digest{digest.SHA256.FromBytes(a.Content), digest.SHA384.FromBytes(a.Content), digest.SHA512.FromBytes(a.Content)}
}

var hashNames = map[crypto.Hash]string{crypto.SHA256: "sha256", crypto.SHA384: "sha384", crypto.SHA512: "sha512"}

// sum is the artifact's digest by a hash, false where it is not known.
func (a Artifact) sum(h crypto.Hash) ([]byte, bool) {
	if a.Content != nil {
		s := h.New()
		s.Write(a.Content)
		return s.Sum(nil), true
	}
	algorithm, value, _ := strings.Cut(string(a.Digest), ":")
	if algorithm != hashNames[h] {
		return nil, false
	}
	b, err := hex.DecodeString(value)
	return b, err == nil && len(b) == h.Size()
}

// consistent reports whether the content, where it is known, has the digest that was
// given beside it.
func (a Artifact) consistent() bool {
	if a.Content == nil || a.Digest == "" {
		return a.Digest != "" || a.Content != nil
	}
	for _, d := range a.digests() {
		if bytes.Equal([]byte(d), []byte(a.Digest)) {
			return true
		}
	}
	return false
}
