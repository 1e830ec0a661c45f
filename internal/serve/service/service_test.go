package service_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

func TestGatekeeper(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{})
	signed, pinned := r.Signed("signed", r.Signer)
	unsigned, _ := r.Signed("unsigned")
	stranger, _ := r.Signed("stranger", r.Stranger)
	keys := []string{signed, unsigned, "[team]" + stranger, signed, "NO REFERENCE", "[open", "[team]" + pinned}
	items := r.gatekeeper(server.PathVerify, keys...)
	for i, want := range []bool{true, false, false, true, false, false, true} {
		if items[i].trusted() != want {
			t.Errorf("%s: %s %s", keys[i], items[i].Value, items[i].Error)
		}
	}
	if items[4].Error == "" || items[5].Error == "" || items[0].Error != "" {
		t.Errorf("errors: %+v", items)
	}
	_, digest, _ := strings.Cut(pinned, "@")
	for i, it := range r.gatekeeper(server.PathMutate, signed, pinned, "NO REFERENCE", r.Registry.Ref(testhouse.Repo, "gone")) {
		want := fmt.Sprintf("%q", pinned)
		if i < 2 && (string(it.Value) != want || it.Error != "") || i >= 2 && it.Error == "" {
			t.Errorf("mutate %s: %s %s", it.Key, it.Value, it.Error)
		}
	}
	keep := start(t, testhouse.Options{}, service.Options{Server: server.Options{KeepTags: true}, Report: externaldata.Report010})
	tag, _ := keep.Signed("v", keep.Signer)
	if it := keep.gatekeeper(server.PathMutate, tag)[0]; !strings.HasPrefix(string(it.Value), `"`+tag+"@sha256:") {
		t.Errorf("with the tag kept: %s", it.Value)
	}
	if it := keep.gatekeeper(server.PathVerify, tag)[0]; !strings.Contains(string(it.Value), `"version":"0.1.0"`) {
		t.Errorf("report: %s", it.Value)
	}
	_ = digest
}

func TestOneKeyOfTenHangs(t *testing.T) {
	t.Parallel()
	testwait.Grow(t, time.Second, func(limit time.Duration) error { // what the nine take
		r := start(t, testhouse.Options{}, service.Options{Server: server.Options{VerifyTimeout: limit}})
		var keys []string
		for i := range 10 {
			_, pinned := r.Signed(fmt.Sprint("v", i), r.Signer)
			keys = append(keys, pinned)
		}
		_, digest, _ := strings.Cut(keys[4], "@")
		r.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang, Class: testregistry.Referrers, Target: digest})
		items := r.gatekeeper(server.PathVerify, keys...)
		if items[4].trusted() || !strings.Contains(string(items[4].Value), "resolving descriptor") || !strings.Contains(string(items[4].Value), r.Registry.Host) {
			t.Errorf("the one that hangs: %s", items[4].Value)
		}
		for i, it := range items {
			if it.trusted() != (i != 4) {
				return fmt.Errorf("%d: %s %s", i, it.Value, it.Error)
			}
		}
		return nil
	})
}

