// Package apply makes what is demanded of a cluster stand in it, and nothing else: it overwrites and removes only what it made itself.
//
// Objects are made by a create and kept by updates of the whole spec, under a
// field manager of their own. Server-side apply would leave fields alone that the
// agent does not set, and an exclusion that somebody adds by hand is such a field.
// A create cannot meet an object that somebody made in the same moment, either.
package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/render"
)

// Reasons why a demand does not stand, beside those of render.
const (
	// PolicyNameConflicts: somebody else has an object of that name.
	PolicyNameConflicts render.Reason = "PolicyNameConflicts"
	// ConstraintTemplateCreateFailed and ConstraintTemplateUpdateFailed: the API
	// server, or Gatekeeper, refused the template.
	ConstraintTemplateCreateFailed render.Reason = "ConstraintTemplateCreateFailed"
	ConstraintTemplateUpdateFailed render.Reason = "ConstraintTemplateUpdateFailed"
	// EngineMissing: the cluster does not have what the demands are rendered for.
	EngineMissing render.Reason = "EngineMissing"
	// NotPermitted: the agent may not write it.
	NotPermitted render.Reason = "NotPermitted"
)

const (
	pollEvery = 20 * time.Millisecond
	// settleKinds is how long a pass waits for kinds that are new to it.
	settleKinds = 3 * time.Second
	// writeTimeout bounds one write.
	writeTimeout = 10 * time.Second
	maxMessage   = 1024
)

// ErrNotYet is wrapped where something is not known yet: try again when told of
// a change.
var ErrNotYet = errors.New("the cluster is not known yet")

// Options make an Applier.
type Options struct {
	// Dynamic is the way to the cluster. Required.
	Dynamic dynamic.Interface
	// OwnTemplate is Boltseal's own ConstraintTemplate in YAML. Required.
	OwnTemplate []byte
	// Exempt are namespaces that are never judged, for Gatekeeper.
	Exempt []string
	// Changed is told of every change of what is watched, from any goroutine. Required.
	Changed func()
	// Wrote is told of every write and its error. Nil tells nobody.
	Wrote func(what string, err error)
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
	// Clock tells the time. Nil means time.Now.
	Clock func() time.Time
}

// Applier keeps what is demanded. Its methods are for one goroutine at a time.
type Applier struct {
	o       Options
	dynamic dynamic.Interface
	kinds   map[schema.GroupVersionResource]*kind
	running sync.WaitGroup
	made    map[types.UID]bool // by this process
	last    map[object]written
	looked  map[string]bool // templates whose constraints were looked for
	own     any             // the spec of Boltseal's own template
}

type object struct {
	gvr  schema.GroupVersionResource
	name string
}

// New makes an Applier. It does not talk to the cluster yet.
func New(o Options) (*Applier, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Wrote == nil {
		o.Wrote = func(string, error) {}
	}
	var own unstructured.Unstructured
	if err := yaml.Unmarshal(o.OwnTemplate, &own.Object); err != nil {
		return nil, fmt.Errorf("the ConstraintTemplate of Boltseal itself: %w", err)
	}
	return &Applier{o: o, dynamic: o.Dynamic, kinds: map[schema.GroupVersionResource]*kind{}, made: map[types.UID]bool{},
		last: map[object]written{}, looked: map[string]bool{}, own: own.Object["spec"]}, nil
}

// Start begins to watch the cluster, until ctx ends; Wait then waits for what
// still runs.
func (a *Applier) Start(ctx context.Context) {
	a.follow(ctx, policyResource())
	a.follow(ctx, templateResource())
}

// Wait waits until nothing is watched any more.
func (a *Applier) Wait() { a.running.Wait() }

// Standing is how one demand stands.
type Standing struct {
	render.Outcome
	// Live is the object that enforces the demand, as it was last seen; nil where
	// there is none yet. It must not be changed.
	Live *unstructured.Unstructured
	// Current says that Live, and what is in Beside, is as it is wanted.
	Current bool
	// Beside are the further objects that enforce the demand: render.Outcome.More.
	Beside []*unstructured.Unstructured
}

// Result is what stands.
type Result struct {
	Engine v1alpha1.Engine
	// Standings, one for each demand in its order.
	Standings []Standing
	// Next is when to come back although nothing changes; zero means never.
	Next time.Time
}

// engine is what the cluster has, where the bundle does not say.
func (a *Applier) engine(ctx context.Context, asked v1alpha1.Engine) (v1alpha1.Engine, error) {
	if asked != "" {
		return asked, nil
	}
	k := a.follow(ctx, templateResource())
	there, known := k.state()
	switch {
	case !known:
		return "", fmt.Errorf("%w: whether it has Gatekeeper", ErrNotYet)
	case there:
		return v1alpha1.EngineGatekeeper, nil
	}
	return v1alpha1.EngineBoltseal, nil
}

