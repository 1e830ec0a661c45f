package migrate

import (
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/compile"
)

// Fields that decide what a problem means.
const (
	fieldSource      = "spec.source"
	fieldCerts       = "spec.parameters.verificationCerts"
	fieldCertStores  = "spec.parameters.verificationCertStores"
	fieldAuth        = "spec.parameters.authProvider.name"
	fieldContentType = "spec.parameters.contentType"
)

// base is the kind without its scope.
func (e *entry) base() string { return strings.TrimPrefix(e.Kind, v1beta1.NamespacedPrefix) }

// part is the name of what the resource is made of, and where it stands.
func (e *entry) part() (name, field string) {
	switch s := e.Spec; e.base() {
	case v1beta1.KindStore:
		return s.Name, "spec.name"
	case v1beta1.KindPolicy:
		return s.Type, "spec.type"
	case v1beta1.KindCertificateStore:
		return s.Provider, "spec.provider"
	case v1beta1.KindVerifier:
		if s.Type != "" {
			return s.Type, "spec.type"
		}
		return s.Name, "spec.name"
	default:
		if s.Type == "" && s.Provider != "" {
			return s.Provider, "spec.provider"
		}
		return s.Type, "spec.type"
	}
}

// knows reports whether the product has the part.
func (c *checker) knows(e *entry, name string) bool {
	switch e.base() {
	case v1beta1.KindStore:
		return slices.Contains(c.known.Stores, name)
	case v1beta1.KindVerifier:
		return slices.Contains(c.known.Verifiers, name)
	case v1beta1.KindPolicy:
		return slices.Contains(c.known.Policies, strings.ToLower(name))
	}
	return slices.Contains(c.known.Providers, name)
}

// consequence is what stands in for a resource that does not work; see
// compile.NewCluster.
func (c *checker) consequence(e *entry) string {
	switch e.base() {
	case v1beta1.KindStore:
		return "every image that it would read is denied"
	case v1beta1.KindPolicy:
		if e.Metadata.Name != c.known.Policy {
			return "it is as if it were not there"
		}
		return "every image is denied"
	case v1beta1.KindVerifier:
		return "every artifact that it would verify is rejected"
	}
	return "Verifiers that name it lack its certificates"
}

// stands tells what the product says of a resource.
func (c *checker) stands(e *entry, st *compile.Standing) {
	elsewhere, told := false, false
	for _, p := range st.Problems {
		switch {
		case strings.Contains(p.Message, errElsewhere.Error()):
			elsewhere = true
		case p.Field == fieldCerts, strings.HasPrefix(p.Field, fieldCerts+"["):
			told = true // these files are another machine's; behaves says so, whether they are here or not
		default:
			told = true
			c.problem(e, p, st.Serving)
		}
	}
	switch {
	case !elsewhere || told:
	case st.Fetched != nil:
		c.fetched(e)
	case st.Serving == compile.ServingStandIn:
		c.add(e.document, "", Error, "", "cannot apply it even with the certificates that it fetches; "+c.consequence(e), "ask boltseal doctor, which fetches them")
	}
	for _, w := range st.Warnings {
		c.warning(e, w)
	}
	for _, text := range st.Expiring {
		c.add(e.document, "", Differs, "says nothing of it", "says so in the resource's status, an event and metrics: "+text, "provide its successor beside it, and keep it as long as signatures with timestamps rest on it")
	}
}

