package running

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/boltseal/boltseal"
)

// use is one image that a Pod runs.
type use struct {
	spec string // the image as the Pod names it
	id   string // what the node says that it runs; "" where nodes do not say it
}

// target is an image to be verified.
type target struct {
	// ref is HOST/REPOSITORY@DIGEST, "" where what runs has no name in a registry.
	ref string
	// other is the node's own name for the same content, where it names another
	// repository than the Pod: a node that knows an image by many names tells one.
	other string
	// host is the registry of ref.
	host string
	// spec is the image as the Pod names it, and problem says why it cannot be
	// verified, where ref is "".
	spec    string
	problem boltseal.Reason
}

// name is the image for people.
func (t target) name() string {
	if t.ref == "" {
		return t.spec
	}
	return t.ref
}

// identifyImage finds out what runs. The digest is the node's word, for a tag may name
// something else by now; the repository is the Pod's, for there its signature is
// to be. Nodes say it in many ways (CRI ImageStatus): "repo@sha256:…",
// "docker-pullable://repo@sha256:…", and where an image came from no registry the
// digest of its configuration, "sha256:…", "docker://sha256:…" or bare hex.
func identifyImage(u use) target {
	spec, specErr := boltseal.ParseReference(u.spec)
	if u.id == "" {
		if specErr != nil {
			return target{spec: u.spec, problem: boltseal.ReasonOf(specErr)}
		}
		return targetOf(spec)
	}
	id := u.id
	if _, rest, ok := strings.Cut(id, "://"); ok {
		id = rest
	}
	node, err := boltseal.ParseReference(id)
	switch {
	case configuration.MatchString(id), err != nil, node.Digest == "":
		// The runtime holds content that was named by digest against the digest.
		if specErr == nil && spec.Digest != "" {
			return targetOf(spec)
		}
		return target{spec: u.spec, problem: boltseal.Reason{
			Cause:   boltseal.CauseLocalImage,
			Message: fmt.Sprintf("the node runs %s as %s, which is no digest in a registry: it was not pulled, or its name was taken away", truncateText(u.spec, maxMessage/4), truncateText(u.id, maxMessage/4)),
			Remedy:  "push the image to a registry, sign it, and name it by digest",
		}}
	case specErr != nil:
		return targetOf(node)
	}
	t := targetOf(withDigest(spec, node.Digest))
	if spec.Name() != node.Name() {
		t.other = withDigest(node, node.Digest).String()
	}
	return t
}

// configuration is the digest of an image's configuration, with or without its
// algorithm.
var configuration = regexp.MustCompile(`^(sha256:)?[0-9a-f]{64}$`)

func withDigest(ref boltseal.Reference, d digest.Digest) boltseal.Reference {
	ref.Tag = ""
	return ref.WithDigest(d)
}

func targetOf(ref boltseal.Reference) target {
	if ref.Digest != "" {
		ref.Tag = ""
	}
	return target{ref: ref.String(), host: ref.Registry}
}

// truncateText cuts a text to at most most bytes.
func truncateText(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most-len("…")], "") + "…"
}
