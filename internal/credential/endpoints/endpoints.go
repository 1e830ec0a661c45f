// Package endpoints says which registries a cloud's identity may be shown to.
package endpoints

import (
	"fmt"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/boltseal/boltseal/internal/base/strict"
)

// Max is how many endpoints a list may have.
const Max = 64

// maxHost is the length of a name (RFC 1035, section 2.3.4).
const maxHost = 253

// List are the hosts that are meant: whole names, and all names of one label more
// than a domain. The zero value matches nothing.
type List struct {
	exact  map[string]bool
	suffix map[string]bool // what follows "*."
}

// Problem is what is wrong with one endpoint.
type Problem struct {
	Index   int // in the list
	Message string
}

// Parse reads endpoints: registry.example.com, or *.example.com for every host with
// exactly one label in its place. What is under known is taken even though a
// registry of public suffixes may list it.
func Parse(texts []string, known ...string) (l List, problems []Problem) {
	l = List{exact: map[string]bool{}, suffix: map[string]bool{}}
	if len(texts) > Max {
		return List{}, []Problem{{Max, fmt.Sprintf("%d endpoints, at most %d", len(texts), Max)}}
	}
	for i, text := range texts {
		name, wild := strings.CutPrefix(text, "*.")
		if why := check(name, wild, known); why != "" {
			problems = append(problems, Problem{i, strict.Label(text) + " " + why})
			continue
		}
		if wild {
			l.suffix[name] = true
		} else {
			l.exact[name] = true
		}
	}
	if len(problems) > 0 {
		return List{}, problems
	}
	return l, nil
}

func check(name string, wild bool, known []string) string {
	const example = "write a host such as registry.example.com, or *.example.com for all hosts right below a domain"
	switch {
	case name == "" || name == "*":
		return "would be every host: " + example
	case strings.Contains(name, "*"):
		return "has a * that is not its first label: " + example
	case strings.Contains(name, "/"):
		return "is more than a host: leave scheme and path out"
	case strings.Contains(name, ":"):
		return "has a port: a cloud's registry has none"
	case strings.ToLower(name) != name:
		return "is not in lower case"
	case !Host(name):
		return "is no host: " + example
	}
	for _, k := range known {
		if name == k || strings.HasSuffix(name, "."+k) {
			return ""
		}
	}
	if suffix, _ := publicsuffix.PublicSuffix(name); suffix == name {
		return "is a domain below which anybody can have a name: name your registries"
	}
	return ""
}

// Host reports whether a text is a host's full name as an image's name has it: two
// or more labels of small letters, digits and hyphens, no port, no address, and no
// label in Punycode, behind which anything can look like anything.
func Host(name string) bool {
	if len(name) > maxHost {
		return false
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if !plain(label) {
			return false
		}
	}
	last := labels[len(labels)-1]
	return len(labels) >= 2 && strings.Trim(last, "0123456789") != ""
}

func plain(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.HasPrefix(label, "xn--") {
		return false
	}
	for _, c := range []byte(label) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Match reports whether a registry, as it stands in an image's name, is meant.
func (l List) Match(host string) bool {
	if !Host(host) {
		return false
	}
	_, domain, _ := strings.Cut(host, ".")
	return l.exact[host] || l.suffix[domain]
}

// Refuse is the error for a host that is not meant: it wraps notFor, and says who
// keeps what from whom.
func Refuse(source, host string, notFor error) error {
	return fmt.Errorf("%w: %s is not given to %s, which none of its endpoints is", notFor, source, strict.Label(host))
}
