package registrar

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// target is an object that may point at Boltseal.
type target struct {
	kind schema.GroupVersionKind
	name string
}

var (
	mutatingKind   = admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration")
	validatingKind = admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration")
	providerKind   = schema.GroupVersionKind{Group: "externaldata.gatekeeper.sh", Version: "v1beta1", Kind: "Provider"}
)

func ownerKinds() map[string]schema.GroupVersionKind {
	return map[string]schema.GroupVersionKind{
		"ClusterRole": {Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"},
		"Namespace":   {Version: "v1", Kind: "Namespace"},
	}
}

// clientConfigs are those of a webhook configuration's webhooks.
func clientConfigs(o client.Object) []*admissionregistrationv1.WebhookClientConfig {
	var out []*admissionregistrationv1.WebhookClientConfig
	switch c := o.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range c.Webhooks {
			out = append(out, &c.Webhooks[i].ClientConfig)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range c.Webhooks {
			out = append(out, &c.Webhooks[i].ClientConfig)
		}
	}
	return out
}

// empty is an object of the target's kind, list a list of them.
func (t target) empty() client.Object {
	switch t.kind {
	case mutatingKind:
		return &admissionregistrationv1.MutatingWebhookConfiguration{}
	case validatingKind:
		return &admissionregistrationv1.ValidatingWebhookConfiguration{}
	}
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(t.kind)
	return u
}

func (t target) list() client.ObjectList {
	switch t.kind {
	case mutatingKind:
		return &admissionregistrationv1.MutatingWebhookConfigurationList{}
	case validatingKind:
		return &admissionregistrationv1.ValidatingWebhookConfigurationList{}
	}
	l := &unstructured.UnstructuredList{}
	l.SetGroupVersionKind(t.kind.GroupVersion().WithKind(t.kind.Kind + "List"))
	return l
}

// points reports whether a webhook asks Boltseal's Service.
func (r *Registrar) points(c *admissionregistrationv1.WebhookClientConfig) bool {
	s := c.Service
	return s != nil && s.Namespace == r.o.Webhooks.Namespace && s.Name == r.o.Webhooks.Service
}

// bundleOf returns what a target trusts; of several webhooks, what all of them do.
// here reports whether it points at Boltseal.
func (r *Registrar) bundleOf(o client.Object) (bundle []byte, here bool) {
	if u, ok := o.(*unstructured.Unstructured); ok {
		if !r.provides(u) {
			return nil, false
		}
		text, _, _ := unstructured.NestedString(u.Object, "spec", "caBundle")
		b, _ := base64.StdEncoding.DecodeString(text)
		return b, true
	}
	for _, c := range clientConfigs(o) {
		switch {
		case !r.points(c):
		case !here:
			bundle, here = c.CABundle, true
		case !bytes.Equal(bundle, c.CABundle):
			return nil, true // one was edited; it is about to be put right
		}
	}
	return bundle, here
}

// provides reports whether a Provider's URL is one of Boltseal's.
func (r *Registrar) provides(u *unstructured.Unstructured) bool {
	text, _, _ := unstructured.NestedString(u.Object, "spec", "url")
	at, err := url.Parse(text)
	return err == nil && at.Scheme == "https" && slices.ContainsFunc(r.o.Names, func(n string) bool {
		return strings.EqualFold(n, strings.TrimSuffix(at.Hostname(), "."))
	})
}

// maxCertificates bounds what is read of a bundle that anybody may have written.
const maxCertificates = 1000

// bundleCertificates are those in a bundle, by their bytes.
func bundleCertificates(b []byte) []string {
	var out []string
	for len(out) < maxCertificates {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type == "CERTIFICATE" {
			out = append(out, string(block.Bytes))
		}
	}
	return out
}

// put brings a target to what it should be, and says what was done.
func (r *Registrar) put(ctx context.Context, t target, live client.Object) (did string, err error) {
	if u, ok := live.(*unstructured.Unstructured); ok {
		return r.putProvider(ctx, u)
	}
	switch {
	case live == nil && t.kind == providerKind:
		return r.createProvider(ctx, t.name)
	case live != nil && live.GetDeletionTimestamp() != nil, live == nil && r.o.Mode != Enforce:
		return "", nil
	case live == nil:
		return r.create(ctx, t)
	case r.o.Mode == Off && live.GetLabels()[managedByLabel] == managedBy:
		if done, err := r.remove(ctx, t, live); done || err != nil {
			return "removed, since the webhook is off", err
		}
	}
	want := live.DeepCopyObject().(client.Object)
	bundle := r.o.Bundle()
	if w, known := r.webhooks(); r.o.Mode == Enforce && !known && len(clientConfigs(want)) > 0 {
		return "", errNotYet // what a policy named before a restart stays asked about
	} else if r.o.Mode == Enforce {
		if err := r.enforce(ctx, w, want, bundle); err != nil {
			return "", err
		}
	} else if bundle != nil {
		for _, c := range clientConfigs(want) {
			if r.points(c) {
				c.CABundle = bundle
			}
		}
	}
	if equality.Semantic.DeepEqual(live, want) {
		return "", nil
	}
	return "put right", r.o.Client.Update(ctx, want)
}

// remove deletes a webhook configuration that Enforce made for the same owner: what
// was switched off must not go on refusing Pods. It reports false for one that is
// somebody else's. What validates goes first, since it demands what the other pins.
func (r *Registrar) remove(ctx context.Context, t target, live client.Object) (bool, error) {
	owner, err := r.owner(ctx)
	if errors.Is(err, errNoOwner) || err == nil && owner == nil {
		return false, nil // it goes with its owner, or nothing tells whose it is
	}
	if err != nil {
		return false, err
	}
	if !slices.ContainsFunc(live.GetOwnerReferences(), func(o metav1.OwnerReference) bool { return o.Kind == owner.Kind && o.UID == owner.UID }) {
		return false, nil
	}
	if t.kind == mutatingKind && r.exists(target{kind: validatingKind, name: t.name}) {
		return false, errNotYet
	}
	uid, version := live.GetUID(), live.GetResourceVersion()
	if err := r.o.Client.Delete(ctx, live, client.Preconditions{UID: &uid, ResourceVersion: &version}); err != nil {
		return true, err
	}
	r.observe(t, nil) // the watch tells where it is still there
	return true, nil
}

// exists reports whether a target is there, or is not known not to be.
func (r *Registrar) exists(t target) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.seen[t]
	return s == nil || s.object != nil
}

