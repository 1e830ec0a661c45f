package render

import "strings"

// Manifests are what kubectl applies in place of Helm.
type Manifests struct {
	// Everything is the namespace, the CustomResourceDefinitions and all objects.
	Everything string
	// WithoutCRDs leaves the definitions out: for going back to an earlier version, and for deleting, without losing
	// what is in the resources.
	WithoutCRDs string
}

// Plain renders a chart for kubectl. Hooks are left out: who applies manifests applies the definitions with them.
func Plain(o Options) (*Manifests, error) {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	r, err := Render(o)
	if err != nil {
		return nil, err
	}
	ns, err := Marshal(Namespace(o.Namespace, Restricted()))
	if err != nil {
		return nil, err
	}
	objects := strings.ReplaceAll(r.Objects, "app.kubernetes.io/managed-by: Helm", "app.kubernetes.io/managed-by: kubectl")
	head := func(what string) string {
		return "# Boltseal" + what + ", rendered from its Helm chart: kubectl apply --server-side -f FILE\n"
	}
	return &Manifests{Everything: head("") + ns + r.CRDs + objects, WithoutCRDs: head(" without its CustomResourceDefinitions") + ns + objects}, nil
}
