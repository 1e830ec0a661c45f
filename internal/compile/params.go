package compile

import (
	"encoding/json"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
)

// inlineParameters are those of the provider "inline".
type inlineParameters struct {
	ContentType string `json:"contentType"`
	Value       string `json:"value"`
}

// orasParameters are those of the store "oras": Ratify's, and from Scopes on ours.
type orasParameters struct {
	UseHTTP        bool   `json:"useHttp"`
	CosignEnabled  bool   `json:"cosignEnabled"`
	LocalCachePath string `json:"localCachePath"`
	CacheEnabled   bool   `json:"cacheEnabled"`
	TTL            int    `json:"ttl"` // seconds
	// AuthProvider has parameters of its own kind; see credentials.
	AuthProvider json.RawMessage `json:"authProvider"`

	AuthProviders []json.RawMessage `json:"authProviders"` // of the same kind

	Scopes     []string           `json:"scopes"`
	CAFile     string             `json:"caFile"`
	CACert     string             `json:"caCert"`
	Proxy      string             `json:"proxy"`
	Registries []registrySettings `json:"registries"`
	Mirrors    []mirrorSettings   `json:"mirrors"`
	Identities []identitySettings `json:"identities"`
}

// identitySettings say by which name trust policies know images whose names
// begin with place.
type identitySettings struct {
	Place string `json:"place"`
	As    string `json:"as"`
}

func (p orasParameters) identities() (out []boltseal.Identity) {
	for _, i := range p.Identities {
		out = append(out, boltseal.Identity{Place: i.Place, As: i.As})
	}
	return out
}

// mirrorSettings are other places of images whose names begin with source.
type mirrorSettings struct {
	Source    string   `json:"source"`
	Endpoints []string `json:"endpoints"`
	Only      bool     `json:"only"`
}

func (p orasParameters) mirrors() (out []oci.Mirror) {
	for _, m := range p.Mirrors {
		out = append(out, oci.Mirror{Source: m.Source, Endpoints: m.Endpoints, Only: m.Only})
	}
	return out
}

// registrySettings are those of one registry.
type registrySettings struct {
	Host           string   `json:"host"`
	UseHTTP        bool     `json:"useHttp"`
	CAFile         string   `json:"caFile"`
	CACert         string   `json:"caCert"`
	ClientCertFile string   `json:"clientCertFile"`
	ClientKeyFile  string   `json:"clientKeyFile"`
	Proxy          string   `json:"proxy"`
	AuthRealms     []string `json:"authRealms"`
}

// notationParameters are those of the verifier "notation".
type notationParameters struct {
	VerificationCerts []string `json:"verificationCerts"`
	// VerificationCertStores has two shapes; see declaredStores.
	VerificationCertStores json.RawMessage              `json:"verificationCertStores"`
	TrustPolicyDoc         notation.TrustPolicyDocument `json:"trustPolicyDoc"`
}

// configPolicyParameters are those of the policy "config-policy": Ratify's, and
// from MultiArch on ours.
type configPolicyParameters struct {
	ArtifactVerificationPolicies map[string]string `json:"artifactVerificationPolicies"`

	MultiArch string   `json:"multiArch"`
	Platforms []string `json:"platforms"`
}
