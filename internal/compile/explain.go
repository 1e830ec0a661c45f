package compile

import (
	"reflect"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/notation"
)

const (
	fieldSpec       = "spec"
	fieldParameters = "spec.parameters"
)

// once are fields that Ratify had under another name or in another shape, that belong
// to a part that is not known here, or that other tools have; by the kind without
// its scope. A text says what to write.
var once = map[string]map[string]string{
	v1beta1.KindStore: {
		"auth-provider":                "Ratify once had it; write authProvider, with name",
		"cosign-enabled":               "Ratify once had it; write cosignEnabled, or leave it out: it has no effect",
		"notationEnabled":              "neither Ratify nor Boltseal has it; leave it out: a Verifier with name: notation verifies Notation signatures",
		"insecure":                     "write useHttp: true under registries, for the host that has no TLS; a certificate that is not known is given by caFile or caCert",
		"insecureSkipVerify":           "certificates are always checked; give the registry's authority by caFile or caCert",
		"skipTLSVerify":                "certificates are always checked; give the registry's authority by caFile or caCert",
		"capacity":                     "Ratify's cache once had it; leave it out",
		"keyNumber":                    "Ratify's cache once had it; leave it out",
		"imagePullSecrets":             "write authProvider: {name: k8Secrets, secrets: [{secretName: NAME}]}",
		"verificationCerts":            "it is a Verifier's",
		"trustPolicyDoc":               "it is a Verifier's",
		"artifactTypes":                "it is a Verifier's",
		"artifactVerificationPolicies": "it is a Policy's",
	},
	v1beta1.KindVerifier: {
		"trustPolicy":         "write trustPolicyDoc",
		"trustPolicies":       "write trustPolicyDoc: {version: \"1.0\", trustPolicies: […]}",
		"certificateStores":   "write verificationCertStores",
		"certStores":          "write verificationCertStores",
		"nestedReferences":    "a plugin of Ratify's for SBOMs and reports has it; signatures have none",
		"nestedArtifactTypes": "Ratify once had it for what is attached to attachments; leave it out",
		"key":                 "Ratify's cosign verifier has it, and cosign signatures are not checked here",
		"rekorURL":            "Ratify's cosign verifier has it, and cosign signatures are not checked here",
		"verifierName":        "write spec.name",
		"useHttp":             "it is a Store's",
		"authProvider":        "it is a Store's",
		"cosignEnabled":       "it is a Store's",
	},
	v1beta1.KindPolicy: {
		"policy":             "rego-policy has it, which is not known here: what the Rego asks belongs into a ConstraintTemplate",
		"policyPath":         "rego-policy has it, which is not known here: what the Rego asks belongs into a ConstraintTemplate",
		"passthroughEnabled": "rego-policy has it, which is not known here; leave it out",
		"default":            "write artifactVerificationPolicies: {default: any}, or all",
		"any":                "write artifactVerificationPolicies: {default: any}",
		"all":                "write artifactVerificationPolicies: {default: all}",
		"name":               "write spec.type: config-policy",
		"trustPolicyDoc":     "it is a Verifier's",
	},
	v1beta1.KindKeyManagementProvider: {
		"vaultName":              "write vaultURI: https://NAME.vault.azure.net/",
		"keyvaultName":           "write vaultURI: https://NAME.vault.azure.net/",
		"keyVaultName":           "write vaultURI: https://NAME.vault.azure.net/",
		"objects":                "write certificates: [{name: NAME}]",
		"usePodIdentity":         "write authentication: workloadIdentity, and clientID",
		"useVMManagedIdentity":   "write authentication: managedIdentity, and clientID",
		"userAssignedIdentityID": "write clientID, with authentication: managedIdentity",
		"cert":                   "write value",
		"certificate":            "write value",
		"pem":                    "write value",
		"crt":                    "write value",
		"interval":               "write spec.refreshInterval",
	},
}