// Pass brings the cluster up to the bundle. What is wrong with one demand is in
// its Standing and harms no other. The error is what is to be tried again; the
// Result is nil only where nothing could be looked at.
func (a *Applier) Pass(ctx, watching context.Context, b *v1alpha1.ClusterBundleSpec) (*Result, error) {
	engine, err := a.engine(watching, b.Engine)
	if err != nil {
		return nil, err
	}
	for _, gvr := range []schema.GroupVersionResource{policyResource(), templateResource()} {
		if _, known := a.follow(watching, gvr).state(); !known {
			return nil, fmt.Errorf("%w: its %s", ErrNotYet, gvr.Resource)
		}
	}
	rendered, err := render.Render(render.Input{Engine: engine, Demands: b.Demands, OwnTemplate: a.o.OwnTemplate, Exempt: a.o.Exempt,
		Installed: a.installed(), Clock: a.o.Clock})
	if err != nil {
		return nil, fmt.Errorf("rendering what is required: %w", err)
	}
	p := &pass{Applier: a, ctx: ctx, watching: watching, rendered: rendered, engine: engine,
		wanted: map[object]bool{}, stands: map[object]bool{}, failed: map[object]failure{}, needed: map[schema.GroupVersionResource]bool{}}
	var cancel context.CancelFunc
	p.settling, cancel = context.WithTimeout(ctx, settleKinds)
	defer cancel()
	p.apply()
	p.sweep()
	return p.result(), errors.Join(p.again...)
}

// installed are the ConstraintTemplates as render reads them: its label says
// whether one is the agent's, which here is more than a label.
func (a *Applier) installed() []unstructured.Unstructured {
	var out []unstructured.Unstructured
	for _, u := range a.kinds[templateResource()].all() {
		c := u.DeepCopy()
		labels := c.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		delete(labels, render.LabelGovernance)
		if a.owns(u) {
			labels[render.LabelGovernance] = render.ByGovernance
		}
		c.SetLabels(labels)
		out = append(out, *c)
	}
	return out
}

// pass is one Pass.
type pass struct {
	*Applier
	ctx, watching, settling context.Context
	rendered                *render.Result
	engine                  v1alpha1.Engine
	needed                  map[schema.GroupVersionResource]bool
	wanted, stands          map[object]bool
	failed                  map[object]failure
	again                   []error
}

// failure is why an object does not stand as it is wanted.
type failure struct {
	reason  render.Reason
	message string
}

func (p *pass) fail(o object, reason render.Reason, format string, args ...any) {
	p.failed[o] = failure{reason, truncateText(fmt.Sprintf(format, args...), maxMessage)}
}

func (p *pass) apply() {
	broken := map[identity]bool{}
	for _, want := range p.rendered.Objects {
		markOwned(want)
		o := object{resourceOf(want), want.GetName()}
		if want.GetKind() == templateKind {
			o.gvr = templateResource() // known under this version, whatever it is written in
		}
		p.wanted[o], p.needed[o.gvr] = true, true
		// Of several objects of one demand the last passes over what the others look
		// at instead: it waits for them.
		who := identityOf(want.GetAnnotations())
		if broken[who] && want.GetKind() != templateKind {
			continue
		}
		k := p.follow(p.watching, o.gvr)
		if !waitFor(p.settling, k) {
			p.again = append(p.again, fmt.Errorf("%w: its %s", ErrNotYet, o.gvr.Resource))
		} else if err := p.put(k, o, want); err != nil {
			p.again = append(p.again, fmt.Errorf("%s %s: %w", want.GetKind(), want.GetName(), err))
		}
		if want.GetKind() != templateKind {
			broken[who] = broken[who] || !p.stands[o]
		}
	}
}

