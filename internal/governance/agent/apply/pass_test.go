package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/fake"
	clienttesting "k8s.io/client-go/testing"

	integrity "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/charts/boltseal"
	"github.com/boltseal/boltseal/internal/governance/render"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// house is an Applier on client-go's in-memory API, which is made to fill in what an API server does: identities,
// generations, and who wrote.
type house struct {
	*Applier
	client *fake.FakeDynamicClient
	told   chan struct{}
	mu     sync.Mutex
	writes []string
	next   int
	refuse error // of each create
}

func newHouse(t *testing.T, objects ...runtime.Object) *house {
	t.Helper()
	h := &house{told: make(chan struct{}, 1)}
	h.client = fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		policyResource(): "ImageIntegrityPolicyList", templateResource(): "ConstraintTemplateList", constraintResource("BoltsealTrustedImages"): "BoltsealTrustedImagesList",
	}, objects...)
	h.client.PrependReactor("create", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		u := a.(clienttesting.CreateAction).GetObject().(*unstructured.Unstructured)
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.refuse != nil {
			return true, nil, h.refuse
		}
		h.next++
		u.SetUID(types.UID(fmt.Sprint("made-", h.next)))
		u.SetGeneration(1)
		u.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: FieldManager}})
		return false, nil, nil
	})
	h.client.PrependReactor("update", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		u := a.(clienttesting.UpdateAction).GetObject().(*unstructured.Unstructured)
		u.SetGeneration(u.GetGeneration() + 1)
		return false, nil, nil
	})
	a, err := New(Options{Dynamic: h.client, OwnTemplate: ownTemplate(t), Changed: func() {
		select {
		case h.told <- struct{}{}:
		default:
		}
	}, Wrote: func(what string, err error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.writes = append(h.writes, fmt.Sprint(what, " ", err == nil))
	}})
	if err != nil {
		t.Fatal(err)
	}
	h.Applier = a
	ctx, cancel := context.WithCancel(t.Context())
	a.Start(ctx)
	t.Cleanup(func() {
		cancel()
		a.Wait()
	})
	return h
}

func ownTemplate(t *testing.T) []byte {
	t.Helper()
	b, err := chart.GatekeeperTemplate()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// refused has the API server refuse each create by err, and none where it is nil.
func (h *house) refused(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = err
}

// pass passes until nothing is to be tried again, or until done says so.
func (h *house) pass(t *testing.T, b *v1alpha1.ClusterBundleSpec, done func(*Result, error) bool) *Result {
	t.Helper()
	var last *Result
	testwait.Until(t, "the cluster is as it is wanted", func() bool {
		r, err := h.Pass(t.Context(), t.Context(), b)
		last = r
		return done(r, err)
	})
	return last
}

func settled(r *Result, err error) bool {
	return err == nil && r != nil && !slices.ContainsFunc(r.Standings, func(s Standing) bool { return !s.Current && s.Reason == "" })
}

func demandOf(name string) v1alpha1.Demand {
	return v1alpha1.Demand{Name: render.Name("/x/assignments/"+name, ""), Assignment: name, AssignmentID: "/x/assignments/" + name, DefinitionID: "/x/definitions/d", Effect: "Deny",
		EnforcementAction: integrity.Deny, Match: integrity.Match{Kinds: []string{"Pod"}}, Source: "Original"}
}

func bundleOf(engine v1alpha1.Engine, names ...string) *v1alpha1.ClusterBundleSpec {
	b := &v1alpha1.ClusterBundleSpec{Engine: engine}
	for _, n := range names {
		b.Demands = append(b.Demands, demandOf(n))
	}
	return b
}

// listed are the names of a kind's objects.
func (h *house) listed(t *testing.T, gvr schema.GroupVersionResource) (names []string) {
	t.Helper()
	list, err := h.client.Resource(gvr).List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range list.Items {
		names = append(names, u.GetName())
	}
	slices.Sort(names)
	return names
}

// TestDemandsComeAndGo: what is demanded is made, what somebody changed is put right, and what is demanded no more is
// removed; what somebody else made stays.
func TestDemandsComeAndGo(t *testing.T) {
	t.Parallel()
	foreign := objectOf(func(u *unstructured.Unstructured) { u.SetName("somebodys") })
	h := newHouse(t, foreign)
	r := h.pass(t, bundleOf(v1alpha1.EngineBoltseal, "one", "two"), settled)
	if len(r.Standings) != 2 || r.Standings[0].Live == nil || r.Engine != v1alpha1.EngineBoltseal {
		t.Fatalf("%+v", r)
	}
	names := h.listed(t, policyResource())
	if len(names) != 3 {
		t.Fatalf("%v", names)
	}
	// Somebody weakens one by hand.
	name := r.Standings[0].Name
	live, err := h.client.Resource(policyResource()).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	live.Object["spec"].(map[string]any)["enforcementAction"] = "dryrun"
	if _, err := h.client.Resource(policyResource()).Update(t.Context(), live, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	h.pass(t, bundleOf(v1alpha1.EngineBoltseal, "one", "two"), func(r *Result, err error) bool {
		u, getErr := h.client.Resource(policyResource()).Get(t.Context(), name, metav1.GetOptions{})
		action, _, _ := unstructured.NestedString(u.Object, "spec", "enforcementAction")
		return getErr == nil && settled(r, err) && action == "deny"
	})
	h.pass(t, bundleOf(v1alpha1.EngineBoltseal), func(r *Result, err error) bool {
		return err == nil && slices.Equal(h.listed(t, policyResource()), []string{"somebodys"})
	})
}

// TestSomebodyElsesObjectIsLeftAlone: where the name is taken the demand does not apply, and says why; the others do.
func TestSomebodyElsesObjectIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := bundleOf(v1alpha1.EngineBoltseal, "one", "two")
	taken := b.Demands[0].Name
	h := newHouse(t, objectOf(func(u *unstructured.Unstructured) { u.SetName(taken) }))
	r := h.pass(t, b, settled)
	if r.Standings[0].Reason != PolicyNameConflicts || r.Standings[0].Live != nil || r.Standings[0].Current || !strings.Contains(r.Standings[0].Message, taken) {
		t.Errorf("%+v", r.Standings[0])
	}
	if r.Standings[1].Reason != "" || !r.Standings[1].Current {
		t.Errorf("%+v", r.Standings[1])
	}
	live, err := h.client.Resource(policyResource()).Get(t.Context(), taken, metav1.GetOptions{})
	if err != nil || live.GetUID() != "uid-1" || live.GetGeneration() != 3 {
		t.Errorf("%v, %v", live, err)
	}
}

// TestRefusalsOfTheAPIServer: each has its reason; those that no try puts right are not tried again.
func TestRefusalsOfTheAPIServer(t *testing.T) {
	t.Parallel()
	gr := schema.GroupResource{Group: "boltseal.dev", Resource: "imageintegritypolicies"}
	for name, c := range map[string]struct {
		err    error
		reason render.Reason
		again  bool
	}{
		"invalid":      {apierrors.NewInvalid(schema.GroupKind{Kind: "ImageIntegrityPolicy"}, "x", nil), render.InvalidConstraint, false},
		"bad request":  {apierrors.NewBadRequest("x"), render.InvalidConstraint, false},
		"too large":    {apierrors.NewRequestEntityTooLargeError("x"), render.InvalidConstraint, false},
		"forbidden":    {apierrors.NewForbidden(gr, "x", errors.New("no")), NotPermitted, true},
		"no such kind": {apierrors.NewNotFound(gr, "x"), EngineMissing, true},
		"conflict":     {apierrors.NewConflict(gr, "x", errors.New("newer")), "", true},
		"unavailable":  {apierrors.NewServiceUnavailable("x"), "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			h.refused(c.err)
			b := bundleOf(v1alpha1.EngineBoltseal, "one")
			r := h.pass(t, b, func(r *Result, err error) bool { return r != nil && len(h.made) == 0 && (err != nil) == c.again })
			if s := r.Standings[0]; s.Reason != c.reason || s.Current || s.Live != nil {
				t.Errorf("%+v, want %q", s, c.reason)
			}
			h.refused(nil)
			if r := h.pass(t, b, settled); r.Standings[0].Reason != "" {
				t.Errorf("it is taken now, and %+v", r.Standings[0])
			}
		})
	}
}

