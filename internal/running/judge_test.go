package running

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// engines are one for the cluster and some for namespaces.
type engines struct {
	cluster    *boltseal.Engine
	namespaces map[string]*boltseal.Engine
	// pods, where it is set, is for Pods with pull Secrets.
	pods func(namespace, secrets, account string) *boltseal.Engine
}

func (e engines) EngineFor(ns string) *boltseal.Engine {
	if own, ok := e.namespaces[ns]; ok {
		return own
	}
	return e.cluster
}

func (engines) Close() {}

func (e engines) PerPod(*boltseal.Engine) bool { return e.pods != nil }

func (e engines) ForStranger(of *boltseal.Engine) (*boltseal.Engine, bool) { return of, e.pods != nil }

func (e engines) ForPod(_ context.Context, _ *boltseal.Engine, namespace string, secrets []string, account string) *boltseal.Engine {
	return e.pods(namespace, strings.Join(secrets, "+"), account)
}

// scene is a registry, a clock, and a Judge.
type scene struct {
	*testhouse.House
	t      *testing.T
	judge  *Judge
	memo   *memo.Memo
	snap   *snapshot.Snapshot
	pods   *Inventory
	ahead  atomic.Int64
	asked  atomic.Int32
	number int
}

func newScene(t *testing.T, policies ...*integrity.Policy) *scene {
	t.Helper()
	s := &scene{t: t, House: testhouse.New(t, testhouse.Options{}), pods: NewInventory(nil)}
	s.judge = NewJudge(JudgeOptions{Rate: -1, Clock: s.now, Asked: func(boltseal.Decision) { s.asked.Add(1) }})
	s.memo = memo.New(memo.Options{Clock: s.now, WorkTimeout: testwait.Patience})
	s.configure(engines{cluster: s.Engine}, policies...)
	return s
}

func (s *scene) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *scene) configure(e engines, policies ...*integrity.Policy) {
	if len(policies) == 0 {
		policies = EveryPod("all", e, s.pods)
	}
	s.snap = &snapshot.Snapshot{Generation: 1, Engines: e, Policies: integrity.NewSet(policies, "boltseal-system"), Memo: s.memo}
}

// run lets a Pod run an image that was pushed under a tag.
func (s *scene) run(namespace, tag, pinned string) {
	s.number++
	s.pods.AddPod(podOf(namespace, fmt.Sprintf("pod-%03d", s.number), tag, pinned))
}

func (s *scene) look() *Result {
	s.t.Helper()
	return s.judge.Judge(s.t.Context(), s.snap, s.pods, nil)
}

func policyOf(t *testing.T, name string, spec v1alpha1.ImageIntegrityPolicySpec) *integrity.Policy {
	t.Helper()
	p, problems := integrity.Compile(name, spec)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return p
}

func (s *scene) expect(what string, r *Result, trusted, violation, unknown int) {
	s.t.Helper()
	if r.Images.Trusted != trusted || r.Images.NotTrusted != violation || r.Images.Unknown != unknown || r.Images.Pending != 0 {
		s.t.Errorf("%s: %+v, want %d trusted, %d violations, %d unknown", what, r.Images, trusted, violation, unknown)
		for _, f := range r.Findings[:min(len(r.Findings), 5)] {
			s.t.Logf("%+v", f)
		}
	}
}

func TestWhatRunsIsJudgedByItsDigest(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	tag, signed := s.Signed("v", s.Signer)
	s.run("shop", tag, signed)
	s.run("shop", tag, signed)
	_, unsigned := s.Signed("v") // the tag names something else now
	s.run("shop", tag, unsigned)
	_, strange := s.Signed("w", s.Stranger)
	s.run("bank", tag, strange)
	s.run("bank", tag, "sha256:"+hexA)
	s.run("kube-system", tag, unsigned)
	s.run("boltseal-system", tag, unsigned)
	r := s.look()
	s.expect("first", r, 1, 3, 0)
	if r.Pods != (Counts{Trusted: 2, NotTrusted: 3}) || r.Ignored != 2 || len(r.Findings) != 4 {
		t.Errorf("%+v", r)
	}
	causes := map[string]boltseal.Cause{signed: "", unsigned: boltseal.CauseNothingSigned, strange: boltseal.CauseUntrustedSigner, tag: boltseal.CauseLocalImage}
	for _, f := range r.Findings {
		if cause, ok := causes[f.Image]; !ok || f.Reason.Cause != cause || (f.Outcome == Trusted) != (cause == "") || f.Policy != "all" || f.Action != v1alpha1.Deny {
			t.Errorf("%+v", f)
		}
	}
	if f := r.Findings[0]; f.Namespace != "bank" || f.Pods != 1 || f.First[0].Name != "pod-004" && f.First[0].Name != "pod-005" {
		t.Errorf("first %+v", f)
	}
	if p := r.Policies[0]; p.Pods != r.Pods || p.Images != r.Images {
		t.Errorf("%+v", p)
	}

	requests := s.Registry.Count(testregistry.Any)
	s.ahead.Store(int64(12 * time.Minute)) // far beyond the memo's own time
	s.expect("again", s.look(), 1, 3, 0)
	if n := s.Registry.Count(testregistry.Any) - requests; n != 0 {
		t.Errorf("%d requests for what is known", n)
	}
	s.ahead.Store(int64(2 * time.Hour))
	s.expect("much later", s.look(), 1, 3, 0)
	if s.Registry.Count(testregistry.Any) == requests {
		t.Error("nothing is ever asked again")
	}
}

