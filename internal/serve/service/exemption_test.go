package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/compile"
	runs "github.com/boltseal/boltseal/internal/running"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// one engine for all namespaces.
type one struct{ engine *boltseal.Engine }

func (o one) EngineFor(string) *boltseal.Engine { return o.engine }
func (one) Close()                              {}
func (one) PerPod(*boltseal.Engine) bool        { return false }
func (one) ForStranger(e *boltseal.Engine) (*boltseal.Engine, bool) {
	return e, false
}
func (one) ForPod(_ context.Context, e *boltseal.Engine, _ string, _ []string, _ string) *boltseal.Engine {
	return e
}

// replicaSets is an API server that has them, and nothing else.
func replicaSets(t *testing.T, sets ...*appsv1.ReplicaSet) runs.Owners {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for _, rs := range sets {
			if q.URL.Path == "/apis/apps/v1/namespaces/"+rs.Namespace+"/replicasets/"+rs.Name {
				_ = json.NewEncoder(w).Encode(rs)
				return
			}
		}
		w.WriteHeader(http.StatusNotFound)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: "Failure", Reason: metav1.StatusReasonNotFound, Code: 404})
	}))
	t.Cleanup(srv.Close)
	return runs.NewOwners(testhouse.Need(dynamic.NewForConfig(&rest.Config{Host: srv.URL}))(t))
}

func ownedBy(name, uid string) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: name, UID: types.UID(uid), Controller: &yes}}
}

const (
	controllerOfReplicaSets = "system:serviceaccount:kube-system:replicaset-controller"
	exemptions              = `exemptions: [
  {name: web, category: Mitigated, expires: %[1]q, workloads: [{kind: Deployment, name: web, namespace: shop}]},
  {name: lab, category: Waiver, expires: %[1]q, reason: a laboratory, namespaces: ["lab-*"]},
  {name: tool, category: Waiver, expires: %[1]q, namespaces: [tools], images: [%[2]q]},
]`
)

// TestExemptionsAgree: the same policy, Pod and time come to the same at admission and in the
// audit, which is what 'boltseal audit' prints too; and to something else once the exemption has
// ended, although nothing was configured anew and answers are kept.
func TestExemptionsAgree(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	clock := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	h := testhouse.New(t, testhouse.Options{})
	signed, signedAt := h.Signed("signed", h.Signer)
	tool, toolAt := h.Signed("tool")
	app, appAt := h.Signed("app")
	text := config(h.Signer.Root().PEM(), policy("prod", fmt.Sprintf(exemptions, time.Now().Add(time.Hour).UTC().Format(time.RFC3339), tool)))
	r := startWith(t, h, service.Options{Clock: clock}, text)
	set := testhouse.Need(compile.Decode([]compile.Source{{Name: "config.yaml", Data: []byte(text)}}))(t)

	rs := &appsv1.ReplicaSet{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"}, ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web-5d4f8", UID: "u1"}}
	rs.Spec.Template.Spec.Containers = []corev1.Container{{Name: "c0", Image: app}}
	judge := runs.NewJudge(runs.JudgeOptions{Rate: -1, Clock: clock, Owners: replicaSets(t, rs)})
	snap := &snapshot.Snapshot{Generation: 1, Engines: one{h.Engine}, Policies: integrity.NewSet(set.Integrity()), Memo: memo.New(memo.Options{Clock: clock})}

	hash := map[string]string{"pod-template-hash": "5d4f8"}
	cases := []struct {
		name, namespace, image, at, user string
		owners                           []metav1.OwnerReference
		labels                           map[string]string
		now, after                       runs.Outcome
	}{
		{"trusted in a namespace that is exempt", "lab-1", signed, signedAt, "alice", nil, nil, runs.Trusted, runs.Trusted},
		{"untrusted there", "lab-1", app, appAt, "alice", nil, nil, runs.Exempt, runs.NotTrusted},
		{"untrusted elsewhere", "shop", app, appAt, "alice", nil, nil, runs.NotTrusted, runs.NotTrusted},
		{"an image in a namespace", "tools", tool, toolAt, "alice", nil, nil, runs.Exempt, runs.NotTrusted},
		{"that image elsewhere", "shop", tool, toolAt, "alice", nil, nil, runs.NotTrusted, runs.NotTrusted},
		{"another image there", "tools", app, appAt, "alice", nil, nil, runs.NotTrusted, runs.NotTrusted},
		{"a workload's Pod", "shop", app, appAt, controllerOfReplicaSets, ownedBy("web-5d4f8", "u1"), hash, runs.Exempt, runs.NotTrusted},
		{"a workload's Pod elsewhere", "tools", app, appAt, controllerOfReplicaSets, ownedBy("web-5d4f8", "u1"), hash, runs.NotTrusted, runs.NotTrusted},
		{"a forged owner that is not there", "shop", app, appAt, "alice", ownedBy("web-forged", "u2"), map[string]string{"pod-template-hash": "forged"}, runs.NotTrusted, runs.NotTrusted},
		{"a forged owner of another image", "shop", tool, toolAt, "alice", ownedBy("web-5d4f8", "u1"), hash, runs.NotTrusted, runs.NotTrusted},
		{"a forged UID", "shop", app, appAt, "alice", ownedBy("web-5d4f8", "u9"), hash, runs.NotTrusted, runs.NotTrusted},
	}
	check := func(want func(i int) runs.Outcome) {
		t.Helper()
		for i, c := range cases {
			p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: fmt.Sprint("p", i), OwnerReferences: c.owners, Labels: c.labels}}
			p.Spec.Containers = []corev1.Container{{Name: "c0", Image: c.image}}
			q := pod(c.namespace)
			q.Object = runtime.RawExtension{Raw: testhouse.Need(json.Marshal(p))(t)}
			q.UserInfo.Username = c.user
			a := r.review(server.PathValidate, r.mutated(q))
			admitted := runs.NotTrusted
			switch {
			case a.Allowed && a.AuditAnnotations["exempt"] != "":
				admitted = runs.Exempt
			case a.Allowed:
				admitted = runs.Trusted
			}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "c0", ImageID: c.at}}
			pods := runs.NewInventory(nil)
			pods.AddPod(&p)
			found := judge.Judge(t.Context(), snap, pods, nil).Findings
			if len(found) != 1 || admitted != want(i) || found[0].Outcome != want(i) {
				t.Errorf("%s, %s ahead: admission says %s (%v %v), audit %+v", c.name, time.Duration(ahead.Load()), admitted, a.Result, a.Warnings, found[0])
			}
			if admitted == runs.Exempt && (len(a.Warnings) == 0 || !strings.Contains(a.Warnings[0], found[0].Exemption) || !strings.Contains(a.Warnings[0], found[0].Until.UTC().Format(time.RFC3339))) {
				t.Errorf("%s: %q %+v", c.name, a.Warnings, found[0])
			}
		}
	}
	check(func(i int) runs.Outcome { return cases[i].now })
	if got := r.metric(`boltseal_exempted_images_total{category="Waiver",decision="not trusted"}`); got != "2" {
		t.Errorf("exempted %s", got)
	}
	if soon, over := r.metric(`boltseal_exemptions{state="ending"}`), r.metric(`boltseal_exemptions{state="over"}`); soon != "3" || over != "0" {
		t.Errorf("%s end soon, %s are over", soon, over)
	}
	eventually(t, "the exemption in the audit log", func() bool {
		log := r.audit.String()
		return strings.Contains(log, `"decision":"allowed, exempt"`) && strings.Contains(log, `"exempt":["prod/tool until `)
	})
	ahead.Store(int64(time.Hour))
	check(func(i int) runs.Outcome { return cases[i].after })
	if over := r.metric(`boltseal_exemptions{state="over"}`); over != "3" {
		t.Errorf("%s are over", over)
	}
}

