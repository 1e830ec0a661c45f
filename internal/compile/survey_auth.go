package compile

import (
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/credential"
)

// SurveyedStore is where a Store has its credentials from.
type SurveyedStore struct {
	Resource  string // "KIND NAME" or "KIND NAMESPACE/NAME"
	Namespace string // "" = cluster-wide
	// Registries are those that it names: as scopes, registries, and endpoints of
	// mirrors, each as host or host/path.
	Registries []string
	// Sources are its auth providers in their order; the docker configuration that
	// stands in where it names none has no Place.
	Sources []credential.Named
}

// Credentials says where the set's Stores have their credentials from. Stores that
// something is wrong with are left out: Compile tells what.
func (s *Set) Credentials(deps Deps) (out []SurveyedStore) {
	for _, r := range s.stores {
		c := newCompiler(deps)
		var p orasParameters
		if r.parameters(&p) != nil {
			continue
		}
		source := c.credentials(r, p)
		if len(c.problems) > 0 {
			continue
		}
		st := SurveyedStore{Resource: r.String(), Namespace: r.namespace, Registries: p.named()}
		if list, ok := source.(*credential.List); ok {
			st.Sources = list.Sources()
		} else if source != nil {
			st.Sources = []credential.Named{{Name: dockerConfig, Source: source}}
		}
		out = append(out, st)
	}
	return out
}

// Credentials says where the cluster's Stores, as they are, have their credentials from.
func (c *Cluster) Credentials(deps Deps) (out []SurveyedStore) {
	if deps.Sources == nil {
		deps.Sources = &credential.Pool{}
	}
	for _, e := range c.entries {
		if e.Current.key.base() == v1beta1.KindStore && len(e.Current.problems) == 0 {
			out = append(out, e.Current.set.Credentials(deps)...)
		}
	}
	return out
}

// named are the registries that the parameters name.
func (p orasParameters) named() (out []string) {
	add := func(name string) {
		if name != "" && !strings.HasPrefix(name, "*") && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, s := range p.Scopes {
		add(s)
	}
	for _, r := range p.Registries {
		add(r.Host)
	}
	for _, m := range p.Mirrors {
		for _, e := range m.Endpoints {
			add(e)
		}
	}
	return out
}
