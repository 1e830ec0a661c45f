package controller

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/boltseal/boltseal/internal/compile"
)

func node(t testing.TB, name, arch string) *unstructured.Unstructured {
	return parse(t, fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s, labels: {kubernetes.io/os: linux, kubernetes.io/arch: %q}}\nstatus: {images: []}\n", name, arch))
}

// knows waits until what was compiled last was compiled with Nodes that are such.
func (r *replica) knows(what string, is func(*compile.Nodes) bool) {
	r.t.Helper()
	eventually(r.t, what, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.nodes != nil && is(r.nodes)
	})
}

func runs(platforms ...string) func(*compile.Nodes) bool {
	return func(n *compile.Nodes) bool {
		var got []string
		for _, p := range n.Platforms {
			got = append(got, p.String())
		}
		return n.Unread == "" && n.Unclear == "" && slices.Equal(got, platforms)
	}
}

// TestNodesAreWatchedWhenAsked: not before a Policy asks for them, and then live;
// where they cannot be read nothing else waits, and nothing is taken for granted.
func TestNodesAreWatchedWhenAsked(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	var asked atomic.Int32
	var forbidden atomic.Bool
	forbidden.Store(true)
	s.change(func() {
		s.refuse = func(r *http.Request) int {
			if !strings.HasPrefix(r.URL.Path, "/api/v1/nodes") {
				return 0
			}
			asked.Add(1)
			if forbidden.Load() {
				return http.StatusForbidden
			}
			return 0
		}
	})
	s.apply(node(t, "a", "amd64"))
	r := start(t, s, "one")
	s.apply(document(t, "Policy", "", "ratify-policy", "type: config-policy, parameters: {artifactVerificationPolicies: {default: any}, multiArch: platforms}"))
	r.becomes("Policy", "", "ratify-policy", "Current")
	if n := asked.Load(); n != 0 {
		t.Errorf("Nodes were asked for %d times, and nobody needs them", n)
	}
	s.apply(document(t, "Policy", "", "ratify-policy", "type: config-policy, parameters: {artifactVerificationPolicies: {default: any}, multiArch: platforms, platforms: [nodes]}"))
	s.apply(document(t, "Store", "", "s", "name: oras"))
	r.becomes("Store", "", "s", "Current")
	r.knows("Nodes are unread", func(n *compile.Nodes) bool { return strings.Contains(n.Unread, "could not be read yet") })
	forbidden.Store(false)
	r.knows("Nodes are read", runs("linux/amd64"))

	b, times := node(t, "b", "amd64"), r.times()
	s.apply(b)
	s.apply(node(t, "c", "arm64"))
	r.knows("a Node of another platform joined", runs("linux/amd64", "linux/arm64"))
	s.remove(node(t, "c", "arm64"))
	r.knows("it left", runs("linux/amd64"))
	s.remove(b)
	s.remove(node(t, "a", "amd64"))
	r.knows("all left", func(n *compile.Nodes) bool { return strings.Contains(n.Unclear, "no Node yet") })
	if got := r.times() - times; got > 3 {
		t.Errorf("compiled %d times for three changes of what Nodes run", got)
	}
	s.apply(node(t, "odd", "quantum"))
	r.knows("one that is not understood", func(n *compile.Nodes) bool { return strings.Contains(n.Unclear, "linux/quantum") })
}
