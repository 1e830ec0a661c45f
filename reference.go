package boltseal

import (
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// MaxReferenceLength bounds the text of an image reference, in bytes. Docker's
// grammar allows 255 for the name, 128 for the tag and 71 or 135 for a digest.
const MaxReferenceLength = 1024

// DockerHub is the canonical host of images without a host in their name.
const DockerHub = "docker.io"

// Reference names an image canonically: lower-case host, no default port,
// Docker Hub's short names spelled out, a tag or a digest always present.
type Reference struct {
	Registry   string        `json:"registry"`   // host, with its port where it is not 443
	Repository string        `json:"repository"` // path below the host
	Tag        string        `json:"tag,omitempty"`
	Digest     digest.Digest `json:"digest,omitempty"`
}

// ParseReference reads what users write in a Pod: "nginx", "ghcr.io/a/b:tag",
// "host:5000/a@sha256:…", or tag and digest together. Without tag and digest
// the tag is "latest". The grammar is distribution/reference's, as in the
// container runtimes; what two of them could read as two different images is
// refused. Every error wraps [ErrInvalidReference].
func ParseReference(s string) (Reference, error) {
	switch {
	case s == "":
		return Reference{}, referenceError(s, "it is empty")
	case len(s) > MaxReferenceLength:
		return Reference{}, referenceError(s[:32]+"…", fmt.Sprintf("it is %d bytes long; the limit is %d", len(s), MaxReferenceLength))
	}
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return Reference{}, referenceError(s, fmt.Sprintf("it has the byte %#02x at position %d; only printable ASCII may be in a reference", s[i], i+1))
		}
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return Reference{}, referenceError(s, grammarError(err))
	}
	host := strings.ToLower(reference.Domain(named))
	if host == "" { // an underscore in it, which the grammar takes for a path and a runtime for a host
		return Reference{}, referenceError(s, "its host may have letters, digits, dots and hyphens only")
	}
	// "EXAMPLE/app" names the host "example" to a runtime, but in lower case the
	// same text names a repository of Docker Hub: it has no canonical spelling.
	if host != reference.Domain(named) && !strings.ContainsAny(host, ".:") && host != "localhost" {
		return Reference{}, referenceError(s, "an upper-case host without a dot or a port can be read as two different images; write the host in full")
	}
	ref := Reference{Registry: canonicalHost(host), Repository: reference.Path(named)}
	// A runtime asks this host for the repository "nginx", and docker.io for
	// "library/nginx": folding the two would verify another image than it pulls.
	if ref.Registry == DockerHub && !strings.Contains(ref.Repository, "/") {
		return Reference{}, referenceError(s, "write docker.io/library/"+ref.Repository+" for an official image of Docker Hub")
	}
	if t, ok := named.(reference.Tagged); ok {
		ref.Tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		ref.Digest = d.Digest()
		if a := ref.Digest.Algorithm(); a != digest.SHA256 && a != digest.SHA384 && a != digest.SHA512 {
			return Reference{}, referenceError(s, fmt.Sprintf("its digest algorithm %q is not sha256, sha384 or sha512", a))
		}
	}
	if ref.Tag == "" && ref.Digest == "" {
		ref.Tag = "latest"
	}
	return ref, nil
}

// canonicalHost drops the port that https implies and folds Docker Hub's hosts.
// A host of one label keeps its port: without it, "reg:443/app" would name the
// repository reg/app of Docker Hub.
func canonicalHost(host string) string {
	if h, ok := strings.CutSuffix(host, ":443"); ok && (strings.ContainsAny(h, ".:") || h == "localhost") {
		host = h
	}
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		return DockerHub
	}
	return host
}

func grammarError(err error) string {
	switch {
	case errors.Is(err, reference.ErrNameTooLong):
		return "its name is longer than 255 characters"
	case err.Error() == reference.ErrReferenceInvalidFormat.Error():
		return "it does not follow HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:DIGEST"
	}
	return err.Error()
}

func referenceError(s, why string) error {
	return fmt.Errorf("%q is %w: %s", s, ErrInvalidReference, why)
}

// Name is host and repository, the form that trust policy scopes are written in.
func (r Reference) Name() string { return r.Registry + "/" + r.Repository }

// String is the name with tag and digest, in the form that container runtimes read.
func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest.String()
	}
	return s
}

// WithDigest returns the same image pinned to d, keeping its tag.
func (r Reference) WithDigest(d digest.Digest) Reference {
	r.Digest = d
	return r
}
