// Package kube reads certificates from Secrets and ConfigMaps of the cluster, as soon as they change.
package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/trust"
)

// Names are the providers' types.
const (
	NameSecret    = "secret"
	NameConfigMap = "configmap"
)

// Parameters are those of a provider of type secret or configmap.
type Parameters struct {
	// Kind is what they are about.
	Kind string `json:"-"`
	// Name is that of the Secret or ConfigMap.
	Name string `json:"name"`
	// Namespace is where it is. It is needed in a cluster-wide resource; elsewhere it is
	// the resource's.
	Namespace string `json:"namespace"`
	// Keys are the entries with certificates. None means ca.crt of a Secret, or tls.crt
	// where that is not there, and all entries of a ConfigMap.
	Keys []string `json:"keys"`
}

// Check finds what is wrong.
func (p Parameters) Check(namespace string) (problems []keys.Problem) {
	fail := func(field, message string) {
		problems = append(problems, keys.Problem{Field: field, Message: message})
	}
	keys.CheckObject(namespace, p.Namespace, p.Name, fail)
	if len(p.Keys) > keys.MaxEntries {
		fail("keys", fmt.Sprintf("%d entries, at most %d", len(p.Keys), keys.MaxEntries))
	}
	for i, k := range p.Keys {
		switch field := fmt.Sprintf("keys[%d]", i); {
		case len(validation.IsConfigMapKey(k)) > 0:
			fail(field, fmt.Sprintf("%s is no entry of a %s", strict.Label(k), p.Kind))
		case slices.Contains(p.Keys[:i], k):
			fail(field, fmt.Sprintf("%s is listed twice", k))
		}
	}
	return problems
}

// Open makes the provider.
func (p Parameters) Open(env keys.Env, namespace string) (keys.Provider, error) {
	if env.Objects == nil {
		return nil, keys.NoCluster(p.Kind, p.Name)
	}
	p.Namespace = cmp.Or(namespace, p.Namespace)
	return &provider{p, env.Objects}, nil
}

type provider struct {
	p       Parameters
	objects keys.Objects
}

// Watch tells when the object may be another.
func (p *provider) Watch(ctx context.Context, changed func()) {
	p.objects.Watch(ctx, p.p.Kind, p.p.Namespace, p.p.Name, changed)
}

// Fetch reads the object. That it is not there, or that an entry is not, is an
// answer: what it held is not trusted any more. An entry that cannot be understood is
// none, since somebody may be about to mend it.
func (p *provider) Fetch(ctx context.Context) ([]keys.Group, error) {
	object := p.p.Kind + " " + p.p.Namespace + "/" + p.p.Name
	data, err := p.objects.Get(ctx, p.p.Kind, p.p.Namespace, p.p.Name)
	switch {
	case errors.Is(err, boltseal.ErrNotFound):
		const why = "it is not there"
		return []keys.Group{{Name: object, Items: []keys.Item{{Name: object, Use: keys.Missing, Why: why}}, Problem: object + ": " + why}}, nil
	case err != nil:
		return nil, err
	}
	var groups []keys.Group
	for _, k := range p.entries(data) {
		g := keys.Group{Name: object + ", " + k}
		if b, ok := data[k]; !ok {
			g.Problem = g.Name + ": there is no such entry"
			g.Items = []keys.Item{{Name: k, Use: keys.Missing, Why: "there is no such entry"}}
		} else if certs, err := trust.ParseCertificates(b); err != nil {
			g.Err = &keys.Error{Op: "read", Target: g.Name, Err: boltseal.ErrMalformed, Detail: keys.Clean(strings.TrimPrefix(err.Error(), "configuration: "))}
		} else {
			g.Items, g.Problem = keys.Each(k, "", certs)
		}
		groups = append(groups, g)
	}
	if len(groups) == 0 {
		groups = append(groups, keys.Group{Name: object, Problem: object + ": it has no entry with certificates; name the entries under keys"})
	}
	return groups, nil
}

// entries are those to read.
func (p *provider) entries(data map[string][]byte) []string {
	switch {
	case len(p.p.Keys) > 0:
		return p.p.Keys
	case p.p.Kind == keys.KindConfigMap:
		return slices.Sorted(maps.Keys(data))
	}
	for _, k := range []string{"ca.crt", "tls.crt"} {
		if _, ok := data[k]; ok {
			return []string{k}
		}
	}
	return nil
}
