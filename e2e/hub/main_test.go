// Package hub tests governance at a hub on a real API server, with the rights that the hub and agents have.
package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	chart "github.com/boltseal/boltseal/charts/boltseal"
	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/internal/governance/hub"
)

var (
	cluster *kit.Cluster
	admin   client.Client
	theHub  *hub.Hub
	stop    func() // ends the hub
	hook    *receiver
)

// receiver takes CloudEvents; the first of each it refuses once.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	refused map[string]bool
	events  []hub.CloudEvent
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var e hub.CloudEvent
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case req.Header.Get("Authorization") != "Bearer s3cret", json.Unmarshal(body, &e) != nil:
		w.WriteHeader(http.StatusBadRequest)
	case !r.refused[e.ID]:
		r.refused[e.ID] = true
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		r.events = append(r.events, e)
	}
}

func newScheme() *runtime.Scheme {
	s := runtime.NewScheme()
	s.AddKnownTypes(v1alpha1.GroupVersion, &v1alpha1.PolicyDefinition{}, &v1alpha1.PolicyAssignment{}, &v1alpha1.PolicyExemption{}, &v1alpha1.Remediation{},
		&v1alpha1.Cluster{}, &v1alpha1.ClusterList{}, &v1alpha1.ClusterBundle{}, &v1alpha1.ClusterBundleList{}, &v1alpha1.ClusterReport{})
	metav1.AddToGroupVersion(s, v1alpha1.GroupVersion)
	if err := rbacv1.AddToScheme(s); err != nil {
		panic(err)
	}
	return s
}

func TestMain(m *testing.M) {
	run := func() int {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err := install(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		start()
		defer func() { stop() }()
		defer hook.Close()
		return m.Run()
	}
	os.Exit(kit.Main(run, kit.Options{Controllers: []string{}}, &cluster))
}

func install(ctx context.Context) error {
	crds, err := chart.CRDs()
	if err != nil {
		return err
	}
	if err := cluster.Apply(ctx, string(crds)); err != nil {
		return err
	}
	if admin, err = client.New(cluster.Config(), client.Options{Scheme: newScheme()}); err != nil {
		return err
	}
	if err := grant(ctx, "hub", hub.Rules()); err != nil {
		return err
	}
	config, err := cluster.UserConfig("hub")
	if err != nil {
		return err
	}
	hook = &receiver{refused: map[string]bool{}}
	hook.Server = httptest.NewTLSServer(hook)
	theHub, err = hub.New(hub.Options{Config: config, Namespace: "boltseal-system", Version: "test", Recheck: 500 * time.Millisecond,
		ReportEvery: 50 * time.Millisecond, StatusEvery: 50 * time.Millisecond, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Notify: []hub.Sink{{URL: hook.URL + "/hook?key=s3cret", Header: http.Header{"Authorization": {"Bearer s3cret"}}, FirstBackOff: 10 * time.Millisecond,
			Roots: hook.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}}})
	return err
}

// start runs the hub until stop is called.
func start() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- theHub.Run(ctx) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil {
			fmt.Fprintln(os.Stderr, "the hub ended:", err)
		}
	}
}

func grant(ctx context.Context, user string, rules []rbacv1.PolicyRule) error {
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: rules}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: user}}}
	if err := admin.Create(ctx, role); err != nil {
		return err
	}
	return admin.Create(ctx, binding)
}

func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f)
}

// stands waits until an object is as it is wanted.
func stands[T client.Object](t testing.TB, name string, o T, what string, ok func() bool) {
	t.Helper()
	eventually(t, fmt.Sprintf("%T %s: %s", o, name, what), func() error {
		if err := admin.Get(t.Context(), client.ObjectKey{Name: name}, o); err != nil {
			return err
		}
		if !ok() {
			b, _ := json.Marshal(o)
			return fmt.Errorf("%s", b)
		}
		return nil
	})
}

func create(t testing.TB, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		if err := admin.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = admin.Delete(context.Background(), o) })
	}
}

// change changes an object, again where somebody else did so meanwhile.
func change[T client.Object](t testing.TB, name string, o T, f func()) {
	t.Helper()
	eventually(t, "changing "+name, func() error {
		if err := admin.Get(t.Context(), client.ObjectKey{Name: name}, o); err != nil {
			return err
		}
		f()
		return admin.Update(t.Context(), o)
	})
}

func newCluster(name, scope string) *v1alpha1.Cluster {
	return &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.ClusterSpec{Scope: scope}}
}

func newAssignment(name, scope, effect string) *v1alpha1.PolicyAssignment {
	a := &v1alpha1.PolicyAssignment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.PolicyAssignmentSpec{Scope: scope, PolicyDefinitionID: "image-integrity"}}
	var v v1alpha1.ParameterValue
	v.Value.Raw = []byte(`"` + effect + `"`)
	a.Spec.Parameters = map[string]v1alpha1.ParameterValue{"effect": v}
	return a
}

// report says what an agent would, of the bundle as it stands now.
func report(t testing.TB, name string, addOn v1alpha1.AddOnState, state v1alpha1.ComplianceState) {
	t.Helper()
	eventually(t, "report of "+name, func() error {
		var b v1alpha1.ClusterBundle
		if err := admin.Get(t.Context(), client.ObjectKey{Name: name}, &b); err != nil {
			return err
		}
		r := &v1alpha1.ClusterReport{}
		err := client.IgnoreNotFound(admin.Get(t.Context(), client.ObjectKey{Name: name}, r))
		if err != nil {
			return err
		}
		at := metav1.Now()
		r.Name = name
		r.Report = v1alpha1.ClusterReportContent{Sequence: r.Report.Sequence + 1, At: &at, BundleGeneration: b.Generation, Version: "test", Pods: 5,
			AddOn: v1alpha1.AddOnReport{State: addOn, Attempt: b.Spec.AddOn.Attempt}}
		for _, d := range b.Spec.Demands {
			one := v1alpha1.DemandReport{Name: d.Name, State: state, Pods: 5}
			if state == v1alpha1.NonCompliant {
				one.Violations = 2
			}
			r.Report.Demands = append(r.Report.Demands, one)
		}
		if r.ResourceVersion == "" {
			t.Cleanup(func() { _ = admin.Delete(context.Background(), r) })
			return admin.Create(t.Context(), r)
		}
		return admin.Update(t.Context(), r)
	})
}
