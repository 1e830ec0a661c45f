package compile

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	awskms "github.com/boltseal/boltseal/internal/cloud/aws/kms"
	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	gcpkms "github.com/boltseal/boltseal/internal/cloud/gcp/kms"
	"github.com/boltseal/boltseal/internal/cloud/vault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/keys/file"
	"github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/trust"
)

const typeInline = "inline"

// providerTypes are the kinds of providers known here.
var providerTypes = []string{typeInline, keyvault.Name, kube.NameSecret, kube.NameConfigMap, file.Name, vault.Name, awskms.Name, gcpkms.Name}

// providerSource is a provider as its text says.
type providerSource struct {
	inline   []*x509.Certificate
	want     *keys.Want // nil where it is inline
	warnings []strict.Problem
}

// provided is what a provider has.
type provided struct {
	certs []*x509.Certificate
	// lacks says which certificates could not be had, and why; "" = all are there.
	lacks string
	// trouble says what is wrong although the text is right: certificates are missing,
	// or may be old.
	trouble []string
	// state is how it stands; nil where it is inline.
	state *keys.State
}

// nothingFetched is the trouble of providers where nobody fetches anything.
const nothingFetched = "nothing is fetched here"

// have asks for what a provider has now.
func (src *providerSource) have(fetched func(keys.Want) keys.State) provided {
	if src.want == nil {
		return provided{certs: src.inline}
	}
	if fetched == nil {
		return provided{lacks: nothingFetched, trouble: []string{nothingFetched}}
	}
	st := fetched(*src.want)
	out := provided{certs: st.Content.Certificates(), state: &st}
	problems := st.Content.Problems()
	if t := st.Trouble(); t != "" {
		out.trouble = append(out.trouble, t)
		if st.Content == nil {
			out.lacks = t
		}
	}
	out.trouble = append(out.trouble, problems...)
	if st.Content != nil && len(problems) > 0 {
		out.lacks = keys.Texts(problems)
	}
	return out
}

// source reads one provider. The error is [strict.Problems].
func source(p resource[v1beta1.KeyManagementProviderSpec]) (*providerSource, error) {
	var problems strict.Problems
	kind, field := p.spec.Type, "spec.type"
	if _, ok := p.node.Get("spec", "provider"); ok && (kind == "" || p.kind == v1beta1.KindCertificateStore) {
		field = "spec.provider"
	}
	switch {
	case kind == "":
		kind = p.spec.Provider
	case p.spec.Provider != "" && p.spec.Provider != kind:
		problems = append(problems, p.problem("spec.provider", "it says %q, and type says %q: keep type", p.spec.Provider, kind))
	}
	interval, err := time.ParseDuration(p.spec.RefreshInterval)
	if p.spec.RefreshInterval != "" && (err != nil || interval < 0) {
		problems = append(problems, p.problem("spec.refreshInterval", "%q is no time such as 30m or 1h", p.spec.RefreshInterval))
	}
	src := &providerSource{}
	var params keys.Parameters
	switch kind {
	case typeInline:
		if src.inline, err = provideInline(p); err == nil {
			src.warnings = notAnchors(p, src.inline)
		}
	case keyvault.Name:
		params, src.warnings, err = azureParameters(p)
	case file.Name:
		params, err = parametersOf[file.Parameters](p)
	case awskms.Name:
		params, err = parametersOf[awskms.Parameters](p)
	case gcpkms.Name:
		params, err = parametersOf[gcpkms.Parameters](p)
	case vault.Name:
		params, err = parametersOf[vault.Parameters](p)
	case kube.NameSecret, kube.NameConfigMap:
		var kp kube.Parameters
		if kp, err = parametersOf[kube.Parameters](p); kind == kube.NameSecret {
			kp.Kind = keys.KindSecret
		} else {
			kp.Kind = keys.KindConfigMap
		}
		params = kp
	default:
		err = unknown(p, field, "provider", kind, providerTypes)
	}
	if problems = collect(problems, err); len(problems) > 0 {
		return nil, problems
	}
	if params == nil {
		return src, nil
	}
	for _, bad := range params.Check(p.namespace) {
		problems = append(problems, p.problem(strings.TrimSuffix("spec.parameters."+bad.Field, "."), "%s", bad.Message))
	}
	if len(problems) > 0 {
		return nil, problems
	}
	src.want = &keys.Want{ID: identity(p, kind, interval), Resource: p.String(), Namespace: p.namespace, Parameters: params, Interval: interval}
	return src, nil
}

// identity is the same for the same provider with the same parameters only.
func identity(p resource[v1beta1.KeyManagementProviderSpec], kind string, interval time.Duration) string {
	sum := sha256.Sum256(p.spec.Parameters.Raw)
	return fmt.Sprintf("%s\x00%s\x00%s\x00%s", p, kind, interval, hex.EncodeToString(sum[:]))
}

func parametersOf[T any](p resource[v1beta1.KeyManagementProviderSpec]) (params T, err error) {
	return params, p.parameters(&params)
}

func provideInline(p resource[v1beta1.KeyManagementProviderSpec]) ([]*x509.Certificate, error) {
	var params inlineParameters
	if err := p.parameters(&params); err != nil {
		return nil, err
	}
	switch params.ContentType {
	case "", "certificate":
	case "key":
		return nil, p.problem("spec.parameters.contentType", "keys are of no use to the verifiers known here; provide the certificate that belongs to the key")
	default:
		return nil, p.problem("spec.parameters.contentType", "%q is not certificate or key%s", params.ContentType, nearest.Hint(params.ContentType, []string{"certificate", "key"}))
	}
	certs, err := trust.ParseCertificates([]byte(params.Value))
	if err != nil {
		return nil, p.problem("spec.parameters.value", "%v", trim(err))
	}
	return certs, nil
}

