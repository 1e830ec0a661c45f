package compile

import (
	"crypto/x509"

	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/notation"
)

// Survey is what resources say, for whoever looks whether it is wise. It holds what
// can be read; what is wrong is told by Decode and Compile.
type Survey struct {
	Providers  []SurveyedProvider
	Statements []SurveyedStatement
}

// SurveyedProvider is what a KeyManagementProvider or CertificateStore provides.
type SurveyedProvider struct {
	Resource     string // "KIND NAME" or "KIND NAMESPACE/NAME"
	Certificates []*x509.Certificate
	// Trouble says what is wrong with fetching them.
	Trouble []string
}

// SurveyedStatement is one statement of a Verifier's trust policy document.
type SurveyedStatement struct {
	Resource  string // the Verifier
	Namespace string // "" = cluster-wide
	Statement notation.TrustPolicyDoc
}

// Survey reads what the set says. fetched tells what was fetched; nil where nothing
// was.
func (s *Set) Survey(fetched func(keys.Want) keys.State) Survey {
	var out Survey
	for _, p := range s.providers {
		if src, err := source(p); err == nil {
			has := src.have(fetched)
			out.Providers = append(out.Providers, SurveyedProvider{p.String(), has.certs, has.trouble})
		}
	}
	for _, v := range s.verifiers {
		var p notationParameters
		if v.parameters(&p) != nil {
			continue
		}
		for _, d := range p.TrustPolicyDoc.TrustPolicies {
			out.Statements = append(out.Statements, SurveyedStatement{v.String(), v.namespace, d})
		}
	}
	return out
}

// Survey reads what the cluster's resources say as they are.
func (c *Cluster) Survey(fetched func(keys.Want) keys.State) (out Survey) {
	for _, e := range c.entries {
		s := e.Current.set.Survey(fetched)
		out.Providers, out.Statements = append(out.Providers, s.Providers...), append(out.Statements, s.Statements...)
	}
	return out
}
