package compile

import (
	"github.com/boltseal/boltseal/internal/cloud/alibaba"
	"github.com/boltseal/boltseal/internal/credential/kube"
)

// secretsParameters are those of k8Secrets, which are Ratify's.
type secretsParameters struct {
	// Name is which auth provider it is.
	Name string `json:"name"`
	// Secrets are read in their order.
	Secrets []kube.Secret `json:"secrets"`
	// ServiceAccount is whose imagePullSecrets are read after them.
	ServiceAccount string `json:"serviceAccountName"`
}

// podSecretsParameters are those of podPullSecrets; Ratify has none.
type podSecretsParameters struct {
	// Name is which auth provider it is.
	Name string `json:"name"`
}

// dockerConfigParameters are those of the auth provider "dockerConfig".
type dockerConfigParameters struct {
	// Name is which auth provider it is.
	Name string `json:"name"`
	// ConfigPath is the docker configuration file. Left out, it is the default one.
	ConfigPath string `json:"configPath"`
}

// acrParameters are those of azureWorkloadIdentity and
// azureManagedIdentity: Ratify's, and from TenantID on ours.
type acrParameters struct {
	// Name is which auth provider it is.
	Name string `json:"name"`
	// ClientID says who signs in.
	ClientID string `json:"clientID"`
	// Endpoints are the registries that are asked so, such as *.azurecr.io.
	Endpoints []string `json:"endpoints"`

	// TenantID is the tenant to sign in to.
	TenantID string `json:"tenantID"`
	// TokenFile is the federated token.
	TokenFile string `json:"tokenFile"`
}

// ecrParameters are those of awsEcrBasic; Ratify has none.
type ecrParameters struct {
	// Name is which auth provider it is.
	Name string `json:"name"`
	// Endpoints are the registries that are asked so.
	Endpoints []string `json:"endpoints"`
	// Accounts are those whose registries are asked. Left out, all are.
	Accounts []string `json:"accounts"`
	// Authentication is how to sign in.
	Authentication string `json:"authentication"`
	// RoleARN is the role to sign in as.
	RoleARN string `json:"roleARN"`
	// TokenFile is the token to sign in with.
	TokenFile string `json:"tokenFile"`
}

// artifactRegistryParameters are those of gcpArtifactRegistry; Ratify has none.
type artifactRegistryParameters struct {
	// Name is which auth provider it is.
	Name string `json:"name"`
	// Endpoints are the registries that are asked so.
	Endpoints []string `json:"endpoints"`
}

// alibabaParameters are those of alibabacloudAcrBasic: Ratify's, and from Endpoints
// on ours.
type alibabaParameters struct {
	// Name is which auth provider it is.
	Name string `json:"name"`
	// DefaultInstanceID is the instance of a registry that acrInstancesConfig does not name.
	DefaultInstanceID string `json:"defaultInstanceId"`
	// Instances are further ones, by the name in a registry's host.
	Instances []alibaba.Instance `json:"acrInstancesConfig"`

	// Endpoints are the registries that are asked so.
	Endpoints []string `json:"endpoints"`
	// Authentication is how to sign in.
	Authentication string `json:"authentication"`
	// RoleARN is the role to sign in as.
	RoleARN string `json:"roleARN"`
	// OIDCProviderARN is the provider that the token is of.
	OIDCProviderARN string `json:"oidcProviderARN"`
	// TokenFile is the token to sign in with.
	TokenFile string `json:"tokenFile"`
	// RoleName is the role of the machine.
	RoleName string `json:"roleName"`
}