// TestOneRegistryHangs: a hundred keys of a registry that never answers stand before
// three of another, which are trusted nevertheless.
func TestOneRegistryHangs(t *testing.T) {
	t.Parallel()
	silent := testhouse.New(t, testhouse.Options{})
	t.Cleanup(silent.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang}))
	testwait.Grow(t, time.Second, func(limit time.Duration) error { // what the three take
		r := start(t, testhouse.Options{}, service.Options{Server: server.Options{VerifyTimeout: limit}})
		var keys []string
		for i := range 100 {
			keys = append(keys, silent.Registry.Ref("x", fmt.Sprint("v", i)))
		}
		for i := range 3 {
			_, pinned := r.Signed(fmt.Sprint("v", i), r.Signer)
			keys = append(keys, pinned)
		}
		for i, it := range r.gatekeeper(server.PathVerify, keys...) {
			if it.trusted() != (i >= 100) {
				return fmt.Errorf("%d: %s %s", i, it.Value, it.Error)
			}
		}
		return nil
	})
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{Exempt: []string{"boltseal-system"}},
		policy("prod", "match: {excludedNamespaces: [dev, audit]}"), policy("dev", "match: {namespaces: [dev]}, enforcementAction: warn, resolveTags: false"),
		policy("audit", "match: {namespaces: [audit]}, enforcementAction: dryrun"))
	tag, pinned := r.Signed("signed", r.Signer)
	unsigned, _ := r.Signed("unsigned")
	_, digest, _ := strings.Cut(pinned, "@")

	if a := r.validate("team", pinned); !a.Allowed || len(a.Warnings) != 0 || a.AuditAnnotations["decision"] == "" {
		t.Errorf("signed: %+v", a)
	}
	d := r.validate("team", pinned, unsigned)
	if d.Allowed || d.Result.Code != 403 {
		t.Fatalf("unsigned: %+v", d)
	}
	for _, part := range []string{`container "c1"`, unsigned, "nothing signed", `policy "prod"`, "What to do: sign the image", "decision "} {
		if !strings.Contains(d.Result.Message, part) {
			t.Errorf("the denial does not say %q:\n%s", part, d.Result.Message)
		}
	}
	if w := r.validate("dev", unsigned); !w.Allowed || len(w.Warnings) != 1 || !strings.Contains(w.Warnings[0], "nothing signed") {
		t.Errorf("warn: %+v", w)
	}
	if a := r.validate("audit", unsigned); !a.Allowed || len(a.Warnings) != 0 || !strings.Contains(a.AuditAnnotations["dryrun"], "nothing signed") {
		t.Errorf("dryrun: %+v", a)
	}
	for _, ns := range []string{"kube-system", "boltseal-system"} {
		if a := r.validate(ns, unsigned); !a.Allowed {
			t.Errorf("%s: %+v", ns, a)
		}
	}
	if got := r.patched("team", tag, unsigned, pinned); got[0] != tag+"@"+digest || got[1] != unsigned || got[2] != pinned {
		t.Errorf("pinned: %q", got)
	}
	if got := r.patched("dev", tag); got[0] != tag {
		t.Errorf("resolveTags is off: %q", got)
	}
	if a := r.validate("dev", tag); !a.Allowed || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "may pull something else") {
		t.Errorf("a tag that is not pinned: %+v", a)
	}
	// Validation judges what finally stands there, whoever wrote it.
	if a := r.validate("team", r.patched("team", tag)...); !a.Allowed || len(a.Warnings) != 0 {
		t.Errorf("after pinning: %+v", a)
	}
	update := pod("team", unsigned)
	update.Operation, update.OldObject = admissionv1.Update, update.Object
	if a := r.review(server.PathValidate, update); !a.Allowed {
		t.Errorf("an update that changes no image: %+v", a)
	}
	update.OldObject = pod("team", pinned).Object
	if a := r.review(server.PathValidate, update); a.Allowed {
		t.Error("an update to an unsigned image")
	}
	r.checkAudit(d.AuditAnnotations["decision"])
}

// checkAudit finds the decision and its evidence in the audit log.
func (r *running) checkAudit(id string) {
	r.t.Helper()
	eventually(r.t, "the audit line", func() bool { return strings.Contains(r.audit.String(), `"id":"`+id+`"`) })
	for line := range strings.Lines(r.audit.String()) {
		if strings.Contains(line, "PRIVATE") || strings.Contains(line, "BEGIN CERTIFICATE") {
			r.t.Errorf("the audit log has a PEM: %s", line)
		}
	}
}

