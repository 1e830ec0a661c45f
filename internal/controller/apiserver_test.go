package controller

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/oci"
)

// apiServer speaks as much of the API server's protocol over HTTP as a controller
// needs: discovery, get, list, watch, create, update and merge patches, with
// resource versions, generations and status subresources. End-to-end tests use
// the real one; this one can be made to fail, to lag and to go away.
type apiServer struct {
	*httptest.Server
	mu      sync.Mutex
	more    *sync.Cond        // an event was added, or something about watches changed
	objects map[string]object // by path
	events  []event
	unknown map[string]bool // groups, and kinds, that the server does not know (yet)
	ending  map[string]bool // kinds whose definitions are being deleted
	frozen  map[string]bool // resources whose watches say nothing
	looks   map[string]int  // questions after the kinds of groups
	down    bool
	away    int                       // requests while it was down
	refuse  func(r *http.Request) int // status to answer with; 0 = none
	writes  []string                  // METHOD path of every change by a client
	serial  int
}

type object = map[string]any

type event struct {
	version  int
	kind     string // ADDED, MODIFIED, DELETED
	resource string
	object   []byte
}

func newAPIServer(t testing.TB) *apiServer {
	t.Helper()
	s := &apiServer{objects: map[string]object{}, unknown: map[string]bool{}, ending: map[string]bool{}, looks: map[string]int{}, frozen: map[string]bool{}}
	s.more = sync.NewCond(&s.mu)
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(func() {
		s.change(func() { s.down = true })
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *apiServer) config() *rest.Config {
	return &rest.Config{Host: s.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"}}
}

// change changes something about the server, and tells whoever waits.
func (s *apiServer) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	s.more.Broadcast()
}

// goDown cuts all connections and takes no new ones until up is called.
func (s *apiServer) goDown() (up func()) {
	s.change(func() { s.down = true })
	s.CloseClientConnections()
	return func() { s.change(func() { s.down = false }) }
}

// plural of a kind.
func plural(kind string) string {
	kind = strings.ToLower(kind)
	if s, ok := strings.CutSuffix(kind, "y"); ok {
		return s + "ies"
	}
	return kind + "s"
}

func pathOf(u *unstructured.Unstructured) string {
	prefix := "/apis/" + u.GetAPIVersion()
	if u.GetAPIVersion() == "v1" {
		prefix = "/api/v1"
	}
	if ns := u.GetNamespace(); ns != "" {
		prefix += "/namespaces/" + ns
	}
	return prefix + "/" + plural(u.GetKind()) + "/" + u.GetName()
}

// apply creates an object, or changes its spec and labels, as kubectl does.
func (s *apiServer) apply(in *unstructured.Unstructured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path, u := pathOf(in), in.DeepCopy()
	kind := "ADDED"
	if old, ok := s.objects[path]; ok {
		was := unstructured.Unstructured{Object: old}
		kind = "MODIFIED"
		u.SetUID(was.GetUID())
		u.SetCreationTimestamp(was.GetCreationTimestamp())
		u.SetGeneration(was.GetGeneration() + 1)
		if old["status"] != nil {
			u.Object["status"] = old["status"]
		}
	} else {
		s.serial++
		u.SetUID(types.UID(fmt.Sprint("uid-", s.serial)))
		u.SetGeneration(1)
		u.SetCreationTimestamp(metav1.NewTime(time.Date(2026, 11, 23, 12, 0, s.serial, 0, time.UTC)))
	}
	s.put(path, kind, u.Object)
}

// put stores an object; the lock is held.
func (s *apiServer) put(path, kind string, o object) {
	u := unstructured.Unstructured{Object: o}
	version := len(s.events) + 1
	u.SetResourceVersion(strconv.Itoa(version))
	s.objects[path] = o
	if kind == "DELETED" {
		delete(s.objects, path)
	}
	data, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	parts := strings.Split(path, "/")
	s.events = append(s.events, event{version, kind, parts[len(parts)-2], data})
	s.more.Broadcast()
}

func (s *apiServer) remove(u *unstructured.Unstructured) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.objects[pathOf(u)]; ok {
		s.put(pathOf(u), "DELETED", o)
	}
}

// get returns an object as it stands, nil where there is none.
func (s *apiServer) get(u *unstructured.Unstructured) *unstructured.Unstructured {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, ok := s.objects[pathOf(u)]
	if !ok {
		return nil
	}
	return (&unstructured.Unstructured{Object: o}).DeepCopy()
}

// written counts the changes by clients whose METHOD path has all parts.
func (s *apiServer) written(parts ...string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.writes {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(w, p) }) {
			n++
		}
	}
	return n
}