func TestPoliciesOfBothScopes(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	_, signed := s.Signed("a", s.Signer)
	_, strange := s.Signed("b", s.Stranger)
	own := s.EngineOf(t, testhouse.Options{Engine: boltseal.Options{Verifiers: []boltseal.Verifier{s.VerifierFor(t, s.Stranger, "own", "")}}})
	everyone, _ := integrity.Compile("p", v1alpha1.ImageIntegrityPolicySpec{})
	s.configure(engines{cluster: s.Engine, namespaces: map[string]*boltseal.Engine{"shop": own}},
		policyOf(t, "warned", v1alpha1.ImageIntegrityPolicySpec{EnforcementAction: v1alpha1.Warn, ExcludedImages: []string{s.Registry.Host + "/other/*"},
			Match: v1alpha1.Match{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"stage": "prod"}}}}),
		everyone.Of("shop"))
	s.pods.AddNamespace("shop", map[string]string{"stage": "prod"})
	s.pods.AddNamespace("bank", nil)
	s.run("shop", signed, signed)
	s.run("shop", strange, strange)
	s.run("bank", strange, strange)
	s.run("shop", s.Registry.Host+"/other/app:1", s.Registry.Host+"/other/app@sha256:"+hexA)
	r := s.look()
	got := map[string]Outcome{}
	for _, f := range r.Findings {
		got[f.Policy+" "+f.Image] = f.Outcome
	}
	want := map[string]Outcome{"warned " + signed: Trusted, "warned " + strange: NotTrusted, "shop/p " + signed: NotTrusted, "shop/p " + strange: Trusted,
		"shop/p " + s.Registry.Host + "/other/app@sha256:" + hexA: NotTrusted}
	if len(got) != len(want) || r.Ignored != 1 {
		t.Errorf("%v, %d ignored", got, r.Ignored)
	}
	for k, o := range want {
		if got[k] != o {
			t.Errorf("%s: %s, want %s", k, got[k], o)
		}
	}
	// The label goes, and with it all that the policy demands.
	s.pods.AddNamespace("shop", map[string]string{})
	if r := s.look(); r.Policies[1].Pods.Total() != 0 || r.Policies[0].Pods.Total() != 3 {
		t.Errorf("%+v", r.Policies)
	}
	// Without any policy the namespace's own resources judge it alone.
	s.configure(engines{cluster: s.Engine, namespaces: map[string]*boltseal.Engine{"shop": own}})
	for _, f := range s.look().Findings {
		if trusted := f.Namespace == "shop" && f.Image == strange; (f.Outcome == Trusted) != trusted {
			t.Errorf("%+v", f)
		}
	}
	// Without a Store or a Verifier nothing is trusted.
	s.configure(engines{})
	if r := s.look(); r.Pods.NotTrusted != 4 || r.Findings[0].Reason.Cause != boltseal.CauseNoVerifier {
		t.Errorf("%+v", r.Pods)
	}
}

