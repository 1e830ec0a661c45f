// Package kms fetches certificates of AWS Private CA and public keys of AWS KMS.
package kms

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/keys"
)

// Name is the provider's type.
const Name = "awskms"

// Parameters are those of a provider of type awskms.
type Parameters struct {
	// Region is where keys and authorities are. "" means $AWS_REGION.
	Region string `json:"region"`
	// CertificateAuthorities are those of AWS Private CA, which are trusted.
	CertificateAuthorities []Authority `json:"certificateAuthorities"`
	// Keys are asymmetric keys of AWS KMS. No verifier trusts them: they are shown.
	Keys []Key `json:"keys"`
}

// Authority is one of AWS Private CA.
type Authority struct {
	// ARN is the authority's, whole.
	ARN string `json:"arn"`
}

// Key is one of AWS KMS. Asymmetric keys have no versions there: an alias is moved
// to another key.
type Key struct {
	// Name is a key's identifier, its ARN, alias/ with an alias, or an alias's ARN.
	Name string `json:"name"`
}

var (
	keyName      = regexp.MustCompile(`^(alias/[A-Za-z0-9/_-]{1,250}|(mrk-)?[0-9a-f-]{32,36})$`)
	keyARN       = regexp.MustCompile(`^arn:(aws[a-z-]*):kms:([a-z0-9-]+):[0-9]{12}:(alias/[A-Za-z0-9/_-]{1,250}|key/(mrk-)?[0-9a-f-]{32,36})$`)
	authorityARN = regexp.MustCompile(`^arn:(aws[a-z-]*):acm-pca:([a-z0-9-]+):[0-9]{12}:certificate-authority/[0-9a-f-]{36}$`)
)

// Check finds what is wrong.
func (p Parameters) Check(string) (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	if p.Region != "" && !aws.IsRegion(p.Region) {
		fail("region", "%s is no region, such as eu-central-1", strict.Label(p.Region))
	}
	n := len(p.Keys) + len(p.CertificateAuthorities)
	switch {
	case n == 0:
		fail("certificateAuthorities", "it is missing: name authorities of AWS Private CA")
	case n > keys.MaxEntries:
		fail("", "%d authorities and keys, at most %d", n, keys.MaxEntries)
	}
	seen := map[string]bool{}
	once := func(field, name string) {
		if seen[name] {
			fail(field, "%s is listed twice", strict.Label(name))
		}
		seen[name] = true
	}
	here := func(field, arn, partition, region string) {
		if own := aws.PartitionOf(region); own != partition {
			fail(field, "%s is in the partition %s, and its region %s is in %s", strict.Label(arn), partition, region, own)
		}
		if p.Region != "" && region != p.Region {
			fail(field, "%s is in the region %s, and region says %s: a provider is for one region", strict.Label(arn), region, p.Region)
		}
	}
	for i, a := range p.CertificateAuthorities {
		field := fmt.Sprintf("certificateAuthorities[%d].arn", i)
		if m := authorityARN.FindStringSubmatch(a.ARN); m == nil {
			fail(field, "%s is no authority, such as arn:aws:acm-pca:eu-central-1:111122223333:certificate-authority/…", strict.Label(a.ARN))
		} else {
			here(field, a.ARN, m[1], m[2])
		}
		once(field, a.ARN)
	}
	for i, k := range p.Keys {
		field := fmt.Sprintf("keys[%d].name", i)
		if m := keyARN.FindStringSubmatch(k.Name); m != nil {
			here(field, k.Name, m[1], m[2])
		} else if !keyName.MatchString(k.Name) {
			fail(field, "%s is no key: write its identifier, its ARN, or alias/ and its alias", strict.Label(k.Name))
		}
		once(field, k.Name)
	}
	return problems
}

// short is the last part of an ARN, which is enough to know it by in one provider.
func short(arn string) string {
	if !strings.HasPrefix(arn, "arn:") {
		return arn
	}
	return arn[strings.LastIndexByte(arn, ':')+1:]
}