// explained adds to problems of fields that are not known where a field of that name
// belongs, or what became of it.
func explained(doc strict.Node, problems error) error {
	ps := collect(nil, problems)
	if len(ps) == 0 {
		return problems
	}
	base := strings.TrimPrefix(doc.Text("kind"), v1beta1.NamespacedPrefix)
	if base == v1beta1.KindCertificateStore {
		base = v1beta1.KindKeyManagementProvider
	}
	ps = slices.Clone(ps)
	for i := range ps {
		rest, ok := strings.CutPrefix(ps[i].Message, unknownField)
		if !ok {
			continue
		}
		at, name := "", ps[i].Field
		if dot := strings.LastIndexByte(ps[i].Field, '.'); dot >= 0 {
			at, name = ps[i].Field[:dot], ps[i].Field[dot+1:]
		}
		if what := once[base][name]; what != "" {
			ps[i].Message = unknownField + ": " + what
			continue
		}
		if right := placesOf(doc, base, name); right != "" && right != at {
			ps[i].Message = unknownField + " here: write it under " + right
			continue
		}
		ps[i].Message = unknownField + rest
	}
	return ps
}

// unknownField begins the message of strict.Decode about a field that is not known.
const unknownField = "unknown field"

// placesOf is where a field of a document's kind belongs; "" where there is none of
// that name.
func placesOf(doc strict.Node, base, name string) string {
	if has(reflect.TypeFor[specFields](), name) && (name != "provider" || base == v1beta1.KindKeyManagementProvider) {
		return fieldSpec
	}
	for _, p := range parametersAt(doc, base) {
		if has(p.t, name) {
			return p.at
		}
	}
	if name == "name" || name == "namespace" || name == "labels" || name == "annotations" {
		return "metadata"
	}
	return ""
}

// specFields are those of specs that no parameters have, in every kind.
type specFields struct {
	Type            string `json:"type"`
	Provider        string `json:"provider"`
	ArtifactTypes   string `json:"artifactTypes"`
	RefreshInterval string `json:"refreshInterval"`
	Parameters      string `json:"parameters"`
	Source          string `json:"source"`
	Address         string `json:"address"`
}

type place struct {
	at string
	t  reflect.Type
}

// parametersAt are the places of a kind below its spec, the upper ones first.
func parametersAt(doc strict.Node, base string) []place {
	switch base {
	case v1beta1.KindStore:
		return []place{{fieldParameters, reflect.TypeFor[orasParameters]()}, {fieldParameters + ".registries[]", reflect.TypeFor[registrySettings]()}, {fieldParameters + ".authProvider", reflect.TypeFor[authFields]()}}
	case v1beta1.KindVerifier:
		const policies = fieldTrustPolicy + ".trustPolicies[]"
		return []place{{fieldParameters, reflect.TypeFor[notationParameters]()}, {fieldTrustPolicy, reflect.TypeFor[notation.TrustPolicyDocument]()},
			{policies, reflect.TypeFor[notation.TrustPolicyDoc]()}, {policies + ".signatureVerification", reflect.TypeFor[notation.SignatureVerification]()}}
	case v1beta1.KindPolicy:
		return []place{{fieldParameters, reflect.TypeFor[configPolicyParameters]()}}
	case v1beta1.KindKeyManagementProvider:
		kind := doc.Text("spec", "type")
		if kind == "" {
			kind = doc.Text("spec", "provider")
		}
		for _, p := range ParameterTypes(base) {
			if p.Name == kind {
				return []place{{fieldParameters, p.Type}}
			}
		}
	}
	return nil
}

// authFields are those of Ratify's auth providers, whichever it is.
type authFields struct {
	ConfigPath         string `json:"configPath"`
	ServiceAccountName string `json:"serviceAccountName"`
	Secrets            string `json:"secrets"`
	ClientID           string `json:"clientID"`
	Endpoints          string `json:"endpoints"`
}

// has reports whether a struct has a field of that name, as JSON sees it.
func has(t reflect.Type, name string) bool { return slices.Contains(strict.Fields(t), name) }