func TestWithoutPolicies(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{})
	unsigned, _ := r.Signed("unsigned")
	if a := r.validate("team", unsigned); !a.Allowed {
		t.Errorf("nobody asked for trusted images: %+v", a)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	big := []byte(`{"keys":"` + strings.Repeat("x", 8<<20) + `"}`)
	for _, path := range []string{server.PathValidate, server.PathPin} {
		for name, tt := range map[string]struct {
			body   []byte
			status int
		}{"null": {[]byte("null"), 400}, "nothing": {nil, 400}, "too large": {big, 413}, "another version": {[]byte(`{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u"}}`), 200}} {
			status, b := r.post(path, tt.body)
			if status != tt.status || status == 200 && !strings.Contains(string(b), `"allowed":false`) {
				t.Errorf("%s %s: HTTP %d: %s", path, name, status, b)
			}
		}
	}
	for _, path := range []string{server.PathVerify, server.PathMutate} {
		for name, body := range map[string]string{"null": "null", "nothing": "", "another kind": `{"kind":"Pod"}`} {
			if status, b := r.post(path, []byte(body)); status != 200 || !strings.Contains(string(b), `"systemError":`) {
				t.Errorf("%s %s: HTTP %d: %s", path, name, status, b)
			}
		}
		if status, _ := r.post(path, big); status != 413 {
			t.Errorf("%s: HTTP %d for too large a body", path, status)
		}
	}
	keys := make([]string, externaldata.MaxKeys)
	for i := range keys {
		keys[i] = fmt.Sprintf("Not %d", i)
	}
	if items := r.gatekeeper(server.PathVerify, keys...); items[9999].Error == "" {
		t.Error("a key without an answer")
	}
	resp, err := r.client.Get(r.base + server.PathVerify)
	if err != nil || resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET: %v, %v", resp, err)
	}
	_ = resp.Body.Close()
	if status, b := r.post("/other", nil); status != 404 || !strings.Contains(string(b), server.PathVerify) {
		t.Errorf("another path: HTTP %d: %s", status, b)
	}
	// A slow client costs itself only.
	conn := testhouse.Need(net.Dial("tcp", strings.TrimPrefix(r.base, "http://")))(t)
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{", server.PathVerify); err != nil {
		t.Fatal(err)
	}
	tag, _ := r.Signed("v", r.Signer)
	if !r.gatekeeper(server.PathVerify, tag)[0].trusted() {
		t.Error("a slow client holds others up")
	}
}

func TestConfigurationIsLive(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	_, signed := r.Signed("signed", r.Signer)
	_, stranger := r.Signed("stranger", r.Stranger)
	if status, text := r.ready(); status != 200 || !strings.Contains(text, "generation 1") {
		t.Fatalf("HTTP %d: %s", status, text)
	}
	if !r.validate("a", signed).Allowed || r.validate("a", stranger).Allowed {
		t.Fatal("wrong from the start")
	}
	r.write(config(r.Stranger.Root().PEM(), policy("prod", "")))
	eventually(t, "the stranger is trusted now", func() bool { return r.validate("a", stranger).Allowed })
	if r.validate("a", signed).Allowed {
		t.Error("a root that was taken away still counts")
	}
	r.write("kind: Storr\n" + config(r.Signer.Root().PEM(), policy("prod", "")))
	eventually(t, "the problem is told", func() bool {
		status, text := r.ready()
		return status == 200 && strings.Contains(text, "configuration does not apply") && strings.Contains(text, "config.yaml:")
	})
	if !r.validate("a", stranger).Allowed {
		t.Error("a broken edit ended the last good configuration")
	}
	r.write(config(r.Signer.Root().PEM(), policy("prod", "")))
	eventually(t, "mended", func() bool { return r.validate("a", signed).Allowed && !r.validate("a", stranger).Allowed })
	if _, text := r.ready(); strings.Contains(text, "configuration does not apply") || !strings.Contains(text, "generation 3") {
		t.Errorf("after mending: %s", text)
	}
}

func TestNotReadyWithoutConfiguration(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, "kind: Nonsense\n")
	_, signed := r.Signed("signed", r.Signer)
	if status, _ := r.ready(); status != http.StatusServiceUnavailable {
		t.Errorf("ready: HTTP %d", status)
	}
	if a := r.validate("team", signed); a.Allowed || !strings.Contains(a.Result.Message, "no configuration") {
		t.Errorf("%+v", a)
	}
	if a := r.validate("kube-system", signed); !a.Allowed {
		t.Error("kube-system must always come up")
	}
	if got := r.patched("team", signed); got[0] != signed {
		t.Errorf("%q", got)
	}
	if status, b := r.post(server.PathVerify, []byte(`{"apiVersion":"externaldata.gatekeeper.sh/v1alpha1","kind":"ProviderRequest","request":{"keys":["a"]}}`)); status != 200 || !strings.Contains(string(b), "systemError") || !strings.Contains(string(b), "v1alpha1") {
		t.Errorf("HTTP %d: %s", status, b)
	}
	r.write(config(r.Signer.Root().PEM(), policy("prod", "")))
	eventually(t, "ready", func() bool { status, _ := r.ready(); return status == 200 })
	if !r.validate("team", signed).Allowed {
		t.Error("not allowed")
	}
}
