package compile

import (
	"reflect"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/credential/alibaba"
	"github.com/boltseal/boltseal/internal/credential/aws"
	"github.com/boltseal/boltseal/internal/credential/azure"
	"github.com/boltseal/boltseal/internal/credential/gcp"
	credentialkube "github.com/boltseal/boltseal/internal/credential/kube"
	"github.com/boltseal/boltseal/internal/keys/awskms"
	"github.com/boltseal/boltseal/internal/keys/azurekeyvault"
	"github.com/boltseal/boltseal/internal/keys/file"
	"github.com/boltseal/boltseal/internal/keys/gcpkms"
	"github.com/boltseal/boltseal/internal/keys/hashivault"
	"github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/notation"
)

// ParameterType is what a part of that name has for parameters.
type ParameterType struct {
	Name string
	Type reflect.Type
}

// ParameterTypes are the parts that a resource of a kind, without its scope, may name,
// with what their spec.parameters are decoded into.
func ParameterTypes(kind string) []ParameterType {
	switch kind {
	case v1beta1.KindStore:
		return []ParameterType{{storeTypes[0], reflect.TypeFor[orasParameters]()}}
	case v1beta1.KindVerifier:
		return []ParameterType{{notation.VerifierType, reflect.TypeFor[notationParameters]()}}
	case v1beta1.KindPolicy:
		return []ParameterType{{policyTypes[0], reflect.TypeFor[configPolicyParameters]()}}
	case v1beta1.KindKeyManagementProvider, v1beta1.KindCertificateStore:
		return []ParameterType{{typeInline, reflect.TypeFor[inlineParameters]()}, {azurekeyvault.Name, reflect.TypeFor[azureKeyVaultParameters]()},
			{kube.NameSecret, reflect.TypeFor[kube.Parameters]()}, {kube.NameConfigMap, reflect.TypeFor[kube.Parameters]()}, {file.Name, reflect.TypeFor[file.Parameters]()},
			{hashivault.Name, reflect.TypeFor[hashivault.Parameters]()}, {awskms.Name, reflect.TypeFor[awskms.Parameters]()}, {gcpkms.Name, reflect.TypeFor[gcpkms.Parameters]()}}
	}
	return nil
}

// AuthProviderTypes are the auth providers that a Store may name, with what each is
// decoded into, its name too.
func AuthProviderTypes() []ParameterType {
	return []ParameterType{{dockerConfig, reflect.TypeFor[dockerConfigParameters]()}, {azure.WorkloadIdentity, reflect.TypeFor[acrParameters]()}, {azure.ManagedIdentity, reflect.TypeFor[acrParameters]()},
		{aws.Name, reflect.TypeFor[ecrParameters]()}, {gcp.Name, reflect.TypeFor[artifactRegistryParameters]()}, {alibaba.Name, reflect.TypeFor[alibabaParameters]()},
		{credentialkube.Name, reflect.TypeFor[secretsParameters]()}, {credentialkube.PodName, reflect.TypeFor[podSecretsParameters]()}}
}
