package scope

import (
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// MaxManagementGroups above one cluster, as the custom resource says.
const MaxManagementGroups = 10

// Place is where a cluster stands, checked. The zero Place stands nowhere.
type Place struct {
	at       Path
	ids      []Path // its own ID, then Azure's, then the management groups
	name     string
	location string // as Azure normalizes it; "" is not known
}

// At checks where a cluster stands. An empty spec.scope is "/". An error wraps
// ErrConfiguration and names the field; nothing is then known about the cluster.
func At(c *v1alpha1.Cluster) (Place, error) {
	fail := func(field string, err error) (Place, error) {
		return Place{}, fmt.Errorf("cluster %s: %s: %w", truncateText(c.Name), field, err)
	}
	text := c.Spec.Scope
	if text == "" {
		text = "/"
	}
	at, err := Parse(text)
	if err != nil {
		return fail("spec.scope", err)
	}
	if !at.IsManagementGroup() {
		// One cluster's ID must never lie below another's.
		for _, reserved := range []string{clusters, providers} {
			if slices.Contains(at.segments, reserved) {
				return fail("spec.scope", &PathError{Path: truncateText(text), Problem: "a part may not be " + reserved + ": that begins the name of what is in the scope"})
			}
		}
	}
	if !objectName(c.Name) {
		return fail("metadata.name", &PathError{Path: truncateText(c.Name), Problem: "it is not a name of an object"})
	}
	p := Place{at: at, name: c.Name, location: normalizeLocation(c.Spec.Location),
		ids: []Path{at.join(clusters, c.Name), at.join(providers, ManagedClusterType, c.Name)}}
	if n := len(c.Spec.ManagementGroups); n > MaxManagementGroups {
		return fail("spec.managementGroups", &PathError{Path: truncateText(text), Problem: fmt.Sprintf("%d groups, at most %d", n, MaxManagementGroups)})
	}
	for i, g := range c.Spec.ManagementGroups {
		path, err := Parse(g)
		if err == nil && !path.IsManagementGroup() {
			err = &PathError{Path: truncateText(g), Problem: "write a management group as /providers/Microsoft.Management/managementGroups/NAME"}
		}
		if err != nil {
			return fail(fmt.Sprintf("spec.managementGroups[%d]", i), err)
		}
		p.ids = append(p.ids, path)
	}
	return p, nil
}

// ID of the cluster: its scope, and its name.
func (p Place) ID() string {
	if len(p.ids) == 0 {
		return ""
	}
	return p.ids[0].text
}

// Scope is the path that the cluster stands at.
func (p Place) Scope() Path { return p.at }

// In reports whether the cluster is the path, or stands below it, by its own ID,
// by Azure's, or by one of its management groups.
func (p Place) In(path Path) bool { return slices.ContainsFunc(p.ids, path.Contains) }

// normalizeLocation is a location as Azure normalizes it: "West Europe" is westeurope.
func normalizeLocation(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