// problem makes a finding of what keeps a resource from being in force.
func (c *checker) problem(e *entry, p strict.Problem, serving compile.Serving) {
	name, field := e.part()
	refuses := "refuses it: " + p.Message
	if serving == compile.ServingReduced {
		refuses += "; the rest of it applies"
	} else {
		refuses += "; " + c.consequence(e)
	}
	switch {
	case p.Field == field && name != "" && !c.knows(e, name):
		ratify, do := unknownPart(e, name)
		c.add(e.document, field, Unsupported, ratify, "has no "+strict.Label(name)+": "+c.consequence(e), do)
	case p.Field == fieldAuth && slices.Contains(c.known.AuthProviders, e.Spec.Parameters.AuthProvider.Name):
		c.add(e.document, fieldAuth, Unsupported, authOf(e.Spec.Parameters.AuthProvider.Name), refuses,
			"write a Store of the cluster in its place, or let the namespace use Boltseal's identity: docs/registries.md, Namespaces")
	case p.Field == fieldAuth && e.Spec.Parameters.AuthProvider.Name != "":
		c.add(e.document, fieldAuth, Unsupported, authOf(e.Spec.Parameters.AuthProvider.Name), refuses,
			"give Boltseal a docker configuration: leave authProvider out, or name: dockerConfig, with a credential helper where tokens are short-lived")
	case e.version == "v1alpha1" && e.base() == v1beta1.KindPolicy:
		c.add(e.document, p.Field, Error, "takes the name of a Policy of "+e.APIVersion+" for its type", refuses, "write a Policy of "+v1beta1.GroupVersion.String()+": metadata.name "+c.known.Policy+", spec.type "+c.known.Policies[0])
	case p.Field == fieldSource:
		c.add(e.document, fieldSource, Unsupported, "downloads the program and runs it", refuses, "leave spec.source out, if "+strict.Label(name)+" is what it is to be; otherwise delete the resource")
	case p.Field == fieldContentType && e.Spec.Parameters.ContentType == "key":
		c.add(e.document, fieldContentType, Unsupported, "gives the key to cosign verifiers", refuses, "delete it with the Verifier that names it, or provide a certificate")
	case strings.HasPrefix(p.Message, "unknown field"):
		c.add(e.document, p.Field, Error, "ignores it", refuses, "correct its name, or delete it")
	case p.Field == fieldCertStores && len(e.Spec.Parameters.VerificationCertStores) == 0:
		c.add(e.document, p.Field, Error, "trusts what lies in its own folder ratify-certs/notation/truststore", refuses, "put those certificates into a KeyManagementProvider, and name it in verificationCertStores")
	case strings.HasPrefix(p.Field, fieldCertStores):
		c.add(e.document, p.Field, Error, "finds out when it verifies, and leaves out certificates that are neither a CA's nor self-signed", refuses, "correct it, or apply what is missing")
	default:
		c.add(e.document, p.Field, Error, "", refuses, "correct it")
	}
}

// warning makes a finding of what has no effect.
func (c *checker) warning(e *entry, w strict.Problem) {
	ratify := ""
	switch w.Field {
	case "spec.parameters.localCachePath":
		ratify = "keeps manifests and signatures in that folder"
	case "spec.parameters.cosignEnabled":
		ratify = "lists cosign signatures by their tags too"
	case "spec.parameters.resource":
		ratify = "asks for a token for that resource"
	}
	c.add(e.document, w.Field, Differs, ratify, "accepts it and says in the status: "+w.Message, "see whether this is meant")
}

// fetched tells that a provider's certificates were not looked at.
func (c *checker) fetched(e *entry) {
	name, _ := e.part()
	c.add(e.document, "", Differs, "fetches from "+name+" with the identity of its own ServiceAccount",
		"fetches with the identity of its ServiceAccount in the namespace "+c.o.Namespace+"; what exists there was not checked",
		"give that identity the same rights (docs/keys.md), then ask boltseal doctor")
}

// unknownPart says what Ratify does with a part that is not known here.
func unknownPart(e *entry, name string) (ratify, do string) {
	const gone = "delete it before the switch; nothing here takes its place"
	switch e.base() {
	case v1beta1.KindVerifier:
		switch name {
		case "cosign":
			return "verifies cosign signatures", "sign with Notation too, and delete it before the switch"
		case "sbom", "schemavalidator", "licensechecker", "vulnerabilityreport":
			return "runs its plugin " + name + ", which verifies what is attached to the image", gone
		}
		return "runs the plugin " + strict.Label(name), gone
	case v1beta1.KindPolicy:
		if low := strings.ToLower(name); low == "rego-policy" || low == "regopolicy" {
			return "decides by Rego, and answers reports of version 1.x", "write config-policy with any or all; what else the Rego asks belongs into the ConstraintTemplate"
		}
		return "", "write config-policy"
	case v1beta1.KindStore:
		return "runs the plugin " + strict.Label(name), "write a Store with name: oras"
	}
	return "runs the plugin " + strict.Label(name), "write one of the types of docs/keys.md"
}

// authOf says what Ratify does with an auth provider.
func authOf(name string) string {
	switch name {
	case "dockerConfig":
		return "reads its own docker configuration"
	case "k8Secrets":
		return "reads pull secrets of the cluster"
	case "azureWorkloadIdentity", "azureManagedIdentity":
		return "signs in to Azure's registries with an Azure identity"
	case "awsEcrBasic":
		return "signs in to ECR with an AWS role"
	case "alibabacloudAcrBasic":
		return "signs in to Alibaba Cloud's registries with a RAM role"
	}
	return ""
}
