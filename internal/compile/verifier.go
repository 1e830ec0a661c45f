package compile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/notation"
	"github.com/boltseal/boltseal/trust"
)

var verifierTypes = []string{notation.VerifierType}

// olderNotation is what Ratify called its notation verifier before version 1.0.
const olderNotation = "notaryv2"

const fieldTrustPolicy = "spec.parameters.trustPolicyDoc"

// verifier adds a Verifier to those of its namespace, or says all that is wrong
// with it.
func (c *compiler) verifier(r resource[v1beta1.VerifierSpec]) {
	kind, field := r.spec.Type, "spec.type"
	if kind == "" {
		kind, field = r.spec.Name, "spec.name"
	}
	if kind == olderNotation {
		c.out.Warnings = append(c.out.Warnings, r.problem(field, "%s is Ratify's older name of %s: it is read as that, which is what to write", kind, notation.VerifierType))
		kind = notation.VerifierType
	}
	if kind != notation.VerifierType {
		c.fail(unknown(r, field, "verifier", kind, verifierTypes))
		return
	}
	before := len(c.problems)
	c.noPlugin(r.problem, r.spec.Source)
	types := artifactTypes(r.spec.ArtifactTypes)
	for _, t := range types {
		if t != "*" && !mediaType.MatchString(t) {
			c.fail(r.problem("spec.artifactTypes", "%s is no media type, such as %s", strict.Label(t), notation.ArtifactType))
		}
	}
	if len(types) > 0 && !slices.Contains(types, "*") && !slices.Contains(types, notation.ArtifactType) {
		c.out.Warnings = append(c.out.Warnings, r.problem("spec.artifactTypes", "no Notation signature is ever verified by these types: the signatures of today are of type %s%s", notation.ArtifactType, olderTypes(types)))
	}
	var p notationParameters
	if err := r.parameters(&p); err != nil {
		c.fail(err)
		return
	}
	tp := c.trustPolicy(r, p.TrustPolicyDoc)
	hard := len(c.problems) > before
	stores, names, problems, lacking := c.keys.trustStores(r, p, c.files, c.lenient)
	switch {
	case c.part:
		c.elsewhere(lacking)
	case !c.whole: // else the provider has a warning
		problems = append(problems, lacking...)
	}
	c.problems = append(c.problems, problems...)
	if tp != nil && names != nil && c.unnamed(r, tp, names) {
		hard = true
	}
	if hard || len(problems) > 0 && !c.lenient {
		return
	}
	c.expired(r, stores)
	if c.part && len(lacking) > 0 {
		return // its trust stores are not all here
	}
	v, err := notation.New(notation.Options{Name: r.name, ArtifactTypes: types, TrustPolicy: tp, TrustStores: stores,
		Revocation: c.deps.Revocation, Chains: c.deps.Chains, Clock: c.deps.Clock})
	if err != nil {
		c.fail(r.problem(fieldTrustPolicy, "%s", trim(err)))
		return
	}
	c.verifiers[r.namespace] = append(c.verifiers[r.namespace], v)
}

// trustPolicy reads the document, or says all that is wrong with it: the document
// as a whole tells its first problem only, so each statement is asked alone too.
func (c *compiler) trustPolicy(r resource[v1beta1.VerifierSpec], doc notation.TrustPolicyDocument) *notation.TrustPolicy {
	tp, err := notation.NewTrustPolicy(doc)
	if err == nil {
		return tp
	}
	said := map[string]bool{}
	list, _ := r.node.Get(strings.Split(fieldTrustPolicy+".trustPolicies", ".")...)
	for i, n := range list.Items() {
		alone := notation.TrustPolicyDocument{Version: "1.0", TrustPolicies: doc.TrustPolicies[i : i+1]}
		if _, err := notation.NewTrustPolicy(alone); err != nil {
			said[err.Error()] = true
			c.fail(r.own(n.Problem("%s", policyWords(err))))
		}
	}
	if !said[err.Error()] {
		c.fail(r.problem(fieldTrustPolicy, "%s", policyWords(err)))
	}
	return nil
}

func policyWords(err error) string { return strings.TrimPrefix(trim(err), "trustPolicyDoc: ") }

// unnamed finds the trust stores that the trust policy names and that the
// Verifier does not declare.
func (c *compiler) unnamed(r resource[v1beta1.VerifierSpec], tp *notation.TrustPolicy, names []string) (found bool) {
	for _, name := range tp.TrustStores() {
		if slices.Contains(names, name) {
			continue
		}
		found = true
		place, _ := r.node.Get(strings.Split(fieldTrustPolicy, ".")...)
		list, _ := place.Get("trustPolicies")
		for _, statement := range slices.Backward(list.Items()) { // the first that names it is told
			stores, _ := statement.Get("trustStores")
			for _, n := range stores.Items() {
				if n.Text() == name {
					place = n
				}
			}
		}
		c.fail(r.own(place.Problem("the trust store %s is not there: verificationCertStores does not declare it%s%s", name, nearest.Hint(name, names), declares(r, name, names))))
	}
	return found
}

// maxDeclared bounds how many trust stores a message names.
const maxDeclared = 5

// declares says which trust stores there are, and by which form a store of the type
// that is missing is declared.
func declares(r resource[v1beta1.VerifierSpec], name string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	text := "; it declares " + strings.Join(names[:min(len(names), maxDeclared)], ", ")
	if more := len(names) - maxDeclared; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	kind, store, _ := strings.Cut(name, ":")
	n, _ := r.node.Get(strings.Split(fieldCertStores, ".")...)
	for _, m := range n.Members() {
		switch {
		case !m.Node.IsList():
		case slices.Contains(trust.Types(), m.Name):
			return fmt.Sprintf("%s. %s must contain trust stores, each with its list of providers: write %[2]s: {%s: […]}", text, m.Name, store)
		case m.Name == store && kind != string(trust.TypeCA):
			return fmt.Sprintf("%s (the older form, in which a store of any name is of type ca). Write %s: {%s: […]}", text, kind, store)
		}
	}
	return text
}

// olderTypes names the types that were signatures' before version 1.0 of the
// specification, where one of them is there.
func olderTypes(types []string) string {
	for _, t := range types {
		if strings.HasPrefix(t, "application/vnd.cncf.notary.v2") || strings.HasPrefix(t, notation.ArtifactType+".v") || t == "org.cncf.notary.v2" {
			return "; " + t + " was that of a Notation before 1.0"
		}
	}
	return nearest.Hint(types[0], []string{notation.ArtifactType})
}

func (c *compiler) expired(r resource[v1beta1.VerifierSpec], stores []*trust.Store) {
	c.trusted = append(c.trusted, stores...)
	for _, text := range c.expiring(stores) {
		c.out.Warnings = append(c.out.Warnings, r.problem(fieldCertStores, "%s", text))
	}
}

// expiring says which certificates are not valid now, or not for long.
func (c *compiler) expiring(stores []*trust.Store) (texts []string) {
	now := c.deps.Clock()
	for _, s := range stores {
		texts = append(texts, s.Problems(now)...)
	}
	return texts
}

// mediaType is the form of an artifact type (RFC 6838, section 4.2).
var mediaType = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}$`)

func artifactTypes(list string) []string {
	var types []string
	for _, t := range strings.Split(list, ",") {
		if t = strings.TrimSpace(t); t != "" {
			types = append(types, t)
		}
	}
	return types
}
