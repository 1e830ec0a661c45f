package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// one is a configuration with one engine.
type one struct{ *boltseal.Engine }

func (o one) EngineFor(string) *boltseal.Engine { return o.Engine }
func (one) Close()                              {}
func (one) PerPod(*boltseal.Engine) bool        { return false }
func (one) ForStranger(e *boltseal.Engine) (*boltseal.Engine, bool) {
	return e, false
}
func (one) ForPod(_ context.Context, e *boltseal.Engine, _ string, _ []string, _ string) *boltseal.Engine {
	return e
}

// sink takes an answer as net/http would.
type sink struct {
	header http.Header
	n      int
}

func (s *sink) Header() http.Header           { return s.header }
func (s *sink) WriteHeader(int)               {}
func (*sink) SetReadDeadline(time.Time) error { return nil }
func (s *sink) Write(b []byte) (int, error)   { s.n += len(b); return len(b), nil }

// BenchmarkVerify is what an answer that is known costs beside net/http.
func BenchmarkVerify(b *testing.B) {
	for _, n := range []int{1, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := testhouse.New(b, testhouse.Options{})
			var live snapshot.Live
			live.Swap(snapshot.Snapshot{Engines: one{h.Engine}, Memo: memo.New(memo.Options{AllowTTL: time.Hour, Encode: func(e *boltseal.Engine, r *boltseal.Result) memo.Encoded {
				own, alike := externaldata.EncodeReport(externaldata.Report020, "0123456789abcdef", r)
				return memo.Encoded{Report: own, Alike: string(alike), Audit: audit.EncodeVerdict("0123456789abcdef", r, nil)}
			}})})
			s := server.New(server.Options{Live: &live, Metrics: server.NewMetrics(server.Sources{}), Audit: audit.NewLog(io.Discard, 0)}).Handler()
			var keys []string
			for i := range n {
				_, pinned := h.Signed(fmt.Sprint("v", i), h.Signer)
				keys = append(keys, pinned)
			}
			body := testhouse.Need(json.Marshal(map[string]any{"apiVersion": externaldata.V1Beta1, "kind": "ProviderRequest", "request": map[string]any{"keys": keys}}))(b)
			r := bytes.NewReader(body)
			req := httptest.NewRequest(http.MethodPost, server.PathVerify, io.NopCloser(r))
			w := &sink{header: http.Header{}}
			s.ServeHTTP(w, req)
			if w.n < 500*n {
				b.Fatalf("an answer of %d bytes", w.n)
			}
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(body)
				clear(w.header)
				s.ServeHTTP(w, req)
			}
		})
	}
}

// BenchmarkReview is what an AdmissionReview of a Pod with five containers that are
// known costs beside net/http.
func BenchmarkReview(b *testing.B) {
	h := testhouse.New(b, testhouse.Options{})
	set := testhouse.Need(compile.Decode([]compile.Source{{Name: "policy.yaml", Data: []byte("apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: all}\nspec: {}\n")}}))(b)
	var live snapshot.Live
	live.Swap(snapshot.Snapshot{Engines: one{h.Engine}, Policies: integrity.NewSet(set.Integrity()), Memo: memo.New(memo.Options{AllowTTL: time.Hour, Encode: func(e *boltseal.Engine, r *boltseal.Result) memo.Encoded {
		return memo.Encoded{Audit: audit.EncodeVerdict("0123456789abcdef", r, nil)}
	}})})
	s := server.New(server.Options{Live: &live, Metrics: server.NewMetrics(server.Sources{}), Audit: audit.NewLog(io.Discard, 0)}).Handler()
	var containers []map[string]string
	for i := range 5 {
		_, pinned := h.Signed(fmt.Sprint("v", i), h.Signer)
		containers = append(containers, map[string]string{"name": fmt.Sprint("c", i), "image": pinned, "imagePullPolicy": "IfNotPresent"})
	}
	body := testhouse.Need(json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": map[string]any{
		"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "kind": map[string]string{"version": "v1", "kind": "Pod"}, "namespace": "team", "operation": "CREATE",
		"userInfo": map[string]any{"username": "system:serviceaccount:kube-system:replicaset-controller", "groups": []string{"system:authenticated"}},
		"object":   map[string]any{"metadata": map[string]any{"generateName": "app-", "labels": map[string]string{"app": "x", "tier": "web"}}, "spec": map[string]any{"containers": containers, "serviceAccountName": "default"}}}}))(b)
	r := bytes.NewReader(body)
	req := httptest.NewRequest(http.MethodPost, server.PathValidate, io.NopCloser(r))
	w := &sink{header: http.Header{}}
	s.ServeHTTP(w, req)
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(body)
		clear(w.header)
		s.ServeHTTP(w, req)
	}
	if w.n < 50 {
		b.Fatalf("an answer of %d bytes", w.n)
	}
}
