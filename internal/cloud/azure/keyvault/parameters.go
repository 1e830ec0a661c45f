// Package keyvault fetches certificates and keys from Azure Key Vault, by Azure's own SDK.
package keyvault

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"

	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cloud/azure"
	"github.com/boltseal/boltseal/internal/keys"
)

// Name is the provider's type.
const Name = "azurekeyvault"

// How Boltseal signs in.
const (
	WorkloadIdentity = azure.WorkloadIdentity // the default
	ManagedIdentity  = azure.ManagedIdentity
	ClientSecret     = azure.ClientSecret
)

var authentications = []string{WorkloadIdentity, ManagedIdentity, ClientSecret}

// Parameters are those of a provider of type azurekeyvault: Ratify's, and from
// Authentication on ours.
type Parameters struct {
	// VaultURI is such as https://acme.vault.azure.net/. Its host says which cloud
	// the vault is in.
	VaultURI string `json:"vaultURI"`
	// TenantID is the tenant to sign in to. "" means $AZURE_TENANT_ID.
	TenantID string `json:"tenantID"`
	// ClientID says who signs in. "" means $AZURE_CLIENT_ID, or for a managed identity
	// the machine's own.
	ClientID string `json:"clientID"`
	// CloudName, where set, must be the cloud of vaultURI.
	CloudName string `json:"cloudName"`
	// Resource has no effect.
	Resource     string  `json:"resource"`
	Certificates []Entry `json:"-"` // two shapes; who decodes the parameters reads them
	// Keys are keys of the vault. No verifier trusts them: they are shown.
	Keys []Entry `json:"keys"`

	// Authentication is how to sign in: workloadIdentity, managedIdentity or clientSecret.
	// "" means workloadIdentity.
	Authentication string `json:"authentication"`
	// TokenFile is the federated token of workloadIdentity. "" means
	// $AZURE_FEDERATED_TOKEN_FILE.
	TokenFile string `json:"tokenFile"`
	// ClientSecretRef is the Secret with the client secret.
	ClientSecretRef *keys.SecretRef `json:"clientSecretRef"`
	// ClientSecretFile is the file with it, in place of clientSecretRef.
	ClientSecretFile string `json:"clientSecretFile"`
}

// Entry is one certificate or key.
type Entry struct {
	// Name is that of the certificate, or the key.
	Name string `json:"name"`
	// Version is one version. "" means the newest.
	Version string `json:"version"`
	// VersionHistoryLimit is how many of the newest versions that are enabled are in
	// use. 0 means 1.
	VersionHistoryLimit int `json:"versionHistoryLimit"`
}

// sovereign is one of Azure's clouds.
type sovereign struct {
	names  []string
	suffix string // of its vaults' hosts
	config cloud.Configuration
}

func sovereigns() []sovereign {
	return []sovereign{
		{[]string{"AzurePublicCloud", "AzureCloud", "AzurePublic"}, ".vault.azure.net", cloud.AzurePublic},
		{[]string{"AzureUSGovernmentCloud", "AzureUSGovernment", "AzureGovernment"}, ".vault.usgovcloudapi.net", cloud.AzureGovernment},
		{[]string{"AzureChinaCloud", "AzureChina"}, ".vault.azure.cn", cloud.AzureChina},
	}
}

var (
	vaultName   = regexp.MustCompile(`^[A-Za-z0-9-]{3,24}$`)
	objectName  = regexp.MustCompile(`^[A-Za-z0-9-]{1,127}$`)
	versionName = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)
)

// vault reads VaultURI: credentials go to hosts of Azure alone.
func (p Parameters) vault() (host string, in sovereign, err error) {
	u, err := url.Parse(strings.TrimSpace(p.VaultURI))
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return "", in, fmt.Errorf("%s is no vault, such as https://acme.vault.azure.net/", strict.Label(p.VaultURI))
	}
	host = strings.ToLower(u.Host)
	var suffixes []string
	for _, s := range sovereigns() {
		if name, ok := strings.CutSuffix(host, s.suffix); ok && vaultName.MatchString(name) {
			return host, s, nil
		}
		suffixes = append(suffixes, "*"+s.suffix)
	}
	return "", in, fmt.Errorf("%s is no vault of Azure, and gets no token: its host must be one of %s", strict.Label(host), strings.Join(suffixes, ", "))
}