// TestWorkloadsAtTheirOwnAdmission: a Deployment is exempt by its name, its ReplicaSet by who creates it.
func TestWorkloadsAtTheirOwnAdmission(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	app, _ := h.Signed("app")
	r := startWith(t, h, service.Options{}, config(h.Signer.Root().PEM(),
		policy("prod", "exemptions: [{name: web, category: Waiver, workloads: [{kind: Deployment, name: web, namespace: shop}]}]")))
	yes := true
	template := corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c0", Image: app}}}}
	deployment := func(name string) runtime.Object {
		return &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{Template: template}}
	}
	replicaSet := &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Name: "web-5d4f8", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "apps/v1", Kind: "Deployment", Name: "web", UID: "u", Controller: &yes}}}, Spec: appsv1.ReplicaSetSpec{Template: template}}
	two := replicaSet.DeepCopy()
	two.OwnerReferences = append(two.OwnerReferences, two.OwnerReferences[0])
	for _, c := range []struct {
		name, kind, namespace, user string
		object                      runtime.Object
		allowed                     bool
	}{
		{"Deployment", "Deployment", "shop", "alice", deployment("web"), true},
		{"another Deployment", "Deployment", "shop", "alice", deployment("web2"), false},
		{"elsewhere", "Deployment", "lab", "alice", deployment("web"), false},
		{"its ReplicaSet", "ReplicaSet", "shop", "system:serviceaccount:kube-system:deployment-controller", replicaSet, true},
		{"a forged ReplicaSet", "ReplicaSet", "shop", "alice", replicaSet, false},
		{"two that manage it", "ReplicaSet", "shop", "system:serviceaccount:kube-system:deployment-controller", two, false},
	} {
		q := &admissionv1.AdmissionRequest{UID: "u", Kind: metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: c.kind}, Namespace: c.namespace,
			Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: testhouse.Need(json.Marshal(c.object))(t)}}
		q.UserInfo.Username = c.user
		if a := r.review(server.PathValidate, q); a.Allowed != c.allowed {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
}