// notAnchors names the certificates that no Verifier trusts by themselves, where
// others beside them are CAs'.
func notAnchors(p resource[v1beta1.KeyManagementProviderSpec], certs []*x509.Certificate) (warnings []strict.Problem) {
	anchors := trust.Anchors(trust.TypeCA, certs)
	if len(anchors) == 0 {
		return nil // the Verifier that names it has a problem
	}
	for _, c := range certs {
		if trust.Admit(trust.TypeCA, c) == nil {
			continue
		}
		if i := slices.IndexFunc(anchors, func(a *x509.Certificate) bool { return c.CheckSignatureFrom(a) == nil }); i >= 0 {
			warnings = append(warnings, p.problem("spec.parameters.value", "%q is a signer's own certificate: it is not trusted by itself; its CA %q is, and so is every signer of that CA that trustedIdentities let pass", c.Subject, anchors[i].Subject))
			continue
		}
		warnings = append(warnings, p.problem("spec.parameters.value", "%q is neither a CA's nor self-signed, and its CA is not here: it is not trusted. Put the CA that issued it here", c.Subject))
	}
	return warnings
}

// azureKeyVaultParameters are those of the provider "azurekeyvault", with
// certificates in either of their shapes.
type azureKeyVaultParameters struct {
	keyvault.Parameters
	// Certificates are those of the vault, each with name, and version or versionHistoryLimit where it is not to be the newest.
	Certificates json.RawMessage `json:"certificates"`
}

func azureParameters(p resource[v1beta1.KeyManagementProviderSpec]) (params keyvault.Parameters, warnings []strict.Problem, err error) {
	var raw azureKeyVaultParameters
	err = p.parameters(&raw)
	params = raw.Parameters
	n, ok := p.node.Get("spec", "parameters", "certificates")
	if ok {
		var bad error
		params.Certificates, bad = azureCertificates(n)
		err = joined(err, p.owned(bad))
	}
	if params.Resource != "" {
		warnings = append(warnings, p.problem("spec.parameters.resource", "it has no effect: the vault says for what it wants a token"))
	}
	return params, warnings, err
}

// azureCertificates reads a list of certificates, or the older form: a mapping with
// array, whose members are mappings, all of it perhaps as text with YAML in it.
func azureCertificates(n strict.Node) (entries []keyvault.Entry, err error) {
	if n.IsList() {
		return entries, n.Decode(&entries)
	}
	at := n
	if n, err = within(n); err != nil {
		return nil, err
	}
	list, ok := n.Get("array")
	if !ok || !list.IsList() || len(n.Members()) != 1 {
		return nil, at.Problem("must be a list of certificates with name and version, or have array with such a list, and is %s", at.What())
	}
	var problems strict.Problems
	for _, item := range list.Items() {
		// Ratify's older form names the fields otherwise.
		var old struct {
			Name    string `json:"certificateName"`
			Version string `json:"certificateVersion"`
		}
		inner, err := within(item)
		if err == nil {
			err = inner.Decode(&old)
		}
		problems = collect(problems, err)
		entries = append(entries, keyvault.Entry{Name: old.Name, Version: old.Version})
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return entries, nil
}

// within reads the document in a text; a node that is no text is returned as it is.
func within(n strict.Node) (strict.Node, error) {
	if n.IsMapping() || n.IsList() {
		return n, nil
	}
	docs, err := strict.Documents("", []byte(n.Text()))
	switch {
	case err != nil:
		return n, n.Problem("the text is no YAML: %v", err)
	case len(docs) != 1:
		return n, n.Problem("the text contains %d documents in place of one", len(docs))
	}
	return docs[0], nil
}

func joined(errs ...error) error {
	var problems strict.Problems
	for _, err := range errs {
		problems = collect(problems, err)
	}
	if len(problems) == 0 {
		return nil
	}
	return problems
}

// KeyOf names the resource that something is fetched for.
func KeyOf(w keys.Want) Key {
	kind, name, _ := strings.Cut(w.Resource, " ")
	if namespace, name, ok := strings.Cut(name, "/"); ok {
		return Key{kind, namespace, name}
	}
	return Key{kind, "", name}
}

// Wants returns what has to be fetched for the set. What is wrong with providers is
// told by Compile.
func (s *Set) Wants() []keys.Want {
	var out []keys.Want
	for _, p := range s.providers {
		if src, err := source(p); err == nil && src.want != nil {
			out = append(out, *src.want)
		}
	}
	return out
}

// Wants returns what has to be fetched for the cluster: for resources as they are,
// and as they were when they last worked.
func (c *Cluster) Wants() []keys.Want {
	var out []keys.Want
	seen := map[string]bool{}
	for _, e := range c.entries {
		if c.over[e.Current.key] {
			continue
		}
		for _, r := range []*Resource{e.Current, e.Good} {
			if r == nil || len(r.problems) > 0 || len(r.set.providers) == 0 {
				continue
			}
			if src, err := r.source(); err == nil && src.want != nil && !seen[src.want.ID] {
				seen[src.want.ID] = true
				out = append(out, *src.want)
			}
		}
	}
	return out
}
