// Package kms fetches certificates of Google's Certificate Authority Service and public keys of Cloud KMS.
package kms

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
)

// Name is the provider's type.
const Name = "gcpkms"

// Parameters are those of a provider of type gcpkms.
type Parameters struct {
	// CertificateAuthorities are pools or single authorities of Certificate Authority
	// Service, which are trusted.
	CertificateAuthorities []Authority `json:"certificateAuthorities"`
	// Keys are asymmetric keys of Cloud KMS. No verifier trusts them: they are shown.
	Keys []Key `json:"keys"`
}

// Authority is a pool with all of its authorities, or one of them.
type Authority struct {
	// Name is the resource's, from projects/ on.
	Name string `json:"name"`
}

// Key is one of Cloud KMS.
type Key struct {
	// Name is the CryptoKey's, from projects/ on.
	Name string `json:"name"`
	// Version is the number of the one that is wanted. "" means the newest that is
	// enabled.
	Version string `json:"version"`
	// VersionHistoryLimit is how many of the newest enabled versions are fetched, 1 to
	// keys.MaxVersions. 0 means 1.
	VersionHistoryLimit int `json:"versionHistoryLimit"`
}

const (
	// A domain-scoped project has its domain before a colon.
	inLocation = `^projects/[a-z0-9][a-z0-9.:-]{1,120}/locations/[a-z0-9-]{1,63}/`
	part       = `[A-Za-z0-9_-]{1,63}`
)

var (
	keyName       = regexp.MustCompile(inLocation + `keyRings/` + part + `/cryptoKeys/` + part + `$`)
	poolName      = regexp.MustCompile(inLocation + `caPools/` + part + `$`)
	authorityName = regexp.MustCompile(inLocation + `caPools/` + part + `/certificateAuthorities/` + part + `$`)
	versionName   = regexp.MustCompile(`^[1-9][0-9]{0,8}$`)
)

// Check finds what is wrong.
func (p Parameters) Check(string) (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	n := len(p.Keys) + len(p.CertificateAuthorities)
	switch {
	case n == 0:
		fail("certificateAuthorities", "it is missing: name pools or authorities of Certificate Authority Service")
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
	for i, a := range p.CertificateAuthorities {
		field := fmt.Sprintf("certificateAuthorities[%d].name", i)
		if !poolName.MatchString(a.Name) && !authorityName.MatchString(a.Name) {
			fail(field, "%s is no pool and no authority, such as projects/acme/locations/europe-west3/caPools/release", strict.Label(a.Name))
		}
		once(field, a.Name)
	}
	for i, k := range p.Keys {
		at := fmt.Sprintf("keys[%d].", i)
		switch {
		case keyName.MatchString(k.Name):
		case strings.Contains(k.Name, "/cryptoKeyVersions/"):
			fail(at+"name", "%s names a version: write its number as version", strict.Label(k.Name))
		default:
			fail(at+"name", "%s is no key, such as projects/acme/locations/europe-west3/keyRings/signing/cryptoKeys/release", strict.Label(k.Name))
		}
		if k.Version != "" && !versionName.MatchString(k.Version) {
			fail(at+"version", "%s is no version: versions of Cloud KMS are numbers", strict.Label(k.Version))
		}
		switch {
		case k.VersionHistoryLimit < 0 || k.VersionHistoryLimit > keys.MaxVersions:
			fail(at+"versionHistoryLimit", "%d is not between 1 and %d", k.VersionHistoryLimit, keys.MaxVersions)
		case k.Version != "" && k.VersionHistoryLimit > 0:
			fail(at+"versionHistoryLimit", "one version is named, so there is no history to fetch: leave version out")
		}
		once(at+"name", k.Name+"@"+k.Version)
	}
	return problems
}

// short is the last part of a resource's name.
func short(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