// create makes a webhook configuration, once this replica could answer.
func (r *Registrar) create(ctx context.Context, t target) (string, error) {
	w, known := r.webhooks()
	if !known || !r.o.Ready() {
		return "", errNotYet
	}
	owner, err := r.owner(ctx)
	if err != nil {
		return "", err
	}
	var o client.Object = w.Mutating(r.o.Bundle())
	if t.kind == validatingKind {
		o = w.Validating(r.o.Bundle())
	}
	if owner != nil {
		o.SetOwnerReferences([]metav1.OwnerReference{*owner})
	}
	return "created", r.o.Client.Create(ctx, o)
}

// enforce writes into a webhook configuration what it is to be. Labels and
// annotations of others stay.
func (r *Registrar) enforce(ctx context.Context, w Webhooks, o client.Object, bundle []byte) error {
	switch c := o.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		if bundle == nil && len(c.Webhooks) > 0 {
			bundle = c.Webhooks[0].ClientConfig.CABundle
		}
		c.Webhooks = w.Mutating(bundle).Webhooks
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		was := c.Webhooks
		if bundle != nil || len(was) == 0 {
			c.Webhooks = w.Validating(bundle).Webhooks
			break
		}
		// One that is new trusts what the first does; the others stay as they are.
		c.Webhooks = w.Validating(was[0].ClientConfig.CABundle).Webhooks
		for i := range c.Webhooks {
			for _, old := range was {
				if old.Name == c.Webhooks[i].Name {
					c.Webhooks[i].ClientConfig.CABundle = old.ClientConfig.CABundle
				}
			}
		}
	}
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[managedByLabel] = managedBy
	o.SetLabels(labels)
	owner, err := r.owner(ctx)
	switch {
	case errors.Is(err, errNoOwner):
		return nil // it is on its way out, and takes this along
	case err != nil || owner == nil:
		return err
	}
	o.SetOwnerReferences(withOwner(o.GetOwnerReferences(), *owner))
	return nil
}

var errNoOwner = errors.New("what the webhook configurations are to belong to is not there")

// owner finds what the webhook configurations belong to, nil for nothing. They are
// not made without: a Boltseal that is being removed must not put them back.
func (r *Registrar) owner(ctx context.Context) (*metav1.OwnerReference, error) {
	if r.o.Owner == (Owner{}) {
		return nil, nil
	}
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(ownerKinds()[r.o.Owner.Kind])
	err := r.o.Client.Get(ctx, client.ObjectKey{Name: r.o.Owner.Name}, m)
	switch {
	case apierrors.IsNotFound(err), err == nil && m.DeletionTimestamp != nil:
		return nil, fmt.Errorf("%w: %s %s", errNoOwner, r.o.Owner.Kind, r.o.Owner.Name)
	case err != nil:
		return nil, err
	}
	gvk := ownerKinds()[r.o.Owner.Kind]
	return &metav1.OwnerReference{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: m.Name, UID: m.UID}, nil
}

// putProvider puts the CAs into a Provider that points here, and one of Boltseal's
// own right.
func (r *Registrar) putProvider(ctx context.Context, u *unstructured.Unstructured) (string, error) {
	if u.GetDeletionTimestamp() != nil {
		return "", nil
	}
	if p, ok := r.makes(u.GetName()); ok && u.GetLabels()[managedByLabel] == managedBy {
		return r.keepProvider(ctx, p, u)
	}
	bundle := r.o.Bundle()
	if bundle == nil || !r.provides(u) {
		return "", nil
	}
	want := base64.StdEncoding.EncodeToString(bundle)
	if have, _, _ := unstructured.NestedString(u.Object, "spec", "caBundle"); have == want {
		return "", nil
	}
	return "caBundle put in", r.patchProvider(ctx, u, nil, struct {
		CABundle string `json:"caBundle"`
	}{want})
}
