package apply

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/internal/governance/render"
)

// sweep removes what the agent made and nothing demands any more. Constraints go
// before their templates, and what enforces a demand stays until what is to take
// its place stands.
func (p *pass) sweep() {
	p.discover()
	waiting := p.waiting()
	keep := func(u *unstructured.Unstructured) bool {
		if waiting[identityOf(u.GetAnnotations())] {
			return true
		}
		c := u.DeepCopy()
		labels := c.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[render.LabelGovernance] = render.ByGovernance // what is removed is the agent's, whatever its labels say
		c.SetLabels(labels)
		return p.rendered.Keeps(c)
	}
	for gvr, k := range p.kinds {
		if gvr != templateResource() {
			p.sweepKind(k, keep)
		}
	}
	p.sweepKind(p.kinds[templateResource()], func(u *unstructured.Unstructured) bool {
		// A template takes all its constraints with it.
		if k := p.kinds[constraintResource(kindOf(u))]; keep(u) || k != nil && len(k.all()) > 0 {
			return true
		}
		foreign, err := p.foreignConstraints(u)
		if err != nil {
			p.again = append(p.again, err)
		}
		return err != nil || foreign != ""
	})
	for gvr, k := range p.kinds {
		if there, known := k.state(); gvr.Group == ConstraintGroup && known && !there && !p.needed[gvr] {
			k.stop()
			delete(p.kinds, gvr)
			delete(p.looked, gvr.Resource)
		}
	}
}

type identity struct{ assignment, reference string }

func identityOf(annotations map[string]string) identity {
	return identity{strings.ToLower(annotations[render.AnnotationAssignment]), strings.ToLower(annotations[render.AnnotationReference])}
}

// waiting are the demands whose objects do not stand yet.
func (p *pass) waiting() map[identity]bool {
	out := map[identity]bool{}
	templateFailed := map[string]bool{}
	for _, u := range p.rendered.Objects {
		o := object{resourceOf(u), u.GetName()}
		if u.GetKind() == templateKind {
			o.gvr = templateResource()
		}
		if !p.stands[o] {
			if u.GetKind() == templateKind {
				templateFailed[kindOf(u)] = true
			} else {
				out[identityOf(u.GetAnnotations())] = true
			}
		}
	}
	for _, u := range p.rendered.Objects {
		if templateFailed[u.GetKind()] {
			out[identityOf(u.GetAnnotations())] = true
		}
	}
	return out
}

func (p *pass) sweepKind(k *kind, keep func(*unstructured.Unstructured) bool) {
	for _, u := range k.all() {
		o := object{k.gvr, u.GetName()}
		if p.wanted[o] || !p.mayRemove(u) || u.GetDeletionTimestamp() != nil || keep(u) {
			continue
		}
		uid, version := u.GetUID(), u.GetResourceVersion()
		ctx, cancel := context.WithTimeout(p.ctx, writeTimeout)
		err := p.dynamic.Resource(k.gvr).Delete(ctx, o.name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version}})
		cancel()
		p.o.Wrote("delete", err)
		switch {
		case err == nil || apierrors.IsNotFound(err):
			delete(p.made, uid)
			delete(p.last, o)
		default:
			p.again = append(p.again, fmt.Errorf("removing %s %s: %w", u.GetKind(), o.name, err))
		}
	}
}

// discover looks once at each template for constraints that an agent made before
// this process began.
func (p *pass) discover() {
	for _, t := range p.kinds[templateResource()].all() {
		name := kindOf(t)
		if name == "" || p.looked[strings.ToLower(name)] || p.kinds[constraintResource(name)] != nil {
			continue
		}
		ctx, cancel := context.WithTimeout(p.ctx, writeTimeout)
		list, err := p.dynamic.Resource(constraintResource(name)).List(ctx, metav1.ListOptions{Limit: 1, LabelSelector: render.LabelGovernance + "=" + render.ByGovernance})
		cancel()
		switch {
		case apierrors.IsNotFound(err):
			continue // Gatekeeper has not served it yet
		case err != nil:
			p.again = append(p.again, fmt.Errorf("constraints of %s: %w", name, err))
			continue
		}
		p.looked[strings.ToLower(name)] = true
		if len(list.Items) > 0 {
			waitFor(p.settling, p.follow(p.watching, constraintResource(name)))
		}
	}
}

// result is how everything stands now.
func (p *pass) result() *Result {
	r := &Result{Engine: p.engine, Next: p.rendered.Next}
	for n, out := range p.rendered.Outcomes {
		s := Standing{Outcome: out}
		if out.Reason == "" {
			var gvr schema.GroupVersionResource
			if out.Kind == "ImageIntegrityPolicy" {
				gvr = policyResource()
			} else {
				gvr = constraintResource(out.Kind)
				if f, ok := p.failed[object{templateResource(), strings.ToLower(out.Kind)}]; ok {
					s.Reason, s.Message = f.reason, f.message
				}
			}
			p.look(&s, gvr)
		}
		if s.Reason == "" && gatekeeperFailed(p.templateOf(n)) != "" {
			s.Reason, s.Message = ConstraintTemplateCreateFailed, truncateText("Gatekeeper does not take the ConstraintTemplate: "+gatekeeperFailed(p.templateOf(n)), maxMessage)
		}
		r.Standings = append(r.Standings, s)
	}
	return r
}

// look takes in the objects of a demand.
func (p *pass) look(s *Standing, gvr schema.GroupVersionResource) {
	k := p.kinds[gvr]
	s.Current = k != nil
	for n, name := range append([]string{s.Name}, s.More...) {
		o := object{gvr, name}
		if f, ok := p.failed[o]; ok && s.Reason == "" {
			s.Reason, s.Message = f.reason, f.message
		}
		if k == nil {
			continue
		}
		u := k.get(name)
		if u == nil || p.last[o].uid != u.GetUID() || p.last[o].generation != u.GetGeneration() {
			s.Current = false
			continue
		}
		if n == 0 {
			s.Live = u
		} else {
			s.Beside = append(s.Beside, u)
		}
	}
	if s.Reason != "" {
		s.Live, s.Beside, s.Current = nil, nil, false
	}
}

// templateOf is the template of a demand that is rendered for Gatekeeper.
func (p *pass) templateOf(n int) *unstructured.Unstructured {
	out := p.rendered.Outcomes[n]
	if out.Kind == "" || out.Kind == "ImageIntegrityPolicy" {
		return nil
	}
	return p.kinds[templateResource()].get(strings.ToLower(out.Kind))
}

// gatekeeperFailed is what one of Gatekeeper's Pods says is wrong with a template
// as it is now.
func gatekeeperFailed(t *unstructured.Unstructured) string {
	if t == nil {
		return ""
	}
	pods, _, _ := unstructured.NestedSlice(t.Object, "status", "byPod")
	for _, in := range pods {
		pod, _ := in.(map[string]any)
		if g, _, _ := unstructured.NestedInt64(pod, "observedGeneration"); g != t.GetGeneration() {
			continue
		}
		errs, _, _ := unstructured.NestedSlice(pod, "errors")
		for _, e := range errs {
			m, _ := e.(map[string]any)
			if s, _ := m["message"].(string); s != "" {
				return s
			}
		}
	}
	return ""
}
