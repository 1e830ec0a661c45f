package ecr

import (
	"regexp"

	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/credential/endpoints"
)

// suffixes are the domains that registries are below.
var suffixes = []string{"amazonaws.com", "amazonaws.com.cn", "on.aws"}

// place is what a registry's host says.
type place struct {
	account string // twelve digits
	region  string
	fips    bool // only by what is validated for FIPS 140
	dual    bool // by IPv4 and IPv6
}

// partition is the part of AWS that has identities of its own.
func (p place) partition() string { return aws.PartitionOf(p.region) }

var (
	account = regexp.MustCompile(`^[0-9]{12}$`)
	// regionName is a region of the partitions whose registries have these hosts. The
	// isolated ones (us-iso-east-1) have others.
	regionName = regexp.MustCompile(`^(us-gov|[a-z]{2})-[a-z]{2,12}-[0-9]{1,2}$`)
	// private are registries of an account (Amazon ECR User Guide, "Amazon ECR
	// private registry", "Making requests to Amazon ECR registries").
	private = regexp.MustCompile(`^([0-9]{12})\.dkr(?:\.ecr(-fips)?\.([a-z0-9-]+)\.amazonaws\.com(\.cn)?|-ecr(-fips)?\.([a-z0-9-]+)\.on\.aws)$`)
)

// parseHost takes a registry of Amazon ECR apart.
func parseHost(host string) (p place, ok bool) {
	if !endpoints.Host(host) {
		return p, false
	}
	m := private.FindStringSubmatch(host)
	if m == nil {
		return p, false
	}
	p = place{account: m[1], region: m[3], fips: m[2]+m[5] != ""}
	if p.dual = m[6] != ""; p.dual {
		p.region = m[6]
	}
	// China's regions are below a domain of their own, and no others are.
	china := p.partition() == "aws-cn"
	if !regionName.MatchString(p.region) || china != (m[4] != "") {
		return place{}, false
	}
	return p, true
}
