package compile

import (
	"encoding/json"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
)

// inlineParameters are those of the provider "inline".
type inlineParameters struct {
	// ContentType is certificate, or is left out.
	ContentType string `json:"contentType"`
	// Value is one or more certificates in PEM.
	Value string `json:"value"`
}

// orasParameters are those of the store "oras": Ratify's, and from Scopes on ours.
type orasParameters struct {
	// UseHTTP has registries asked without TLS.
	UseHTTP bool `json:"useHttp"`
	// CosignEnabled has no effect.
	CosignEnabled bool `json:"cosignEnabled"`
	// LocalCachePath has no effect.
	LocalCachePath string `json:"localCachePath"`
	// CacheEnabled has no effect.
	CacheEnabled bool `json:"cacheEnabled"`
	// TTL has no effect.
	TTL int `json:"ttl"`
	// AuthProvider says who has credentials; see docs/registries.md.
	AuthProvider json.RawMessage `json:"authProvider"`

	// AuthProviders are several, in place of authProvider, in the order in which they are asked.
	AuthProviders []json.RawMessage `json:"authProviders"`

	// Scopes say which images the store serves: *, host, *.domain or host/path. Without it, it serves all.
	Scopes []string `json:"scopes"`
	// CAFile is a file with the authorities of the registries' TLS certificates, in PEM.
	CAFile string `json:"caFile"`
	// CACert are those authorities inline, in PEM.
	CACert string `json:"caCert"`
	// Proxy is how registries are reached: http://HOST:PORT, https://HOST:PORT, socks5://HOST:PORT or none.
	Proxy string `json:"proxy"`
	// Registries are settings of single registries.
	Registries []registrySettings `json:"registries"`
	// Mirrors are other places of images.
	Mirrors []mirrorSettings `json:"mirrors"`
	// Identities say by which names trust policies know images. In a Store of the cluster only.
	Identities []identitySettings `json:"identities"`
}

// identitySettings say by which name trust policies know images whose names
// begin with place.
type identitySettings struct {
	// Place is the beginning of an image's name: host or host/path.
	Place string `json:"place"`
	// As is what trust policies see in its place.
	As string `json:"as"`
}

func (p orasParameters) identities() (out []boltseal.Identity) {
	for _, i := range p.Identities {
		out = append(out, boltseal.Identity{Place: i.Place, As: i.As})
	}
	return out
}

// mirrorSettings are other places of images whose names begin with source.
type mirrorSettings struct {
	// Source is the beginning of an image's name: host or host/path.
	Source string `json:"source"`
	// Endpoints are the places that are asked in its stead, the first first.
	Endpoints []string `json:"endpoints"`
	// Only says that the source itself is never asked.
	Only bool `json:"only"`
}

func (p orasParameters) mirrors() (out []oci.Mirror) {
	for _, m := range p.Mirrors {
		out = append(out, oci.Mirror{Source: m.Source, Endpoints: m.Endpoints, Only: m.Only})
	}
	return out
}

// registrySettings are those of one registry.
type registrySettings struct {
	// Host is the registry's, as an image's name has it.
	Host string `json:"host"`
	// UseHTTP has it asked without TLS.
	UseHTTP bool `json:"useHttp"`
	// CAFile is a file with the authorities of its TLS certificate, in PEM.
	CAFile string `json:"caFile"`
	// CACert are those authorities inline, in PEM.
	CACert string `json:"caCert"`
	// ClientCertFile is a file with the client certificate that it asks for, in PEM.
	ClientCertFile string `json:"clientCertFile"`
	// ClientKeyFile is a file with that certificate's key, in PEM. In a Store of the cluster only.
	ClientKeyFile string `json:"clientKeyFile"`
	// Proxy is how it is reached, in place of the Store's.
	Proxy string `json:"proxy"`
	// AuthRealms are hosts that give tokens for it, beside those that are known to.
	AuthRealms []string `json:"authRealms"`
}

// notationParameters are those of the verifier "notation".
type notationParameters struct {
	// VerificationCerts are paths of certificates, or of folders with them; they make the trust store ca:certs.
	VerificationCerts []string `json:"verificationCerts"`
	// VerificationCertStores map trust stores to lists of providers (KeyManagementProviders or CertificateStores), or types of trust stores (ca, signingAuthority, tsa) to such maps.
	VerificationCertStores json.RawMessage `json:"verificationCertStores"`
	// TrustPolicyDoc is the Notary Project's trust policy document.
	TrustPolicyDoc notation.TrustPolicyDocument `json:"trustPolicyDoc"`
}

// configPolicyParameters are those of the policy "config-policy": Ratify's, and
// from MultiArch on ours.
type configPolicyParameters struct {
	// ArtifactVerificationPolicies map artifact types, or default, to any or all.
	ArtifactVerificationPolicies map[string]string `json:"artifactVerificationPolicies"`

	// MultiArch says what of an image of several platforms must be signed: named, platforms, either or all.
	MultiArch string `json:"multiArch"`
	// Platforms are those that count, such as linux/amd64, or nodes for those that the cluster's Nodes run.
	Platforms []string `json:"platforms"`
}
