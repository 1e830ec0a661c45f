package registrar

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Provider is one of Gatekeeper's Providers that is made where it is not there, and
// kept as long as it is Boltseal's own. One that somebody else made, under the same
// name, gets the CAs where it points here, and nothing more.
type Provider struct {
	Name string
	// Path is what is asked, on the Service of the webhooks.
	Path string
	// TimeoutSeconds is how long Gatekeeper waits.
	TimeoutSeconds int
}

// providerSpec is what Boltseal says about a Provider (externaldata.gatekeeper.sh/v1beta1).
type providerSpec struct {
	URL      string `json:"url"`
	Timeout  int64  `json:"timeout"`
	CABundle string `json:"caBundle"`
}

// providerMeta is what a patch changes and tells of a Provider.
type providerMeta struct {
	ResourceVersion string                  `json:"resourceVersion"`
	UID             types.UID               `json:"uid"`
	Owners          []metav1.OwnerReference `json:"ownerReferences,omitempty"`
}

type providerPatch struct {
	Metadata providerMeta `json:"metadata"`
	Spec     any          `json:"spec"`
}

func (r *Registrar) makes(name string) (Provider, bool) {
	i := slices.IndexFunc(r.o.Make, func(p Provider) bool { return p.Name == name })
	if i < 0 {
		return Provider{}, false
	}
	return r.o.Make[i], true
}

func (r *Registrar) specOf(p Provider, bundle []byte) providerSpec {
	w := r.o.Webhooks
	return providerSpec{URL: fmt.Sprintf("https://%s.%s.svc:%d%s", w.Service, w.Namespace, w.Port, p.Path), Timeout: int64(p.TimeoutSeconds),
		CABundle: base64.StdEncoding.EncodeToString(bundle)}
}

// createProvider makes a Provider, once this replica could answer.
func (r *Registrar) createProvider(ctx context.Context, name string) (string, error) {
	p, ok := r.makes(name)
	if !ok {
		return "", nil
	}
	bundle := r.o.Bundle()
	if !r.o.Ready() || bundle == nil {
		return "", errNotYet
	}
	owner, err := r.owner(ctx)
	if err != nil {
		return "", err
	}
	spec := r.specOf(p, bundle)
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"url": spec.URL, "timeout": spec.Timeout, "caBundle": spec.CABundle}}}
	u.SetGroupVersionKind(providerKind)
	u.SetName(p.Name)
	u.SetLabels(map[string]string{managedByLabel: managedBy})
	if owner != nil {
		u.SetOwnerReferences([]metav1.OwnerReference{*owner})
	}
	if err := r.o.Client.Create(ctx, u); meta.IsNoMatchError(err) {
		return "", errNotYet // Gatekeeper is not there
	} else if err != nil {
		return "", err
	}
	return "created", nil
}

// keepProvider puts right one of Boltseal's own.
func (r *Registrar) keepProvider(ctx context.Context, p Provider, u *unstructured.Unstructured) (string, error) {
	spec, owners := r.specOf(p, r.o.Bundle()), u.GetOwnerReferences()
	have, _, _ := unstructured.NestedMap(u.Object, "spec")
	if spec.CABundle == "" {
		spec.CABundle, _ = have["caBundle"].(string) // it is not known yet
	}
	owner, err := r.owner(ctx)
	switch {
	case errors.Is(err, errNoOwner): // it is on its way out, and takes this along
	case err != nil:
		return "", err
	case owner != nil:
		owners = withOwner(owners, *owner)
	}
	want := maps.Clone(have)
	if want == nil {
		want = map[string]any{}
	}
	want["url"], want["timeout"], want["caBundle"] = spec.URL, spec.Timeout, spec.CABundle
	if reflect.DeepEqual(have, want) && slices.EqualFunc(owners, u.GetOwnerReferences(), func(a, b metav1.OwnerReference) bool { return a.UID == b.UID }) {
		return "", nil
	}
	return "put right", r.patchProvider(ctx, u, owners, spec)
}

func (r *Registrar) patchProvider(ctx context.Context, u *unstructured.Unstructured, owners []metav1.OwnerReference, spec any) error {
	body, err := json.Marshal(providerPatch{providerMeta{u.GetResourceVersion(), u.GetUID(), owners}, spec})
	if err != nil {
		return err
	}
	return r.o.Client.Patch(ctx, u.DeepCopy(), client.RawPatch(types.MergePatchType, body))
}

// withOwner is references with an owner among them, once.
func withOwner(refs []metav1.OwnerReference, owner metav1.OwnerReference) []metav1.OwnerReference {
	i := slices.IndexFunc(refs, func(ref metav1.OwnerReference) bool { return ref.Kind == owner.Kind && ref.Name == owner.Name })
	if i < 0 {
		return append(refs, owner)
	}
	refs[i] = owner
	return refs
}
