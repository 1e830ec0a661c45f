package govern

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/governance/check"
)

// CheckDocuments checks documents of governance: what is wrong with each, and what they name that is not among them.
func CheckDocuments(docs []strict.Node) (problems, warnings []strict.Problem) {
	return check.Documents(docs, check.Options{})
}

// DocumentKinds are those of governance that people write.
func DocumentKinds() (out []schema.GroupVersionKind) {
	for _, kind := range check.Kinds() {
		out = append(out, v1alpha1.GroupVersion.WithKind(kind))
	}
	return out
}

// AdviseDocument is what validate finds wrong in one document of governance. What it
// names may be in the hub, so nothing is said of that.
func AdviseDocument(d strict.Node) []strict.Problem {
	problems, _ := CheckDocuments([]strict.Node{d})
	return problems
}
