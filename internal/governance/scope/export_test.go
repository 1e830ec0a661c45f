package scope

import "github.com/boltseal/boltseal/api/policy/v1alpha1"

// ClusterID returns <scope>/clusters/<name>.
func ClusterID(at Path, name string) string { return at.join(clusters, name).text }

// ManagedClusterID returns the ID as Azure writes it:
// <scope>/providers/Microsoft.ContainerService/managedClusters/<name>.
func ManagedClusterID(at Path, name string) string {
	return at.join(providers, ManagedClusterType, name).text
}

// Contains is Path.Contains for texts: a scope, and the ID of a cluster.
func Contains(scope, id string) (bool, error) {
	p, err := Parse(scope)
	if err != nil {
		return false, err
	}
	q, err := parsePath(id, MaxIDLength)
	if err != nil {
		return false, err
	}
	return p.Contains(q), nil
}

// InScope compiles and asks at once, for one cluster. Names of references stay
// unchecked.
func InScope(spec *v1alpha1.PolicyAssignmentSpec, c *v1alpha1.Cluster) (bool, error) {
	a, err := Compile(spec, nil)
	if err != nil {
		return false, err
	}
	p, err := At(c)
	if err != nil {
		return false, err
	}
	return a.Holds(p)
}
