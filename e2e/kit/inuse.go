package kit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// errRejected ends a wait: Gatekeeper has seen the object and will not use it.
var errRejected = errors.New("Gatekeeper reports an error")

// byPod is what Gatekeeper's objects have in common in their status.
type byPod struct {
	Status struct {
		ByPod []struct {
			ObservedGeneration int64             `json:"observedGeneration"`
			Enforced           bool              `json:"enforced"` // constraints
			Active             bool              `json:"active"`   // providers
			Errors             []json.RawMessage `json:"errors"`
		} `json:"byPod"`
	} `json:"status"`
}

// Apply applies ConstraintTemplates, Providers, constraints and whatever else, as Cluster.Apply does, and waits
// after each ConstraintTemplate until its kind exists, and in the end until Gatekeeper uses the Providers and
// enforces the constraints in the form applied. A template that does not compile and a constraint that Gatekeeper
// reports an error about is an error.
func (g *Gatekeeper) Apply(ctx context.Context, manifests ...string) error {
	objs, err := Parse(manifests...)
	if err != nil {
		return err
	}
	order := func(u *unstructured.Unstructured) int {
		switch u.GroupVersionKind().Group {
		case "templates.gatekeeper.sh":
			return 0
		case "constraints.gatekeeper.sh":
			return 2
		default:
			return 1
		}
	}
	slices.SortStableFunc(objs, func(a, b *unstructured.Unstructured) int { return order(a) - order(b) })
	for _, u := range objs {
		if err := g.c.ApplyObjects(ctx, u); err != nil {
			return err
		}
		if u.GetKind() == "ConstraintTemplate" {
			if err := g.waitInUse(ctx, u); err != nil {
				return err
			}
			if err := g.waitConstraintKind(ctx, u); err != nil {
				return err
			}
		}
	}
	for _, u := range objs {
		if order(u) == 2 || u.GetKind() == "Provider" {
			if err := g.waitInUse(ctx, u); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitConstraintKind waits for the CRD that Gatekeeper makes of a template.
func (g *Gatekeeper) waitConstraintKind(ctx context.Context, template *unstructured.Unstructured) error {
	kind, _, err := unstructured.NestedString(template.Object, "spec", "crd", "spec", "names", "kind")
	if err != nil || kind == "" {
		return fmt.Errorf("%s names no kind in spec.crd.spec.names.kind", describe(template))
	}
	return g.c.waitEstablished(ctx, strings.ToLower(kind)+".constraints.gatekeeper.sh")
}

// waitInUse waits until Gatekeeper's status of an object says that its present generation is in use.
func (g *Gatekeeper) waitInUse(ctx context.Context, u *unstructured.Unstructured) error {
	var rejected error
	err := g.c.poll(ctx, "Gatekeeper to use "+describe(u), func(ctx context.Context) error {
		have := &unstructured.Unstructured{}
		have.SetGroupVersionKind(u.GroupVersionKind())
		if err := g.c.client.Get(ctx, client.ObjectKeyFromObject(u), have); err != nil {
			return err
		}
		err := inUse(have)
		if errors.Is(err, errRejected) {
			rejected = fmt.Errorf("%s: %w", describe(u), err)
			return nil
		}
		return err
	}, g.process)
	return errors.Join(err, rejected)
}

func inUse(u *unstructured.Unstructured) error {
	var s byPod
	data, err := u.MarshalJSON()
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return fmt.Errorf("read its status: %w", err)
	}
	if len(s.Status.ByPod) == 0 {
		return errors.New("it has no status")
	}
	for _, p := range s.Status.ByPod {
		switch {
		case p.ObservedGeneration != u.GetGeneration():
			return fmt.Errorf("generation %d is in use, not yet %d", p.ObservedGeneration, u.GetGeneration())
		case len(p.Errors) > 0 && slices.ContainsFunc(p.Errors, passing):
			return fmt.Errorf("it is tried again after %s", p.Errors)
		case len(p.Errors) > 0:
			return fmt.Errorf("%w: %s", errRejected, p.Errors)
		case u.GroupVersionKind().Group == "constraints.gatekeeper.sh" && !p.Enforced:
			return errors.New("it is not enforced")
		case u.GetKind() == "Provider" && !p.Active:
			return errors.New("it is not active")
		}
	}
	return nil
}

// passing tells whether an error is of two processes of Gatekeeper's making one thing at once: the slower one
// tries again.
func passing(e json.RawMessage) bool {
	text := string(e)
	return strings.Contains(text, "create_error") && strings.Contains(text, "already exists") ||
		strings.Contains(text, "the object has been modified")
}
