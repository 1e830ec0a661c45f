package compile

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/nearest"
	"github.com/boltseal/boltseal/internal/strict"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/oci"
	"github.com/boltseal/boltseal/policy"
	"github.com/boltseal/boltseal/trust"
)

// Deps is what engines are made with besides the resources.
type Deps struct {
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
	// UserAgent is sent to registries. Empty means oci's default.
	UserAgent string
	// DockerConfig makes the credentials of a docker configuration file; path is
	// empty for the default one. Required.
	DockerConfig func(path string) oci.CredentialSource
	// Chains and Revocation are shared by all verifiers. Nil means new ones.
	Chains     *notation.ChainCache
	Revocation *notation.Revocation
	// Wrap, where set, is put around every Store.
	Wrap func(boltseal.Store) boltseal.Store
	// Layout, where set, is read in place of every Store.
	Layout boltseal.Store
}

// Compiled is a configuration that works.
type Compiled struct {
	cluster    *boltseal.Engine
	namespaces map[string]*boltseal.Engine
	// Warnings are what deserves a look and does no harm.
	Warnings []strict.Problem
	closers  []func()
}

// EngineFor returns the engine for Pods of a namespace: its own resources win
// over the cluster's, kind by kind.
func (c *Compiled) EngineFor(namespace string) *boltseal.Engine {
	if e, ok := c.namespaces[namespace]; ok {
		return e
	}
	return c.cluster
}

// Close releases connections. Verifications under way are not cut off.
func (c *Compiled) Close() {
	for _, f := range c.closers {
		f()
	}
}

type compiler struct {
	deps      Deps
	set       *Set
	keys      keyring
	problems  strict.Problems
	out       *Compiled
	stores    map[string][]boltseal.ScopedStore // by namespace
	verifiers map[string][]boltseal.Verifier
	policies  map[string]boltseal.Policy
}

// Compile makes the engines. The error is [strict.Problems], all that was found.
func (s *Set) Compile(deps Deps) (*Compiled, error) {
	if deps.Clock == nil {
		deps.Clock = time.Now
	}
	if deps.Chains == nil {
		deps.Chains = notation.NewChainCache(0)
	}
	if deps.Revocation == nil {
		deps.Revocation = notation.NewRevocation(notation.RevocationOptions{Clock: deps.Clock})
	}
	c := &compiler{deps: deps, set: s, out: &Compiled{namespaces: map[string]*boltseal.Engine{}}, stores: map[string][]boltseal.ScopedStore{},
		verifiers: map[string][]boltseal.Verifier{}, policies: map[string]boltseal.Policy{}}
	c.keys, c.problems = s.keys()
	for _, r := range s.stores {
		c.store(r)
	}
	for _, r := range s.verifiers {
		c.verifier(r)
	}
	for _, r := range s.policies {
		c.policy(r)
	}
	c.missing()
	if len(c.problems) == 0 {
		c.engines()
	}
	if len(c.problems) > 0 {
		c.out.Close()
		return nil, c.problems
	}
	return c.out, nil
}

func (c *compiler) fail(err error) { c.problems = collect(c.problems, err) }

// missing says what a set as a whole lacks.
func (c *compiler) missing() {
	if len(c.set.stores) == 0 && c.deps.Layout == nil {
		c.fail(strict.Problem{Message: "no Store: add one, so that images can be read (kind: Store, spec.name: oras)"})
	}
	if len(c.set.verifiers) == 0 {
		c.fail(strict.Problem{Message: "no Verifier: add one, or every image would be denied (kind: Verifier, spec.name: notation)"})
	}
}

