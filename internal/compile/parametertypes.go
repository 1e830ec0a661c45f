package compile

import (
	"reflect"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/cloud/alibaba"
	"github.com/boltseal/boltseal/internal/cloud/aws/ecr"
	awskms "github.com/boltseal/boltseal/internal/cloud/aws/kms"
	"github.com/boltseal/boltseal/internal/cloud/azure/acr"
	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	"github.com/boltseal/boltseal/internal/cloud/gcp/artifactregistry"
	gcpkms "github.com/boltseal/boltseal/internal/cloud/gcp/kms"
	"github.com/boltseal/boltseal/internal/cloud/vault"
	credentialkube "github.com/boltseal/boltseal/internal/credential/kube"
	"github.com/boltseal/boltseal/internal/keys/file"
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
		return []ParameterType{{typeInline, reflect.TypeFor[inlineParameters]()}, {keyvault.Name, reflect.TypeFor[azureKeyVaultParameters]()},
			{kube.NameSecret, reflect.TypeFor[kube.Parameters]()}, {kube.NameConfigMap, reflect.TypeFor[kube.Parameters]()}, {file.Name, reflect.TypeFor[file.Parameters]()},
			{vault.Name, reflect.TypeFor[vault.Parameters]()}, {awskms.Name, reflect.TypeFor[awskms.Parameters]()}, {gcpkms.Name, reflect.TypeFor[gcpkms.Parameters]()}}
	}
	return nil
}

// AuthProviderTypes are the auth providers that a Store may name, with what each is
// decoded into, its name too.
func AuthProviderTypes() []ParameterType {
	return []ParameterType{{dockerConfig, reflect.TypeFor[dockerConfigParameters]()}, {acr.WorkloadIdentity, reflect.TypeFor[acrParameters]()}, {acr.ManagedIdentity, reflect.TypeFor[acrParameters]()},
		{ecr.Name, reflect.TypeFor[ecrParameters]()}, {artifactregistry.Name, reflect.TypeFor[artifactRegistryParameters]()}, {alibaba.Name, reflect.TypeFor[alibabaParameters]()},
		{credentialkube.Name, reflect.TypeFor[secretsParameters]()}, {credentialkube.PodName, reflect.TypeFor[podSecretsParameters]()}}
}
