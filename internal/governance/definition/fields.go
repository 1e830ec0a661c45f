package definition

import (
	"strconv"
	"strings"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// ManagedClusters is the resource type of a cluster where nothing else is said.
const ManagedClusters = "Microsoft.ContainerService/managedClusters"

// ClusterFields are what conditions and expressions can know of a cluster.
type ClusterFields struct {
	Type          string // empty = ManagedClusters
	Name          string
	Location      string // empty = not known: the field is not there
	ResourceGroup string
	// ImageIntegrity and PolicyAddOn say whether the add-on is enabled. nil =
	// nothing is said: the field is not there.
	ImageIntegrity *bool
	PolicyAddOn    *bool
}

// FieldsOf returns the fields of a cluster as its spec has them. The resource
// group is the path element after resourceGroups, or the last one of the scope.
func FieldsOf(c v1alpha1.Cluster) ClusterFields {
	parts := strings.Split(strings.Trim(c.Spec.Scope, "/"), "/")
	group := parts[len(parts)-1]
	for i := 0; i+1 < len(parts); i++ {
		if strings.EqualFold(parts[i], "resourceGroups") {
			group = parts[i+1]
			break
		}
	}
	return ClusterFields{
		Type: ManagedClusters, Name: c.Name, Location: c.Spec.Location, ResourceGroup: group,
		ImageIntegrity: c.Spec.SecurityProfile.ImageIntegrity.Enabled,
		PolicyAddOn:    c.Spec.AddonProfiles.AzurePolicy.Enabled,
	}
}

// clusterField is a field that conditions compare.
type clusterField uint8

const (
	fieldType clusterField = iota
	fieldName
	fieldLocation
	fieldImageIntegrity
	fieldPolicyAddOn
)

// fieldNames by clusterField, as Azure calls them.
var fieldNames = []string{
	"type", "name", "location",
	ManagedClusters + "/securityProfile.imageIntegrity.enabled",
	ManagedClusters + "/addonProfiles.azurePolicy.enabled",
}

func lookUpField(name string) (clusterField, bool) {
	for i, n := range fieldNames {
		if strings.EqualFold(n, name) {
			return clusterField(i), true
		}
	}
	return 0, false
}

// text returns a field's value as conditions compare it; ok is false where the
// cluster does not have it.
func (c ClusterFields) text(f clusterField) (value string, ok bool) {
	switch f {
	case fieldType:
		if c.Type == "" {
			return ManagedClusters, true
		}
		return c.Type, true
	case fieldName:
		return c.Name, true
	case fieldLocation:
		return c.Location, c.Location != ""
	case fieldImageIntegrity:
		return enabledText(c.ImageIntegrity)
	}
	return enabledText(c.PolicyAddOn)
}

func enabledText(b *bool) (string, bool) {
	if b == nil {
		return "", false
	}
	return strconv.FormatBool(*b), true
}