func (c *compiler) store(r resource[v1beta1.StoreSpec]) {
	if r.spec.Name != "oras" {
		c.fail(r.problem("spec.name", "the store %q is not known here; known: oras%s", r.spec.Name, nearest.Hint(r.spec.Name, []string{"oras"})))
		return
	}
	if r.spec.Source != nil {
		c.fail(r.problem("spec.source", "plugins are not run; leave it out"))
		return
	}
	var p orasParameters
	if err := r.parameters(&p); err != nil {
		c.fail(err)
		return
	}
	o := oci.Options{PlainHTTP: p.UseHTTP, UserAgent: c.deps.UserAgent, Clock: c.deps.Clock, Hosts: map[string]oci.HostOptions{}}
	var err error
	if o.RootCAs, err = rootCAs(p.CAFile, p.CACert); err != nil {
		c.fail(r.problem("spec.parameters", "%v", err))
		return
	}
	for i, reg := range p.Registries {
		field := fmt.Sprintf("registries[%d]", i)
		if reg.Host == "" {
			c.fail(r.problem("spec.parameters.registries", "%s: it names no host", field))
			return
		}
		h := oci.HostOptions{PlainHTTP: reg.UseHTTP || p.UseHTTP && reg.CAFile == "" && reg.CACert == "", AuthRealms: reg.AuthRealms}
		if h.RootCAs, err = rootCAs(reg.CAFile, reg.CACert); err == nil {
			h.Certificates, err = clientCertificates(reg)
		}
		if err != nil {
			c.fail(r.problem("spec.parameters.registries", "%s: %v", field, err))
			return
		}
		o.Hosts[strings.ToLower(reg.Host)] = h
	}
	if o.Credentials, err = c.credentials(p.AuthProvider); err != nil {
		c.fail(r.problem("spec.parameters.authProvider", "%v", err))
		return
	}
	c.ignored(r, p)
	reg, err := oci.NewRegistry(o)
	if err != nil {
		c.fail(r.problem("spec.parameters", "%s", trim(err)))
		return
	}
	c.out.closers = append(c.out.closers, reg.Close)
	var store boltseal.Store = reg
	if c.deps.Wrap != nil {
		store = c.deps.Wrap(store)
	}
	c.stores[r.namespace] = append(c.stores[r.namespace], boltseal.ScopedStore{Name: r.name, Scopes: p.Scopes, Store: store})
}

// ignored warns of what Ratify has and we need not.
func (c *compiler) ignored(r resource[v1beta1.StoreSpec], p orasParameters) {
	if p.LocalCachePath != "" {
		c.out.Warnings = append(c.out.Warnings, r.problem("spec.parameters.localCachePath", "has no effect: nothing is kept on disk"))
	}
	if p.CosignEnabled {
		c.out.Warnings = append(c.out.Warnings, r.problem("spec.parameters.cosignEnabled", "has no effect: cosign signatures are not known here"))
	}
}

var authProviders = []string{"dockerConfig"}

func (c *compiler) credentials(p *authProvider) (oci.CredentialSource, error) {
	switch {
	case p == nil:
		return c.deps.DockerConfig(""), nil
	case p.Name == "dockerConfig":
		return c.deps.DockerConfig(p.ConfigPath), nil
	}
	return nil, fmt.Errorf("%q is not known here; known: %s%s", p.Name, strings.Join(authProviders, ", "), nearest.Hint(p.Name, authProviders))
}

func (c *compiler) verifier(r resource[v1beta1.VerifierSpec]) {
	kind, field := r.spec.Type, "spec.type"
	if kind == "" {
		kind, field = r.spec.Name, "spec.name"
	}
	if kind != "notation" {
		c.fail(r.problem(field, "the verifier %q is not known here; known: notation%s", kind, nearest.Hint(kind, []string{"notation"})))
		return
	}
	if r.spec.Source != nil {
		c.fail(r.problem("spec.source", "plugins are not run; leave it out"))
		return
	}
	var p notationParameters
	if err := r.parameters(&p); err != nil {
		c.fail(err)
		return
	}
	tp, err := notation.NewTrustPolicy(p.TrustPolicyDoc)
	if err != nil {
		c.fail(r.problem("spec.parameters.trustPolicyDoc", "%s", strings.TrimPrefix(trim(err), "trustPolicyDoc: ")))
		return
	}
	stores, problems := c.keys.trustStores(r, p)
	if len(problems) > 0 {
		c.problems = append(c.problems, problems...)
		return
	}
	c.expired(r, stores)
	v, err := notation.New(notation.Options{Name: r.name, ArtifactTypes: artifactTypes(r.spec.ArtifactTypes), TrustPolicy: tp, TrustStores: stores,
		Revocation: c.deps.Revocation, Chains: c.deps.Chains, Clock: c.deps.Clock})
	if err != nil {
		c.fail(r.problem("spec.parameters.trustPolicyDoc", "%s", trim(err)))
		return
	}
	c.verifiers[r.namespace] = append(c.verifiers[r.namespace], v)
}

func (c *compiler) expired(r resource[v1beta1.VerifierSpec], stores []*trust.Store) {
	for _, s := range stores {
		for _, text := range s.Problems(c.deps.Clock()) {
			c.out.Warnings = append(c.out.Warnings, r.problem("spec.parameters.verificationCertStores", "%s", text))
		}
	}
}

func artifactTypes(list string) []string {
	var types []string
	for _, t := range strings.Split(list, ",") {
		if t = strings.TrimSpace(t); t != "" {
			types = append(types, t)
		}
	}
	return types
}