func (s *apiServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	down, refuse := s.down, s.refuse
	if down {
		s.away++
	}
	s.mu.Unlock()
	if down {
		panic(http.ErrAbortHandler)
	}
	if refuse != nil {
		if code := refuse(r); code != 0 {
			fail(w, code, http.StatusText(code))
			return
		}
	}
	switch parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/"); {
	case r.URL.Path == "/api":
		answer(w, 200, object{"kind": "APIVersions", "versions": []string{"v1"}})
	case r.URL.Path == "/apis":
		answer(w, 200, s.groups())
	case r.URL.Path == "/api/v1":
		answer(w, 200, resourceList("v1", resource("Namespace", false), resource("Node", false)))
	case parts[0] == "apis" && len(parts) == 3:
		s.resources(w, parts[1], parts[2])
	case s.lacks(parts):
		fail(w, 404, "the server could not find the requested resource")
	case r.URL.Query().Get("watch") != "":
		s.watch(w, r, parts[len(parts)-1])
	default:
		s.object(w, r)
	}
}

// asked counts the questions after the kinds of a group.
func (s *apiServer) asked(group string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks[group]
}

// lacks reports whether a path is of a kind that the server does not know.
func (s *apiServer) lacks(parts []string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for kind := range s.unknown {
		if slices.Contains(parts, plural(kind)) {
			return true
		}
	}
	return false
}

