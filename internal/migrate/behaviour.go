package migrate

import (
	"slices"
	"strconv"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/policy"
)

// behaves tells what is taken as it is written, and does something else. What
// Ratify does is that of its version 1.4.
func (c *checker) behaves(e *entry) {
	if name, _ := e.part(); !c.knows(e, name) {
		return // it does nothing at all
	}
	for _, unused := range []struct{ field, value string }{{"spec.address", e.Spec.Address}, {"spec.version", e.Spec.Version}} {
		if unused.value != "" {
			c.add(e.document, unused.field, Differs, "looks for plugins by it", "takes it and does nothing with it: no plugin is run", "leave it out when Ratify is removed")
		}
	}
	switch e.base() {
	case v1beta1.KindStore:
		c.store(e)
	case v1beta1.KindVerifier:
		c.verifier(e)
	case v1beta1.KindPolicy:
		c.policy(e)
	default:
		c.provider(e)
	}
}

func (c *checker) store(e *entry) {
	p := e.Spec.Parameters
	if p.CacheEnabled || len(p.TTL) > 0 {
		c.add(e.document, "spec.parameters.cacheEnabled", Differs, "keeps what it read, and its verdicts, for ttl and for its own cache's time; an outage is kept as a denial",
			"keeps verdicts as long as what they rest on is valid, minutes at most, and a tag's digest for seconds; an outage is never kept as a denial. cacheEnabled and ttl have no effect", "leave both out when Ratify is removed")
	}
	if p.UseHTTP {
		c.add(e.document, "spec.parameters.useHttp", Differs, "asks every registry without TLS, and does not check certificates where one redirects to TLS",
			"asks every registry without TLS unless registries gives it an authority, and always checks certificates", "write useHttp only for the hosts under registries that need it")
	}
	if p.AuthProvider.ConfigPath != "" && slices.Contains(c.known.AuthProviders, p.AuthProvider.Name) {
		c.add(e.document, "spec.parameters.authProvider.configPath", Differs, "reads "+strict.Label(p.AuthProvider.ConfigPath)+" in its own Pod", "reads it in Boltseal's Pod, which does not have it by itself",
			"mount it there: registryCredentials.secretName of the chart, and leave configPath out; or extraVolumes and extraVolumeMounts")
	}
}

func (c *checker) verifier(e *entry) {
	p := e.Spec.Parameters
	if strings.TrimSpace(e.Spec.Artifacts) == "" {
		c.add(e.document, "spec.artifactTypes", Differs, "verifies nothing without it", "verifies Notary Project signatures without it", "name the types that are meant")
	}
	if len(p.VerificationCerts) == 0 {
		return
	}
	if len(p.VerificationCertStores) > 0 {
		c.add(e.document, fieldCerts, Differs, "looks there for trust stores that verificationCertStores does not declare", "ignores it beside verificationCertStores", "put those certificates into a KeyManagementProvider")
		return
	}
	c.add(e.document, fieldCerts, Differs, "reads these paths in its own Pod, and its folder ratify-certs/notation/truststore beside them",
		"reads these paths, and no others, in Boltseal's Pod, which does not have them by itself", "put the certificates into a KeyManagementProvider; or mount them: extraVolumes and extraVolumeMounts of the chart")
}

func (c *checker) policy(e *entry) {
	rules := e.Spec.Parameters.Rules
	all := rules["default"] == "" // which means all
	for _, rule := range rules {
		all = all || policy.Rule(rule) == policy.All
	}
	if all {
		c.add(e.document, "spec.parameters.artifactVerificationPolicies", Differs, "verifies every signature that is listed, and one that fails is enough to deny",
			"requires the same, and denies an image with more signatures than it checks ("+strconv.Itoa(boltseal.DefaultMaxSignatures)+"): what was not checked cannot be valid", "remove signatures that are no longer needed; or write any, where one trusted signature suffices")
		return
	}
	c.add(e.document, "spec.parameters.artifactVerificationPolicies", OK, "verifies all signatures", "stops at the first trusted one: reports name the signatures that were checked", "")
}

func (c *checker) provider(e *entry) {
	if len(e.Spec.Parameters.Keys) > 0 {
		c.add(e.document, "spec.parameters.keys", Unsupported, "gives the keys to cosign verifiers", "fetches them, shows them in the status, and has no verifier that trusts a key", "leave them out; name certificates in their place")
	}
}