// Check finds what is wrong.
func (p Parameters) Check(namespace string) (problems []keys.Problem) {
	fail := func(field, format string, a ...any) {
		problems = append(problems, keys.Problem{Field: field, Message: fmt.Sprintf(format, a...)})
	}
	if p.VaultURI == "" {
		fail("vaultURI", "it is missing: which vault is to be asked?")
	} else if host, in, err := p.vault(); err != nil {
		fail("vaultURI", "%v", err)
	} else if p.CloudName != "" && !contains(in.names, p.CloudName) {
		fail("cloudName", "%s is of %s: leave cloudName out", host, in.names[0])
	}
	problems = append(problems, p.identity().Check()...)
	entries(fail, "certificates", p.Certificates)
	entries(fail, "keys", p.Keys)
	switch n := len(p.Certificates) + len(p.Keys); {
	case n == 0:
		fail("certificates", "it is missing: name the certificates to fetch")
	case n > keys.MaxEntries:
		fail("certificates", "%d certificates and keys, at most %d", n, keys.MaxEntries)
	}
	p.checkAuthentication(fail, namespace)
	return problems
}

func (p Parameters) checkAuthentication(fail func(field, format string, a ...any), namespace string) {
	switch p.Authentication {
	case "", WorkloadIdentity, ManagedIdentity:
		if p.ClientSecretRef != nil || p.ClientSecretFile != "" {
			fail("authentication", "a client secret is of use with authentication %s only", ClientSecret)
		}
	case ClientSecret:
		if (p.ClientSecretRef == nil) == (p.ClientSecretFile == "") {
			fail("clientSecretRef", "name where the client secret is: either clientSecretRef or clientSecretFile")
		}
	default:
		fail("authentication", "%s is not one of %s%s", strict.Label(p.Authentication), strings.Join(authentications, ", "), nearest.Hint(p.Authentication, authentications))
	}
	if p.TokenFile != "" && p.Authentication != "" && p.Authentication != WorkloadIdentity {
		fail("tokenFile", "it is of use with authentication %s only", WorkloadIdentity)
	}
	if namespace != "" {
		for _, f := range []struct{ field, value string }{{"tokenFile", p.TokenFile}, {"clientSecretFile", p.ClientSecretFile}} {
			if f.value != "" {
				fail(f.field, "a provider of a namespace reads no files of Boltseal's")
			}
		}
	}
	if p.ClientSecretRef != nil {
		p.ClientSecretRef.Check(namespace, func(field, message string) { fail("clientSecretRef."+field, "%s", message) })
	}
}

func entries(fail func(field, format string, a ...any), list string, es []Entry) {
	seen := map[Entry]bool{}
	for i, e := range es {
		field := fmt.Sprintf("%s[%d]", list, i)
		switch {
		case e.Name == "":
			fail(field+".name", "it is missing")
			continue
		case !objectName.MatchString(e.Name):
			fail(field+".name", "%s is no name in a vault: letters, digits and - only", strict.Label(e.Name))
		case e.Version != "" && !versionName.MatchString(e.Version):
			fail(field+".version", "%s is no version in a vault", strict.Label(e.Version))
		}
		switch {
		case e.VersionHistoryLimit < 0 || e.VersionHistoryLimit > keys.MaxVersions:
			fail(field+".versionHistoryLimit", "%d is not between 1 and %d", e.VersionHistoryLimit, keys.MaxVersions)
		case e.Version != "" && e.VersionHistoryLimit > 1:
			fail(field+".versionHistoryLimit", "one version is named, so there is no history: leave one of the two out")
		}
		key := Entry{Name: e.Name, Version: e.Version}
		if seen[key] {
			fail(field, "%s is listed twice", strict.Label(e.Name))
		}
		seen[key] = true
	}
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
