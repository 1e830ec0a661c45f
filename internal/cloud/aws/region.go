package aws

import (
	"regexp"
	"strings"
)

// regionName is a region, with the letters of its partition before the country's where it has some (Amazon EC2 User Guide,
// "Regions"; AWS SDK, partitions.json).
var regionName = regexp.MustCompile(`^(us-gov|us-iso[a-z]?|eu-isoe|eusc-[a-z]{2}|[a-z]{2})-[a-z]{2,12}-[0-9]{1,2}$`)

// IsRegion reports whether a text has the form of a region's name.
func IsRegion(name string) bool { return regionName.MatchString(name) }

// partitions are those whose regions have names of their own, the longer beginning first.
var partitions = []struct{ begins, partition string }{
	{"cn-", "aws-cn"}, {"us-gov-", "aws-us-gov"}, {"us-isob-", "aws-iso-b"}, {"us-isof-", "aws-iso-f"}, {"us-iso-", "aws-iso"},
	{"eu-isoe-", "aws-iso-e"}, {"eusc-", "aws-eusc"},
}

// PartitionOf is the part of AWS that a region is in. Each has identities of its own, and none is known in another.
func PartitionOf(region string) string {
	for _, p := range partitions {
		if strings.HasPrefix(region, p.begins) {
			return p.partition
		}
	}
	return "aws"
}