// put makes one object stand. The error is for another try; what no try mends is
// in failed.
func (p *pass) put(k *kind, o object, want *unstructured.Unstructured) error {
	live := k.get(o.name)
	if live == nil {
		made, err := p.write("create", func(ctx context.Context) (*unstructured.Unstructured, error) {
			return p.dynamic.Resource(resourceOf(want)).Create(ctx, want, metav1.CreateOptions{FieldManager: FieldManager})
		})
		if !apierrors.IsAlreadyExists(err) {
			return p.wroteIt(o, want, made, err)
		}
		ctx, cancel := context.WithTimeout(p.ctx, writeTimeout)
		defer cancel()
		if live, err = p.dynamic.Resource(o.gvr).Get(ctx, o.name, metav1.GetOptions{}); err != nil {
			return err
		}
	}
	switch {
	case !p.owns(live):
		p.fail(o, PolicyNameConflicts, "somebody else made the %s %s, which is left as it is; rename or remove it", want.GetKind(), o.name)
		return nil
	case live.GetDeletionTimestamp() != nil:
		return fmt.Errorf("%w: it is being deleted", ErrNotYet)
	case matchesWanted(live, want, p.last[o]):
		p.stands[o] = true
		return nil
	case p.last[o].uid == live.GetUID() && live.GetGeneration() < p.last[o].generation:
		return fmt.Errorf("%w: it was written just now", ErrNotYet)
	}
	if why, err := p.guarded(live, want); err != nil {
		return err
	} else if why != "" {
		p.fail(o, render.ConstraintTemplateConflicts, "%s", why)
		return nil
	}
	next := mergeObject(live, want)
	made, err := p.write("update", func(ctx context.Context) (*unstructured.Unstructured, error) {
		return p.dynamic.Resource(resourceOf(want)).Update(ctx, next, metav1.UpdateOptions{FieldManager: FieldManager})
	})
	return p.wroteIt(o, want, made, err)
}

func (p *pass) write(what string, f func(context.Context) (*unstructured.Unstructured, error)) (*unstructured.Unstructured, error) {
	ctx, cancel := context.WithTimeout(p.ctx, writeTimeout)
	defer cancel()
	u, err := f(ctx)
	p.o.Wrote(what, err)
	return u, err
}

// wroteIt takes in what a write came to.
func (p *pass) wroteIt(o object, want, made *unstructured.Unstructured, err error) error {
	creating := p.last[o].uid == ""
	switch {
	case err == nil:
		p.made[made.GetUID()] = true
		p.last[o] = written{made.GetUID(), made.GetGeneration(), want.DeepCopy().Object["spec"]}
		p.stands[o] = true
		return nil
	case apierrors.IsConflict(err):
		return fmt.Errorf("%w: %w", ErrNotYet, err) // the next event brings the newer one
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err), apierrors.IsNotFound(err), apierrors.IsRequestEntityTooLargeError(err):
		p.refused(o, want, err, creating)
		if apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err) {
			return nil
		}
	}
	return err
}

// refused says why the API server does not take an object.
func (p *pass) refused(o object, want *unstructured.Unstructured, err error, creating bool) {
	reason := render.InvalidConstraint
	switch {
	case apierrors.IsNotFound(err) && o.gvr.Group == ConstraintGroup:
		reason = render.ConstraintTemplateInstallFailed
	case apierrors.IsNotFound(err):
		reason = EngineMissing
	case want.GetKind() == templateKind && creating:
		reason = ConstraintTemplateCreateFailed
	case want.GetKind() == templateKind:
		reason = ConstraintTemplateUpdateFailed
	case apierrors.IsForbidden(err):
		reason = NotPermitted
	}
	p.fail(o, reason, "the cluster does not take %s %s: %v", want.GetKind(), o.name, err)
}

// guarded says why a template that the agent made must stay as it is: somebody's
// own constraints rely on it, and what comes from the hub may not change what they
// mean. Boltseal's own template comes from this program, and may.
func (p *pass) guarded(live, want *unstructured.Unstructured) (string, error) {
	if want.GetKind() != templateKind || reflect.DeepEqual(want.Object["spec"], p.own) {
		return "", nil
	}
	if reflect.DeepEqual(live.Object["spec"], want.Object["spec"]) {
		return "", nil // it is not its meaning that changes
	}
	foreign, err := p.foreignConstraints(live)
	if err != nil || foreign == "" {
		return "", err
	}
	return fmt.Sprintf("the constraint %s, which somebody else made, relies on the ConstraintTemplate %s, which is left as it is", foreign, want.GetName()), nil
}

// kindOf is the kind of a template's constraints.
func kindOf(template *unstructured.Unstructured) string {
	s, _, _ := unstructured.NestedString(template.Object, "spec", "crd", "spec", "names", "kind")
	return s
}

const pageSize = 500

// foreignConstraints names one constraint of a template that is not the agent's.
func (p *pass) foreignConstraints(template *unstructured.Unstructured) (string, error) {
	name := kindOf(template)
	if name == "" {
		return "", nil
	}
	for more := ""; ; {
		ctx, cancel := context.WithTimeout(p.ctx, writeTimeout)
		list, err := p.dynamic.Resource(constraintResource(name)).List(ctx, metav1.ListOptions{Limit: pageSize, Continue: more})
		cancel()
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		for i := range list.Items {
			if !p.owns(&list.Items[i]) {
				return list.Items[i].GetName(), nil
			}
		}
		if more = list.GetContinue(); more == "" {
			return "", nil
		}
	}
}
