package scope

import (
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Providers and types that IDs name, ours and Azure's.
const (
	Provider                = "policy.boltseal.dev"
	AuthorizationProvider   = "Microsoft.Authorization"
	clusters                = "clusters"
	providers               = "providers"
	policyAssignments       = "policyAssignments"
	ClusterType             = Provider + "/" + clusters
	ManagedClusterType      = "Microsoft.ContainerService/managedClusters"
	managementGroups        = "managementGroups"
	managementProvider      = "Microsoft.Management"
	managementGroupSegments = 4
)

// AssignmentID returns <scope>/providers/policy.boltseal.dev/policyAssignments/<name>.
func AssignmentID(at Path, name string) string {
	return at.join(providers, Provider, policyAssignments, name).text
}

// ParseAssignmentID splits an ID as AssignmentID or Azure (provider
// Microsoft.Authorization) writes it. An error wraps ErrConfiguration.
func ParseAssignmentID(id string) (at Path, name string, err error) {
	p, err := parsePath(id, MaxIDLength)
	if err != nil {
		return Path{}, "", err
	}
	n := len(p.segments) - 4
	if n < 0 || p.segments[n] != providers ||
		p.segments[n+1] != Provider && p.segments[n+1] != strings.ToLower(AuthorizationProvider) ||
		p.segments[n+2] != strings.ToLower(policyAssignments) {
		return Path{}, "", &PathError{Path: truncateText(id),
			Problem: "the ID of an assignment ends in /providers/" + Provider + "/policyAssignments/NAME"}
	}
	written := strings.Split(p.text[1:], "/")
	if at, err = Parse("/" + strings.Join(written[:n], "/")); err != nil {
		return Path{}, "", err
	}
	return at, written[n+3], nil
}

// NamesAssignment reports whether ref, a name or an ID, is the assignment of
// that name and scope. An ID with another scope is another assignment.
func NamesAssignment(ref string, at Path, name string) (bool, error) {
	if !strings.HasPrefix(ref, "/") {
		return ref != "" && strings.EqualFold(ref, name), nil
	}
	s, n, err := ParseAssignmentID(ref)
	if err != nil {
		return false, err
	}
	return s.Equal(at) && strings.EqualFold(n, name), nil
}

// ResourceGroup returns the name of the resource group that an Azure path lies
// in, as it is written: G of /subscriptions/S/resourceGroups/G. ok is false for
// other paths.
func (p Path) ResourceGroup() (name string, ok bool) {
	if len(p.segments) < 4 || p.segments[0] != "subscriptions" || p.segments[2] != "resourcegroups" {
		return "", false
	}
	return strings.Split(p.text[1:], "/")[3], true
}

// IsManagementGroup reports whether the path is
// /providers/Microsoft.Management/managementGroups/NAME.
func (p Path) IsManagementGroup() bool {
	return len(p.segments) == managementGroupSegments && p.segments[0] == providers &&
		p.segments[1] == strings.ToLower(managementProvider) && p.segments[2] == strings.ToLower(managementGroups)
}

// objectName reports whether Kubernetes would take the name.
func objectName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }
