package compile

import (
	"crypto/x509"

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
}

// SurveyedStatement is one statement of a Verifier's trust policy document.
type SurveyedStatement struct {
	Resource  string // the Verifier
	Namespace string // "" = cluster-wide
	Statement notation.TrustPolicyDoc
}

// Survey reads what the set says.
func (s *Set) Survey() Survey {
	var out Survey
	for _, p := range s.providers {
		if certs, err := provide(p); err == nil {
			out.Providers = append(out.Providers, SurveyedProvider{p.String(), certs})
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

// Survey reads what the resource says.
func (r *Resource) Survey() Survey { return r.set.Survey() }
