package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/policy"
)

// nodesItem stands in a Policy's platforms for those that the cluster's Nodes run.
const nodesItem = "nodes"

// Nodes is what a cluster's Nodes run.
type Nodes struct {
	Platforms []boltseal.Platform // in any order, each once
	// Unclear says why there may be others, so that every manifest of an index counts:
	// there is no Node yet, or one is of a platform that is not understood. "" means
	// that there are none.
	Unclear string
	// Unread says why nothing is known of them. "" means that they were read.
	Unread string
}

// nowhere is what is known of Nodes where there is no cluster.
var nowhere = Nodes{Unread: "there is no cluster here whose Nodes could be read"}

// NewNodes takes together what Nodes run, by their labels kubernetes.io/os and
// kubernetes.io/arch as kubelets set them, each as OS/ARCHITECTURE.
func NewNodes(platforms []string) *Nodes {
	n := &Nodes{}
	for _, text := range platforms {
		p, err := boltseal.ParsePlatform(text)
		switch {
		case err != nil || p.Variant != "":
			n.Unclear = fmt.Sprintf("a Node's labels kubernetes.io/os and kubernetes.io/arch say %.80q, which is no platform that is understood", text)
		case len(n.Platforms) >= boltseal.MaxPlatforms:
			n.Unclear = fmt.Sprintf("the Nodes run more than %d platforms", boltseal.MaxPlatforms)
		case !slices.Contains(n.Platforms, p):
			n.Platforms = append(n.Platforms, p)
		}
	}
	if len(platforms) == 0 {
		n.Unclear = "the cluster has no Node yet"
	}
	return n
}

// same reports whether nothing changed; nil is another state.
func (n *Nodes) same(o *Nodes) bool {
	if n == nil || o == nil {
		return n == o
	}
	if n.Unclear != o.Unclear || n.Unread != o.Unread || len(n.Platforms) != len(o.Platforms) {
		return false
	}
	for _, p := range n.Platforms {
		if !slices.Contains(o.Platforms, p) {
			return false
		}
	}
	return true
}

// nodes adds to a Policy's platforms those that the cluster's Nodes run.
func (c *compiler) nodes(r resource[v1beta1.PolicySpec], list strict.Node, o *policy.Options) {
	n := c.deps.Nodes
	if n == nil {
		n = &nowhere
	}
	c.asked = n
	warn := func(why, so string) {
		c.out.Warnings = append(c.out.Warnings, r.own(list.Problem("%s: %s", why, so)))
	}
	switch {
	case n.Unread != "":
		o.Unread = n.Unread
		warn(n.Unread, "an image of several platforms is unknown, unless multiArch is either and its index is signed")
		return
	case n.Unclear != "":
		o.Platforms = nil
		warn(n.Unclear, "every manifest of an index counts")
		return
	}
	for _, p := range n.Platforms {
		if !slices.Contains(o.Platforms, p) {
			o.Platforms = append(o.Platforms, p)
		}
	}
	if len(o.Platforms) > boltseal.MaxPlatforms {
		c.fail(r.own(list.Problem("%d platforms with those of the Nodes, at most %d", len(o.Platforms), boltseal.MaxPlatforms)))
		return
	}
	// Nodes come and go in any order, and evidence names the platforms.
	slices.SortFunc(o.Platforms, func(a, b boltseal.Platform) int { return strings.Compare(a.String(), b.String()) })
}

// WantsNodes reports whether some Policy asks for what the cluster's Nodes run.
func (c *Cluster) WantsNodes() bool {
	return slices.ContainsFunc(c.entries, func(e Entry) bool {
		return e.Current.wantsNodes() || e.Good != nil && e.Good.wantsNodes()
	})
}

// WantsNodes is [Cluster.WantsNodes] of what was decoded.
func (s *Set) WantsNodes() bool { return slices.ContainsFunc(s.policies, asksForNodes) }

func (r *Resource) wantsNodes() bool {
	return r.key.base() == v1beta1.KindPolicy && r.set.WantsNodes()
}

func asksForNodes(r resource[v1beta1.PolicySpec]) bool {
	list, _ := r.node.Get("spec", "parameters", "platforms")
	return slices.ContainsFunc(list.Items(), func(n strict.Node) bool { return n.Text() == nodesItem })
}
