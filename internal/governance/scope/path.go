// Package scope compares the paths that clusters stand at with those that policies are assigned to.
package scope

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal"
)

// Limits on paths.
const (
	MaxLength   = 512  // bytes of a scope, as the custom resources say
	MaxIDLength = 1024 // bytes of the ID of a cluster or an assignment: a scope, a provider and a name
	MaxSegments = 32
	MaxSegment  = 253 // the longest name that Kubernetes gives an object
)

// Path is a scope or an ID, checked. The zero Path is no path at all and
// contains nothing; "/" contains all.
type Path struct {
	text     string   // as written
	segments []string // in lower case
}

// Parse reads a scope of at most MaxLength bytes, such as
// /subscriptions/S/resourceGroups/G or "/". An error wraps ErrConfiguration.
func Parse(s string) (Path, error) { return parsePath(s, MaxLength) }

func parsePath(s string, limit int) (Path, error) {
	bad := func(format string, a ...any) (Path, error) {
		return Path{}, &PathError{Path: truncateText(s), Problem: fmt.Sprintf(format, a...)}
	}
	switch {
	case s == "":
		return bad("it is empty; / is all clusters")
	case len(s) > limit:
		return bad("%d bytes, at most %d", len(s), limit)
	case s[0] != '/':
		return bad("it does not begin with /")
	case s == "/":
		return Path{text: s}, nil
	}
	segments := strings.Split(s[1:], "/")
	if len(segments) > MaxSegments {
		return bad("%d parts, at most %d", len(segments), MaxSegments)
	}
	for _, seg := range segments {
		switch {
		case seg == "":
			return bad("it has an empty part; write each / once, and none at the end")
		case seg == "." || seg == "..":
			return bad("a part may not be %s; write the path in full", seg)
		case len(seg) > MaxSegment:
			return bad("a part has %d bytes, at most %d", len(seg), MaxSegment)
		}
		if i := strings.IndexFunc(seg, func(r rune) bool { return !allowedRune(r) }); i >= 0 {
			r := []rune(seg[i:])[0]
			return bad("a part may have letters a-z, digits and - . _ ( ) only, not %q", r)
		}
	}
	return Path{text: s, segments: strings.Split(strings.ToLower(s[1:]), "/")}, nil
}

// allowedRune is what Azure allows in names of resource groups, of ASCII: other
// letters have several spellings, and a comparison that misses one would
// quietly let a cluster go ungoverned.
func allowedRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-._()", r)
}

// maxShown bounds what a message repeats of a path.
const maxShown = 128

func truncateText(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown], "") + "…"
}

// String returns the path as it was written.
func (p Path) String() string { return p.text }

// Equal compares without regard to upper and lower case.
func (p Path) Equal(q Path) bool {
	return p.text != "" && q.text != "" && slices.Equal(p.segments, q.segments)
}

// Contains reports whether q is p or stands below it, by whole parts and
// without regard to upper and lower case.
func (p Path) Contains(q Path) bool {
	return p.text != "" && q.text != "" && len(p.segments) <= len(q.segments) &&
		slices.Equal(p.segments, q.segments[:len(p.segments)])
}

// join returns the path with parts below it, unchecked: for parts that are
// known to be good.
func (p Path) join(parts ...string) Path {
	text := strings.TrimSuffix(p.text, "/") + "/" + strings.Join(parts, "/")
	return Path{text: text, segments: strings.Split(strings.ToLower(text[1:]), "/")}
}

// PathError is what is wrong with a path. It wraps ErrConfiguration.
type PathError struct {
	Path    string // the beginning of it
	Problem string
}

// Error returns one line.
func (e *PathError) Error() string { return fmt.Sprintf("%q is no scope: %s", e.Path, e.Problem) }

// Unwrap makes it a fault of the configuration.
func (e *PathError) Unwrap() error { return boltseal.ErrConfiguration }