// policyName is the one name that a Policy may have, as in Ratify.
const policyName = "ratify-policy"

var policyTypes = []string{"config-policy", "configpolicy"}

func (c *compiler) policy(r resource[v1beta1.PolicySpec]) {
	switch t := strings.ToLower(r.spec.Type); {
	case r.name != policyName:
		c.fail(r.problem("metadata.name", "a %s must be named %s", r.kind, policyName))
		return
	case t == "rego-policy" || t == "regopolicy":
		c.fail(r.problem("spec.type", "rego-policy is not known here; known: config-policy"))
		return
	case !slices.Contains(policyTypes, t):
		c.fail(r.problem("spec.type", "the policy %q is not known here; known: config-policy%s", r.spec.Type, nearest.Hint(r.spec.Type, policyTypes)))
		return
	}
	var p configPolicyParameters
	if err := r.parameters(&p); err != nil {
		c.fail(err)
		return
	}
	o := policy.Options{Default: policy.All, ByType: map[string]policy.Rule{}}
	rules := []string{string(policy.Any), string(policy.All)}
	for t, rule := range p.ArtifactVerificationPolicies {
		if !slices.Contains(rules, rule) {
			c.fail(r.problem("spec.parameters.artifactVerificationPolicies", "%s: %q is not any or all%s", t, rule, nearest.Hint(rule, rules)))
			return
		}
		if t == "default" {
			o.Default = policy.Rule(rule)
		} else {
			o.ByType[t] = policy.Rule(rule)
		}
	}
	compiled, err := policy.New(o)
	if err != nil {
		c.fail(r.problem("spec.parameters", "%s", trim(err)))
		return
	}
	c.policies[r.namespace] = compiled
}

// engines makes one for the cluster and one for each namespace with resources
// of its own.
func (c *compiler) engines() {
	if _, ok := c.policies[""]; !ok {
		p, err := policy.New(policy.Options{Default: policy.Any})
		if err != nil {
			c.fail(err)
			return
		}
		c.policies[""] = p
	}
	if c.deps.Layout != nil {
		c.stores = map[string][]boltseal.ScopedStore{"": {{Name: "oci-layout", Store: c.deps.Layout}}}
	}
	namespaces := map[string]bool{"": true}
	for ns := range c.stores {
		namespaces[ns] = true
	}
	for ns := range c.verifiers {
		namespaces[ns] = true
	}
	for ns := range c.policies {
		namespaces[ns] = true
	}
	for ns := range namespaces {
		e, err := boltseal.New(boltseal.Options{Stores: own(c.stores, ns), Verifiers: own(c.verifiers, ns), Policy: ownPolicy(c.policies, ns), Clock: c.deps.Clock})
		switch {
		case err != nil && ns == "" && (len(c.stores[""]) == 0 || len(c.verifiers[""]) == 0):
			// Only namespaces have what it takes; others have no engine, and are denied.
		case err != nil:
			c.fail(strict.Problem{Message: trim(err)})
		case ns == "":
			c.out.cluster = e
		default:
			c.out.namespaces[ns] = e
		}
	}
}

func own[T any](by map[string][]T, namespace string) []T {
	if v := by[namespace]; len(v) > 0 {
		return v
	}
	return by[""]
}

func ownPolicy(by map[string]boltseal.Policy, namespace string) boltseal.Policy {
	if p := by[namespace]; p != nil {
		return p
	}
	return by[""]
}

func rootCAs(file, inline string) (*x509.CertPool, error) {
	if file == "" && inline == "" {
		return nil, nil
	}
	if file != "" && inline != "" {
		return nil, errors.New("caFile and caCert are both there; keep one")
	}
	pem, what := []byte(inline), "caCert"
	if file != "" {
		var err error
		if pem, err = readBounded(file, trust.MaxPEMBytes); err != nil {
			return nil, fmt.Errorf("caFile: %w", err)
		}
		what = "caFile " + file
	}
	certs, err := trust.ParseCertificates(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", what, trim(err))
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

func clientCertificates(r registrySettings) ([]tls.Certificate, error) {
	if r.ClientCertFile == "" && r.ClientKeyFile == "" {
		return nil, nil
	}
	if r.ClientCertFile == "" || r.ClientKeyFile == "" {
		return nil, errors.New("clientCertFile and clientKeyFile belong together")
	}
	cert, err := tls.LoadX509KeyPair(r.ClientCertFile, r.ClientKeyFile)
	if err != nil {
		return nil, fmt.Errorf("client certificate: %w", err)
	}
	return []tls.Certificate{cert}, nil
}

func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return b, err
}