// TestNothingIsDecidedBeforeTheClusterIsKnown: an engine that is not known yet is not taken for one that is missing.
func TestNothingIsDecidedBeforeTheClusterIsKnown(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	c := fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), map[schema.GroupVersionResource]string{
		policyResource(): "ImageIntegrityPolicyList", templateResource(): "ConstraintTemplateList", constraintResource("BoltsealTrustedImages"): "BoltsealTrustedImagesList",
	})
	c.PrependReactor("list", "constrainttemplates", func(clienttesting.Action) (bool, runtime.Object, error) {
		<-release
		return false, nil, nil
	})
	cold, err := New(Options{Dynamic: c, OwnTemplate: ownTemplate(t), Changed: func() {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer func() { cancel(); cold.Wait() }()
	cold.Start(ctx)
	if r, err := cold.Pass(ctx, ctx, bundleOf("", "one")); r != nil || !errors.Is(err, ErrNotYet) {
		t.Errorf("%+v, %v", r, err)
	}
	close(release)
	testwait.Until(t, "the cluster is known", func() bool {
		r, err := cold.Pass(ctx, ctx, bundleOf("", "one"))
		return err == nil && r.Engine == v1alpha1.EngineGatekeeper
	})
}

// TestTemplateStaysWhileSomebodyReliesOnIt: with Gatekeeper a demand is a constraint of Boltseal's ConstraintTemplate. When
// nothing is demanded any more the constraint goes, and the template after it, unless somebody has constraints of their own.
func TestTemplateStaysWhileSomebodyReliesOnIt(t *testing.T) {
	t.Parallel()
	for name, relied := range map[string]bool{"nobody relies on it": false, "somebody relies on it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			b := bundleOf(v1alpha1.EngineGatekeeper, "one")
			h.pass(t, b, settled)
			kind := constraintResource("BoltsealTrustedImages")
			if len(h.listed(t, templateResource())) != 1 || len(h.listed(t, kind)) != 1 {
				t.Fatalf("templates %v, constraints %v", h.listed(t, templateResource()), h.listed(t, kind))
			}
			want := 0
			if relied {
				theirs := objectOf(func(u *unstructured.Unstructured) {
					u.SetAPIVersion("constraints.gatekeeper.sh/v1beta1")
					u.SetKind("BoltsealTrustedImages")
					u.SetName("theirs")
				})
				if err := h.client.Tracker().Create(kind, theirs, ""); err != nil {
					t.Fatal(err)
				}
				want = 1
			}
			h.pass(t, bundleOf(v1alpha1.EngineGatekeeper), func(_ *Result, err error) bool {
				return err == nil && len(h.listed(t, kind)) == want && len(h.listed(t, templateResource())) == want &&
					(!relied || h.kinds[kind] != nil && len(h.kinds[kind].all()) == want)
			})
			// Once it is known that the agent's own constraint is gone, the template would go.
			if _, err := h.Pass(t.Context(), t.Context(), bundleOf(v1alpha1.EngineGatekeeper)); err != nil || len(h.listed(t, templateResource())) != want {
				t.Errorf("templates %v, %v", h.listed(t, templateResource()), err)
			}
		})
	}
}
