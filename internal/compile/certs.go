package compile

import (
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/nearest"
	"github.com/boltseal/boltseal/internal/strict"
	"github.com/boltseal/boltseal/trust"
)

// certStores is verificationCertStores in either of its shapes: trust store →
// providers, which means type ca, or type → trust store → providers.
type certStores map[trust.Type]map[string][]string

// UnmarshalJSON implements json.Unmarshaler.
func (c *certStores) UnmarshalJSON(b []byte) error {
	var outer map[string]json.RawMessage
	if err := json.Unmarshal(b, &outer); err != nil {
		return fmt.Errorf("verificationCertStores must map trust stores to lists of providers")
	}
	out := certStores{}
	for key, raw := range outer {
		var list []string
		if json.Unmarshal(raw, &list) == nil {
			if out[trust.TypeCA] == nil {
				out[trust.TypeCA] = map[string][]string{}
			}
			out[trust.TypeCA][key] = append(out[trust.TypeCA][key], list...)
			continue
		}
		var inner map[string][]string
		if json.Unmarshal(raw, &inner) != nil {
			return fmt.Errorf("verificationCertStores.%s must be a list of providers, or map trust stores to such lists", key)
		}
		if !slices.Contains(trust.Types(), key) {
			return fmt.Errorf("verificationCertStores: %q is no type of trust store; it must be one of %s%s", key, strings.Join(trust.Types(), ", "), nearest.Hint(key, trust.Types()))
		}
		kind := trust.Type(key)
		if out[kind] == nil {
			out[kind] = map[string][]string{}
		}
		for name, list := range inner {
			out[kind][name] = append(out[kind][name], list...)
		}
	}
	*c = out
	return nil
}

// providerTypes are the kinds of providers known here.
var providerTypes = []string{"inline"}

// keyring holds the certificates of all providers.
type keyring struct {
	certs map[string][]*x509.Certificate // by "namespace/name", "/name" cluster-wide
	bad   map[string]bool                // providers with problems of their own
}

// keys reads all providers. A KeyManagementProvider wins over a
// CertificateStore of the same name.
func (s *Set) keys() (keyring, strict.Problems) {
	k := keyring{certs: map[string][]*x509.Certificate{}, bad: map[string]bool{}}
	var problems strict.Problems
	isStore := map[string]bool{}
	for _, p := range s.providers {
		key := p.namespace + "/" + p.name
		store := p.kind == v1beta1.KindCertificateStore
		if _, taken := k.certs[key]; (taken || k.bad[key]) && store && !isStore[key] {
			continue
		}
		isStore[key] = store
		certs, err := provide(p)
		if err != nil {
			k.bad[key] = true
			delete(k.certs, key)
			problems = collect(problems, err)
			continue
		}
		delete(k.bad, key)
		k.certs[key] = certs
	}
	return k, problems
}

func provide(p resource[v1beta1.KeyManagementProviderSpec]) ([]*x509.Certificate, error) {
	kind, field := p.spec.Type, "spec.type"
	if kind == "" {
		kind = p.spec.Provider
	}
	if _, ok := p.node.Get("spec", "provider"); ok {
		field = "spec.provider"
	}
	if kind != "inline" {
		return nil, p.problem(field, "the provider %q is not known here; known: %s%s", kind, strings.Join(providerTypes, ", "), nearest.Hint(kind, providerTypes))
	}
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

// trim drops the sentinel's word from a message whose place says it already.
func trim(err error) string { return strings.TrimPrefix(err.Error(), "configuration: ") }

// find looks a provider up by the name that a verifier gives it: NAME, in the
// verifier's namespace and then cluster-wide, or NAMESPACE/NAME.
func (k keyring) find(namespace, name string) (certs []*x509.Certificate, ok, bad bool) {
	keys := []string{namespace + "/" + name, "/" + name}
	if ns, rest, found := strings.Cut(name, "/"); found {
		keys = []string{ns + "/" + rest}
		if namespace == "" {
			keys = append(keys, "/"+rest) // Ratify's cluster-wide verifiers name a store of their own namespace so
		}
	}
	for _, key := range keys {
		if certs, ok := k.certs[key]; ok {
			return certs, true, false
		}
		if k.bad[key] {
			return nil, true, true
		}
	}
	return nil, false, false
}

func (k keyring) names() []string {
	var names []string
	for key := range k.certs {
		names = append(names, strings.TrimPrefix(key, "/"))
	}
	slices.Sort(names)
	return names
}

// trustStores makes the trust stores of a notation verifier.
func (k keyring) trustStores(v resource[v1beta1.VerifierSpec], p notationParameters) ([]*trust.Store, strict.Problems) {
	const field = "spec.parameters.verificationCertStores"
	var stores []*trust.Store
	var problems strict.Problems
	if len(p.VerificationCertStores) == 0 {
		return fileStores(v, p)
	}
	for _, kind := range trust.Types() {
		byName := p.VerificationCertStores[trust.Type(kind)]
		names := make([]string, 0, len(byName))
		for n := range byName {
			names = append(names, n)
		}
		slices.Sort(names)
		for _, name := range names {
			var certs []*x509.Certificate
			broken := false
			for _, provider := range byName[name] {
				found, ok, bad := k.find(v.namespace, provider)
				broken = broken || !ok || bad
				switch {
				case !ok:
					problems = append(problems, v.problem(field, "the trust store %q names the KeyManagementProvider or CertificateStore %q, which is not there%s", name, provider, nearest.Hint(provider, k.names())))
				case bad:
					problems = append(problems, v.problem(field, "the trust store %q names %q, which has a problem of its own", name, provider))
				}
				certs = append(certs, found...)
			}
			if broken {
				continue
			}
			st, err := trust.NewStore(trust.Type(kind), name, certs)
			if err != nil {
				problems = append(problems, v.problem(field, "%s", trim(err)))
				continue
			}
			stores = append(stores, st)
		}
	}
	return stores, problems
}

// maxCertFiles bounds the files of one directory in verificationCerts.
const maxCertFiles = 1000

// fileStores reads verificationCerts: paths of files or directories, which make
// the trust store ca:certs, as in Ratify.
func fileStores(v resource[v1beta1.VerifierSpec], p notationParameters) ([]*trust.Store, strict.Problems) {
	const field = "spec.parameters.verificationCerts"
	var certs []*x509.Certificate
	for _, path := range p.VerificationCerts {
		files := []string{path}
		if entries, err := os.ReadDir(path); err == nil {
			files = nil
			for _, e := range entries {
				if !e.IsDir() && len(files) < maxCertFiles {
					files = append(files, filepath.Join(path, e.Name()))
				}
			}
		}
		for _, file := range files {
			b, err := readBounded(file, trust.MaxPEMBytes)
			if err != nil {
				return nil, strict.Problems{v.problem(field, "%v", err)}
			}
			found, err := trust.ParseCertificates(b)
			if err != nil {
				return nil, strict.Problems{v.problem(field, "%s: %s", file, trim(err))}
			}
			certs = append(certs, found...)
		}
	}
	if len(certs) == 0 {
		return nil, strict.Problems{v.problem("spec.parameters", "it names no certificates: verificationCertStores is missing")}
	}
	st, err := trust.NewStore(trust.TypeCA, "certs", certs)
	if err != nil {
		return nil, strict.Problems{v.problem(field, "%s", trim(err))}
	}
	return []*trust.Store{st}, nil
}
