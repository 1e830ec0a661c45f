package kit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"
)

const (
	// fieldManager is the name under which the kit applies.
	fieldManager = "boltseal-e2e"
	// applyWorkers bounds how many CRDs are applied at once.
	applyWorkers = 8
	// yamlBuffer is the size of the reader's look-ahead.
	yamlBuffer = 64 << 10
)

// Parse reads YAML or JSON documents, each of which may be a List. Empty documents are skipped.
func Parse(manifests ...string) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	for _, m := range manifests {
		r := yaml.NewYAMLReader(bufio.NewReaderSize(strings.NewReader(m), yamlBuffer))
		for {
			doc, err := r.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("split a manifest into documents: %w", err)
			}
			objs, err := parseOne(doc)
			if err != nil {
				return nil, err
			}
			out = append(out, objs...)
		}
	}
	return out, nil
}

func parseOne(doc []byte) ([]*unstructured.Unstructured, error) {
	data, err := sigsyaml.YAMLToJSON(doc)
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	if bytes.Equal(data, []byte("null")) {
		return nil, nil
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	if !u.IsList() {
		return []*unstructured.Unstructured{u}, nil
	}
	list, err := u.ToList()
	if err != nil {
		return nil, fmt.Errorf("read a manifest: %w", err)
	}
	var out []*unstructured.Unstructured
	for i := range list.Items {
		out = append(out, &list.Items[i])
	}
	return out, nil
}

// Apply applies multi-document YAML or JSON on the server's side, forcing conflicts. Namespaces and
// CustomResourceDefinitions go first, and the latter are waited for; the rest follows in the order given. Objects
// without a namespace go to namespace default. The first object that is refused ends it; the error wraps the
// apiserver's, so apierrors.IsForbidden and the like work on it.
func (c *Cluster) Apply(ctx context.Context, manifests ...string) error {
	objs, err := Parse(manifests...)
	if err != nil {
		return err
	}
	return c.ApplyObjects(ctx, objs...)
}

// ApplyFiles is Apply on files.
func (c *Cluster) ApplyFiles(ctx context.Context, paths ...string) error {
	var manifests []string
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			return fmt.Errorf("read a manifest: %w", err)
		}
		manifests = append(manifests, string(data))
	}
	return c.Apply(ctx, manifests...)
}

// ApplyObjects is Apply on objects, which it leaves unchanged.
func (c *Cluster) ApplyObjects(ctx context.Context, objs ...*unstructured.Unstructured) error {
	var crds, rest []*unstructured.Unstructured
	for _, o := range objs {
		switch o.GroupVersionKind().GroupKind().String() {
		case "Namespace":
			if err := c.applyOne(ctx, o); err != nil {
				return err
			}
		case "CustomResourceDefinition.apiextensions.k8s.io":
			crds = append(crds, o)
		default:
			rest = append(rest, o)
		}
	}
	if err := c.applyCRDs(ctx, crds); err != nil {
		return err
	}
	for _, o := range rest {
		if err := c.applyOne(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// applyCRDs applies CRDs side by side, since the apiserver needs a while for each, and waits until it serves them.
func (c *Cluster) applyCRDs(ctx context.Context, crds []*unstructured.Unstructured) error {
	errs := make([]error, len(crds))
	var wg sync.WaitGroup
	slots := make(chan struct{}, applyWorkers)
	for i, crd := range crds {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if errs[i] = c.applyOne(ctx, crd); errs[i] == nil {
				errs[i] = c.waitEstablished(ctx, crd.GetName())
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (c *Cluster) waitEstablished(ctx context.Context, name string) error {
	return c.poll(ctx, "CustomResourceDefinition "+name, func(ctx context.Context) error {
		var crd apiextensionsv1.CustomResourceDefinition
		if err := c.client.Get(ctx, client.ObjectKey{Name: name}, &crd); err != nil {
			return err
		}
		established := false
		for _, cond := range crd.Status.Conditions {
			established = established || cond.Type == apiextensionsv1.Established && cond.Status == apiextensionsv1.ConditionTrue
		}
		if !established {
			return errors.New("it is not established")
		}
		// A definition is established before its versions can be discovered, without which no client finds them.
		kind := schema.GroupKind{Group: crd.Spec.Group, Kind: crd.Spec.Names.Kind}
		for _, v := range crd.Spec.Versions {
			if !v.Served {
				continue
			}
			if _, err := c.client.RESTMapper().RESTMapping(kind, v.Name); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *Cluster) applyOne(ctx context.Context, o *unstructured.Unstructured) error {
	o, err := c.withNamespace(o)
	if err != nil {
		return err
	}
	err = c.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner(fieldManager), client.ForceOwnership)
	if err != nil {
		return fmt.Errorf("apply %s: %w", describe(o), err)
	}
	return nil
}

// Delete deletes what multi-document YAML names, last first. What is not there is no error.
func (c *Cluster) Delete(ctx context.Context, manifests ...string) error {
	objs, err := Parse(manifests...)
	if err != nil {
		return err
	}
	for i := len(objs) - 1; i >= 0; i-- {
		o, err := c.withNamespace(objs[i])
		if err != nil {
			return err
		}
		if err := c.client.Delete(ctx, o); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s: %w", describe(o), err)
		}
	}
	return nil
}

// withNamespace returns a copy of an object, in namespace default if it needs a namespace and has none.
func (c *Cluster) withNamespace(o *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	o = o.DeepCopy()
	if o.GetNamespace() != "" {
		return o, nil
	}
	namespaced, err := c.client.IsObjectNamespaced(o)
	if err != nil {
		return nil, fmt.Errorf("find the kind of %s: %w", describe(o), err)
	}
	if namespaced {
		o.SetNamespace("default")
	}
	return o, nil
}

func describe(o *unstructured.Unstructured) string {
	name := o.GetName()
	if ns := o.GetNamespace(); ns != "" {
		name = ns + "/" + name
	}
	return o.GetKind() + " " + name
}
