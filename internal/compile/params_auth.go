package compile

import (
	"github.com/boltseal/boltseal/internal/credential/alibaba"
	"github.com/boltseal/boltseal/internal/credential/kube"
)

// secretsParameters are those of k8Secrets, which are Ratify's.
type secretsParameters struct {
	Name           string        `json:"name"`
	Secrets        []kube.Secret `json:"secrets"`
	ServiceAccount string        `json:"serviceAccountName"`
}

// podSecretsParameters are those of podPullSecrets; Ratify has none.
type podSecretsParameters struct {
	Name string `json:"name"`
}

// dockerConfigParameters are those of the auth provider "dockerConfig".
type dockerConfigParameters struct {
	Name       string `json:"name"`
	ConfigPath string `json:"configPath"`
}

// acrParameters are those of azureWorkloadIdentity and
// azureManagedIdentity: Ratify's, and from TenantID on ours.
type acrParameters struct {
	Name      string   `json:"name"`
	ClientID  string   `json:"clientID"`
	Endpoints []string `json:"endpoints"`

	TenantID  string `json:"tenantID"`
	TokenFile string `json:"tokenFile"`
}

// ecrParameters are those of awsEcrBasic; Ratify has none.
type ecrParameters struct {
	Name           string   `json:"name"`
	Endpoints      []string `json:"endpoints"`
	Accounts       []string `json:"accounts"`
	Authentication string   `json:"authentication"`
	RoleARN        string   `json:"roleARN"`
	TokenFile      string   `json:"tokenFile"`
}

// artifactRegistryParameters are those of gcpArtifactRegistry; Ratify has none.
type artifactRegistryParameters struct {
	Name      string   `json:"name"`
	Endpoints []string `json:"endpoints"`
}

// alibabaParameters are those of alibabacloudAcrBasic: Ratify's, and from Endpoints
// on ours.
type alibabaParameters struct {
	Name              string             `json:"name"`
	DefaultInstanceID string             `json:"defaultInstanceId"`
	Instances         []alibaba.Instance `json:"acrInstancesConfig"`

	Endpoints       []string `json:"endpoints"`
	Authentication  string   `json:"authentication"`
	RoleARN         string   `json:"roleARN"`
	OIDCProviderARN string   `json:"oidcProviderARN"`
	TokenFile       string   `json:"tokenFile"`
	RoleName        string   `json:"roleName"`
}
