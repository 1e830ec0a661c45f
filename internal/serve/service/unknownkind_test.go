package service_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/oci"
)

// lateAPI is an API server that has just started: it serves what is its own, and does
// not list the groups of custom resources before listed says so.
func lateAPI(t *testing.T, listed *atomic.Bool) string {
	t.Helper()
	resource := func(name, kind string, namespaced bool) string {
		return fmt.Sprintf(`{"name":%q,"kind":%q,"namespaced":%t,"verbs":["list","watch"]}`, name, kind, namespaced)
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		say := func(s string) { fmt.Fprint(w, s) }
		list := func(version, kind, items string) {
			say(fmt.Sprintf(`{"kind":%q,"apiVersion":%q,"metadata":{"resourceVersion":"1"},"items":[%s]}`, kind+"List", version, items))
		}
		switch p := q.URL.Path; {
		case q.URL.Query().Get("sendInitialEvents") != "":
			w.WriteHeader(422)
			say(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422}`)
		case q.URL.Query().Get("watch") != "":
			w.(http.Flusher).Flush()
			<-q.Context().Done()
		case p == "/api":
			say(`{"kind":"APIVersions","versions":["v1"]}`)
		case p == "/api/v1":
			say(`{"kind":"APIResourceList","groupVersion":"v1","resources":[` + resource("namespaces", "Namespace", false) + `]}`)
		case p == "/api/v1/namespaces":
			list("meta.k8s.io/v1", "PartialObjectMetadata", "")
		case p == "/apis" && listed.Load():
			say(`{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"boltseal.dev","versions":[{"groupVersion":"boltseal.dev/v1alpha1","version":"v1alpha1"}],"preferredVersion":{"groupVersion":"boltseal.dev/v1alpha1","version":"v1alpha1"}}]}`)
		case p == "/apis":
			say(`{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`)
		case p == "/apis/boltseal.dev/v1alpha1" && listed.Load():
			say(`{"kind":"APIResourceList","groupVersion":"boltseal.dev/v1alpha1","resources":[` + resource("imageintegritypolicies", "ImageIntegrityPolicy", false) + `,` +
				resource("namespacedimageintegritypolicies", "NamespacedImageIntegrityPolicy", true) + `]}`)
		case strings.HasSuffix(p, "/imageintegritypolicies") && listed.Load():
			list("boltseal.dev/v1alpha1", "ImageIntegrityPolicy", `{"apiVersion":"boltseal.dev/v1alpha1","kind":"ImageIntegrityPolicy","metadata":{"name":"prod","uid":"u","resourceVersion":"1","creationTimestamp":"2026-01-01T00:00:00Z"},"spec":{"enforcementAction":"deny"}}`)
		case strings.HasSuffix(p, "/namespacedimageintegritypolicies") && listed.Load():
			list("boltseal.dev/v1alpha1", "NamespacedImageIntegrityPolicy", "")
		default:
			w.WriteHeader(404)
			say(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404}`)
		}
	}))
	t.Cleanup(api.Close)
	return api.URL
}

// TestNoKindYetIsNotNoPolicy: a replica that starts beside an API server that does
// not list custom resources yet admits nothing, is not ready, and says why.
func TestNoKindYetIsNotNoPolicy(t *testing.T) {
	t.Parallel()
	var listed atomic.Bool
	r := &running{t: t, audit: &lockedBuffer{}, client: &http.Client{Timeout: time.Minute}}
	s := testhouse.Need(service.New(service.Options{Listen: "127.0.0.1:0", Health: "127.0.0.1:0", Metrics: "127.0.0.1:0", InsecureHTTP: true,
		Deps:    compile.Deps{DockerConfig: func(string) oci.CredentialSource { return nil }},
		Cluster: &service.ClusterOptions{Config: &rest.Config{Host: lateAPI(t, &listed)}, Namespace: "boltseal-system", Identity: "a"}}))(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		cancel()
		<-ended
	}()
	r.base, r.health = "http://"+s.Addr(), "http://"+s.AddrOf("health")
	eventually(t, "it says what it waits for", func() bool {
		code, text := r.ready()
		return code == 503 && strings.Contains(text, "not known yet") && strings.Contains(text, "ImageIntegrityPolicy (the cluster does not know this kind")
	})
	const image = "registry.invalid/unsigned:v1"
	for range 2 {
		if v := r.review(server.PathValidate, pod("shop", image)); v.Allowed || !strings.Contains(v.Result.Message, "ImageIntegrityPolicy (the cluster does not know this kind") {
			t.Errorf("%+v %+v", v, v.Result)
		}
		if v := r.review(server.PathPin, pod("shop", image)); !v.Allowed || len(v.Patch) > 0 || len(v.Warnings) != 1 {
			t.Errorf("%+v", v)
		}
		if v := r.review(server.PathValidate, pod("kube-system", image)); !v.Allowed {
			t.Errorf("what is never judged is held up: %+v", v.Result)
		}
	}
	listed.Store(true)
	eventually(t, "ready", func() bool {
		v := r.review(server.PathValidate, pod("shop", image))
		if v.Allowed {
			t.Fatal("admitted on the way")
		}
		code, _ := r.ready()
		return code == 200
	})
	if v := r.review(server.PathValidate, pod("shop", image)); v.Allowed || !strings.Contains(v.Result.Message, `"prod"`) {
		t.Errorf("the policy is not active: %+v", v.Result)
	}
}
