package oci

import (
	"regexp"

	"github.com/boltseal/boltseal"
)

// alibabaRegistry are the hosts of Alibaba Cloud Container Registry, in its two
// editions. The region begins with two letters, as those of other services, where
// anybody can have a name, do not.
var alibabaRegistry = regexp.MustCompile(`^(?:[a-z0-9][a-z0-9-]*-)?registry(?:-intl)?(?:-vpc)?(?:\.distributed)?\.([a-z]{2}-[a-z0-9-]*[a-z0-9])\.cr\.aliyuncs\.com$|^registry(?:-intl)?(?:-vpc)?\.([a-z]{2}-[a-z0-9-]*[a-z0-9])\.aliyuncs\.com$`)

// ownRealms are the token servers, on hosts of their own, of registries which the
// same company runs at both.
func ownRealms(name string) []string {
	if name == boltseal.DockerHub {
		return []string{"auth.docker.io"}
	}
	m := alibabaRegistry.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	region, edition := m[1], "dockerauth-ee"
	if region == "" {
		region, edition = m[2], "dockerauth"
	}
	return []string{edition + "." + region + ".aliyuncs.com", edition + "-vpc." + region + ".aliyuncs.com"}
}
