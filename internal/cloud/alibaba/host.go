package alibaba

import (
	"regexp"

	"github.com/boltseal/boltseal/internal/credential/endpoints"
)

const suffix = ".aliyuncs.com"

// place is what a registry's host says.
type place struct {
	instance string // its name, "" = it has none
	region   string
}

var (
	instanceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	region       = regexp.MustCompile(`^[a-z]{2}-[a-z0-9]+(-[a-z0-9]+){0,3}$`)
	// named are instances of the Enterprise Edition: NAME-registry.REGION.cr.aliyuncs.com,
	// -registry-vpc in a VPC, and .distributed where an instance is in many regions.
	// The region begins with two letters: oss-cn-hangzhou.aliyuncs.com and its like
	// are other services, where anybody can have a name.
	named = regexp.MustCompile(`^([a-z0-9-]+)-registry(?:-intl)?(?:-vpc)?(?:-internal)?(?:\.distributed)?\.([a-z0-9-]+)\.cr\.aliyuncs\.com$`)
	// shared are the hosts that all users have in common.
	shared = regexp.MustCompile(`^registry(?:-intl)?(?:-vpc)?(?:-internal)?\.([a-z0-9-]+)\.(?:cr\.)?aliyuncs\.com$`)
)

// parseHost takes a registry of Alibaba Cloud apart.
func parseHost(host string) (p place, ok bool) {
	if !endpoints.Host(host) {
		return p, false
	}
	if m := named.FindStringSubmatch(host); m != nil {
		p = place{m[1], m[2]}
	} else if m := shared.FindStringSubmatch(host); m != nil {
		p = place{"", m[1]}
	}
	return p, region.MatchString(p.region) && (p.instance == "" || instanceName.MatchString(p.instance))
}