// TestOutage: what could not be judged is neither trusted nor a violation, the
// registry is spared, and all is judged once it is back.
func TestOutage(t *testing.T) {
	t.Parallel()
	const images = 40
	s := newScene(t)
	for i := range images {
		_, pinned := s.Signed(fmt.Sprint("v", i), s.Signer)
		s.run("shop", pinned, pinned)
	}
	_, unsigned := s.Signed("u")
	s.run("shop", unsigned, unsigned)
	s.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: http.StatusServiceUnavailable})
	r := s.look()
	s.expect("down", r, 0, 0, images+1)
	if r.Pods.Unknown != images+1 {
		t.Errorf("%+v", r.Pods)
	}
	if n := s.asked.Load(); n > maxOutages+DefaultConcurrency {
		t.Errorf("%d images were asked about at a registry that is down", n)
	}
	for _, f := range r.Findings {
		if f.Outcome != Unknown || f.Reason.Cause != boltseal.CauseUnavailable || f.Reason.Remedy == "" {
			t.Fatalf("%+v", f)
		}
	}
	before := s.asked.Load()
	s.expect("down, at once", s.look(), 0, 0, images+1)
	if s.asked.Load() != before {
		t.Error("it is asked again at once")
	}
	at, ok := s.judge.wake()
	if wait := at.Sub(s.now()); !ok || wait <= 0 || wait > firstRetry {
		t.Errorf("the next try is in %s", wait)
	}
	s.ahead.Store(int64(mostRetry))
	s.expect("down, later", s.look(), 0, 0, images+1)
	if n := s.asked.Load() - before; n != 1 {
		t.Errorf("%d images find out that it is still down", n)
	}
	s.Registry.ClearFaults()
	s.ahead.Store(int64(3 * mostRetry))
	s.expect("back", s.look(), images, 1, 0)

	// What is known holds through the next outage, and no longer.
	s.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: http.StatusServiceUnavailable})
	s.ahead.Store(int64(3*mostRetry + time.Minute))
	s.expect("down, but known", s.look(), images, 1, 0)
	s.ahead.Store(int64(3*mostRetry + 2*DefaultRecheck))
	s.expect("down for too long", s.look(), 0, 0, images+1)
}

// TestConfigurationChanges: what was found with other keys says nothing.
func TestConfigurationChanges(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	_, a := s.Signed("a", s.Signer)
	_, b := s.Signed("b", s.Stranger)
	s.run("shop", a, a)
	s.run("shop", b, b)
	s.expect("first", s.look(), 1, 1, 0)
	other := s.EngineOf(t, testhouse.Options{Engine: boltseal.Options{Verifiers: []boltseal.Verifier{s.VerifierFor(t, s.Stranger, "other", "")}}})
	s.configure(engines{cluster: other})
	r := s.look()
	s.expect("other keys", r, 1, 1, 0)
	for _, f := range r.Findings {
		if (f.Outcome == Trusted) != (f.Image == b) {
			t.Errorf("%+v", f)
		}
	}
	if len(s.judge.known) != 2 {
		t.Errorf("%d verdicts are kept", len(s.judge.known))
	}
	s.pods.setRow(keyOf(podOf("shop", "pod-001")), nil)
	s.look()
	if len(s.judge.known) != 1 {
		t.Errorf("%d verdicts are kept of one image", len(s.judge.known))
	}
}

// TestAdmissionHelps: what admission has just found out is not asked again, and a
// violation goes as soon as the image is admitted.
func TestAdmissionHelps(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	image := s.Registry.PushImage(testhouse.Repo, "v", 0)
	pinned := s.Registry.Pinned(testhouse.Repo, image.Digest)
	s.memo.Answer(t.Context(), s.Engine, pinned)
	s.run("shop", pinned, pinned)
	s.expect("unsigned", s.look(), 0, 1, 0)
	if s.asked.Load() != 0 {
		t.Error("asked for what is known")
	}
	s.Registry.Sign(testhouse.Repo, image, s.Signer, signOptions)
	s.ahead.Store(int64(memo.DefaultDenyTTL + time.Second))
	s.expect("signed, but nobody knows", s.look(), 0, 1, 0)
	s.memo.Answer(t.Context(), s.Engine, pinned)
	s.expect("signed and admitted", s.look(), 1, 0, 0)
	if s.asked.Load() != 0 {
		t.Error("asked for what is known")
	}
}

// TestContentByAnotherName: where the Pod's repository does not know what runs, the
// repository that the node names is asked.
func TestContentByAnotherName(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	_, signed := s.Signed("v", s.Signer)
	_, unsigned := s.Signed("u")
	s.run("shop", s.Registry.Host+"/mirror/app:1", signed)
	s.run("shop", s.Registry.Host+"/mirror/app:1", unsigned)
	r := s.look()
	s.expect("elsewhere", r, 1, 1, 0)
	if f := r.Findings[0]; f.Outcome != NotTrusted || f.Reason.Cause != boltseal.CauseImageNotFound {
		t.Errorf("%+v", f)
	}
}
