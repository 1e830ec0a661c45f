// Package definitions brings a cluster's CustomResourceDefinitions up to date, and takes nothing away from those that are there.
package definitions

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// AnnotationRevision on a definition is a number that grows with each change of its
// schema. Who brings a smaller one than is there leaves it as it is.
const AnnotationRevision = "boltseal.dev/schema-revision"

const (
	fieldManager = "boltseal"
	// atOnce bounds how many are applied side by side: the API server needs a while
	// for each.
	atOnce    = 4
	pollEvery = 50 * time.Millisecond
	yamlLook  = 64 << 10
)

// Did is what became of a definition.
type Did string

// What may become of it.
const (
	Created   Did = "created"
	Updated   Did = "updated"
	Unchanged Did = "is as it should be"
	Newer     Did = "left alone: it was made for a newer Boltseal"
)

// Outcome is what became of one definition.
type Outcome struct {
	Name string
	Did  Did
}

// Parse reads definitions in YAML.
func Parse(documents []byte) ([]*unstructured.Unstructured, error) {
	var out []*unstructured.Unstructured
	r := yaml.NewYAMLReader(bufio.NewReaderSize(bytes.NewReader(documents), yamlLook))
	for {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read a definition: %w", err)
		}
		u := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &u.Object); err != nil {
			return nil, fmt.Errorf("read a definition: %w", err)
		}
		if len(u.Object) > 0 {
			out = append(out, u)
		}
	}
}

// Apply brings definitions up to date and waits until the cluster serves them, or
// ctx ends. It needs the rights to get, create and patch these definitions, and no
// other. The outcomes are in the order of the definitions, without those that
// failed.
func Apply(ctx context.Context, c client.Client, wanted []*unstructured.Unstructured) ([]Outcome, error) {
	outcomes, errs := make([]Outcome, len(wanted)), make([]error, len(wanted))
	slots := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, u := range wanted {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			outcomes[i].Name = u.GetName()
			if outcomes[i].Did, errs[i] = applyDefinition(ctx, c, u); errs[i] != nil {
				errs[i] = fmt.Errorf("CustomResourceDefinition %s: %w", u.GetName(), errs[i])
			}
		})
	}
	wg.Wait()
	var done []Outcome
	for i, err := range errs {
		if err == nil {
			done = append(done, outcomes[i])
		}
	}
	return done, errors.Join(errs...)
}

func applyDefinition(ctx context.Context, c client.Client, wanted *unstructured.Unstructured) (Did, error) {
	live := emptyDefinition()
	err := c.Get(ctx, client.ObjectKeyFromObject(wanted), live)
	switch {
	case apierrors.IsNotFound(err):
		live = nil
	case err != nil:
		return "", err
	}
	next, err := mergeDefinition(wanted, live)
	if err != nil {
		return "", err
	}
	if next == nil {
		return Newer, nil
	}
	if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(next), client.FieldOwner(fieldManager), client.ForceOwnership); err != nil {
		return "", err
	}
	after, err := waitEstablished(ctx, c, wanted)
	switch {
	case err != nil:
		return "", err
	case live == nil:
		return Created, nil
	case after.GetGeneration() != live.GetGeneration() || after.GetAnnotations()[AnnotationRevision] != live.GetAnnotations()[AnnotationRevision]:
		return Updated, nil
	}
	return Unchanged, nil
}

func emptyDefinition() *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	return u
}

// mergeDefinition returns what is to be applied where live is there, nil for nothing. A
// version that live has and wanted has not stays: resources may be stored in it,
// and manifests may be written in it.
func mergeDefinition(wanted, live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	out := wanted.DeepCopy()
	if live == nil {
		return out, nil
	}
	if revisionOf(live) > revisionOf(wanted) {
		return nil, nil
	}
	ours, _, err := unstructured.NestedSlice(out.Object, "spec", "versions")
	if err != nil {
		return nil, err
	}
	theirs, _, err := unstructured.NestedSlice(live.Object, "spec", "versions")
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, v := range ours {
		names[versionName(v)] = true
	}
	for _, in := range theirs {
		if v, ok := in.(map[string]any); ok && !names[versionName(in)] {
			v["storage"] = false // there is one alone, and it is ours
			ours = append(ours, v)
		}
	}
	return out, unstructured.SetNestedSlice(out.Object, ours, "spec", "versions")
}

func versionName(in any) string {
	v, _ := in.(map[string]any)
	name, _ := v["name"].(string)
	return name
}

// revisionOf is 0 for what is not ours, or older than revisions.
func revisionOf(u *unstructured.Unstructured) int {
	n, _ := strconv.Atoi(u.GetAnnotations()[AnnotationRevision])
	return n
}

// waitEstablished waits until the API server serves a definition, and returns it.
func waitEstablished(ctx context.Context, c client.Client, wanted *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	for {
		u := emptyDefinition()
		if err := c.Get(ctx, client.ObjectKeyFromObject(wanted), u); err != nil {
			return nil, err
		}
		ok, why := servesDefinition(u)
		if ok {
			return u, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("the API server does not serve it yet%s: %w", why, context.Cause(ctx))
		case <-time.After(pollEvery):
		}
	}
}

// servesDefinition reports whether the API server serves a definition, and where it says so,
// why not.
func servesDefinition(u *unstructured.Unstructured) (ok bool, why string) {
	conditions, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, in := range conditions {
		c, _ := in.(map[string]any)
		switch {
		case c["type"] == "Established" && c["status"] == "True":
			ok = true
		case c["type"] == "NamesAccepted" && c["status"] == "False":
			why = fmt.Sprintf(" (%v)", c["message"])
		}
	}
	return ok && why == "", why
}