func (s *apiServer) groups() object {
	s.mu.Lock()
	defer s.mu.Unlock()
	var groups []object
	for _, gvk := range Kinds() {
		gv := object{"groupVersion": gvk.GroupVersion().String(), "version": gvk.Version}
		if !s.unknown[gvk.Group] && !slices.ContainsFunc(groups, func(g object) bool { return g["name"] == gvk.Group }) {
			groups = append(groups, object{"name": gvk.Group, "versions": []object{gv}, "preferredVersion": gv})
		}
	}
	return object{"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
}

func resource(kind string, namespaced bool) object {
	return object{"name": plural(kind), "singularName": strings.ToLower(kind), "kind": kind, "namespaced": namespaced, "verbs": []string{"delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"}}
}

func resourceList(groupVersion string, resources ...object) object {
	return object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": groupVersion, "resources": resources}
}

func (s *apiServer) resources(w http.ResponseWriter, group, version string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks[group]++
	var list []object
	for _, gvk := range Kinds() {
		if gvk.Group == group && gvk.Version == version && !s.unknown[group] && !s.unknown[gvk.Kind] {
			r := resource(gvk.Kind, strings.HasPrefix(gvk.Kind, "Namespaced") || gvk.Kind == "CertificateStore")
			if s.ending[gvk.Kind] {
				r["verbs"] = []string{"delete", "deletecollection", "get", "list", "watch"}
			}
			list = append(list, r)
		}
	}
	if list == nil {
		fail(w, 404, "not found")
		return
	}
	answer(w, 200, resourceList(group+"/"+version, list...))
}

// seen is an object as the client wants to see it: whole, or its metadata alone.
func seen(r *http.Request, data []byte) json.RawMessage {
	if !strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") {
		return data
	}
	var o object
	if err := json.Unmarshal(data, &o); err != nil {
		panic(err)
	}
	out, err := json.Marshal(object{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": o["metadata"]})
	if err != nil {
		panic(err)
	}
	return out
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string) {
	if r.URL.Query().Get("sendInitialEvents") != "" {
		fail(w, 422, "sendInitialEvents is not known here") // the client then lists
		return
	}
	from, _ := strconv.Atoi(r.URL.Query().Get("resourceVersion"))
	w.Header().Set("Content-Type", "application/json")
	flusher := w.(http.Flusher)
	flusher.Flush()
	gone := r.Context().Done()
	go func() {
		<-gone
		s.change(func() {})
	}()
	for {
		s.mu.Lock()
		for r.Context().Err() == nil && !s.down && (len(s.events) <= from || s.frozen[resource]) {
			s.more.Wait()
		}
		next, down := s.events[min(from, len(s.events)):], s.down
		s.mu.Unlock()
		if down || r.Context().Err() != nil {
			return
		}
		for _, e := range next {
			if from = e.version; e.resource == resource {
				_ = json.NewEncoder(w).Encode(object{"type": e.kind, "object": seen(r, e.object)})
			}
		}
		flusher.Flush()
	}
}

func (s *apiServer) object(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		fail(w, 400, err.Error())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path, status := strings.CutSuffix(r.URL.Path, "/status")
	if r.Method != http.MethodGet {
		s.writes = append(s.writes, r.Method+" "+r.URL.Path)
	}
	o, ok := s.objects[path]
	switch {
	case r.Method == http.MethodPost:
		var in object
		if err := json.Unmarshal(body, &in); err != nil {
			fail(w, 400, err.Error())
			return
		}
		u := unstructured.Unstructured{Object: in}
		s.serial++
		u.SetUID(types.UID(fmt.Sprint("uid-", s.serial)))
		s.put(path+"/"+u.GetName(), "ADDED", in)
		answer(w, 201, in)
	case r.Method == http.MethodGet && !ok && s.isList(path):
		s.list(w, r, path)
	case !ok:
		fail(w, 404, "not found")
	case r.Method == http.MethodGet:
		answer(w, 200, o)
	case r.Method == http.MethodPut:
		var in object
		if err := json.Unmarshal(body, &in); err != nil {
			fail(w, 400, err.Error())
			return
		}
		s.put(path, "MODIFIED", in)
		answer(w, 200, in)
	default:
		s.patch(w, path, status, o, body)
	}
}

// isList reports whether a path ends in a resource and not in an object's name.
func (s *apiServer) isList(path string) bool {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	return len(parts) == map[string]int{"api": 3, "apis": 4}[parts[0]]
}

func (s *apiServer) list(w http.ResponseWriter, r *http.Request, path string) {
	var items []json.RawMessage
	parts := strings.Split(path, "/")
	for p, o := range s.objects {
		if own := strings.Split(p, "/"); own[len(own)-2] == parts[len(parts)-1] {
			data, err := json.Marshal(o)
			if err != nil {
				panic(err)
			}
			items = append(items, seen(r, data))
		}
	}
	kind, version := "List", "v1"
	if strings.Contains(r.Header.Get("Accept"), "as=PartialObjectMetadata") {
		kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
	}
	answer(w, 200, object{"kind": kind, "apiVersion": version, "metadata": object{"resourceVersion": strconv.Itoa(len(s.events))}, "items": items})
}

// patch merges (RFC 7386); the subresource status changes nothing else.
func (s *apiServer) patch(w http.ResponseWriter, path string, status bool, o object, body []byte) {
	old, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	var in, merged object
	data, err := jsonpatch.MergePatch(old, body)
	if err != nil || json.Unmarshal(data, &merged) != nil || json.Unmarshal(body, &in) != nil {
		fail(w, 400, "no merge patch")
		return
	}
	was, now := unstructured.Unstructured{Object: o}, unstructured.Unstructured{Object: merged}
	if now.GetUID() != was.GetUID() {
		fail(w, 409, "the uid in the precondition is another")
		return
	}
	if status {
		next := was.DeepCopy().Object
		next["status"] = merged["status"]
		merged = next
	}
	s.put(path, "MODIFIED", merged)
	answer(w, 200, merged)
}

func fail(w http.ResponseWriter, code int, message string) {
	reason := map[int]string{404: "NotFound", 409: "Conflict", 403: "Forbidden", 422: "Invalid"}[code]
	answer(w, code, object{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "message": message, "code": code})
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v)
}

func uidOf(s string) types.UID { return types.UID(s) }

func testDeps() compile.Deps {
	return compile.Deps{DockerConfig: func(string) oci.CredentialSource { return nil }}
}

// unseen is how the client tells of a deletion that it noticed only later.
func unseen(o any) toolscache.DeletedFinalStateUnknown {
	return toolscache.DeletedFinalStateUnknown{Key: "x", Obj: o}
}
