package service_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testotlp"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/tracing"
)

const (
	traceID     = "4bf92f3577b34da6a3ce929d0e0e4736"
	traceParent = "00-" + traceID + "-00f067aa0ba902b7-01"
)

// observedHeaders are those of the requests that a registry gets.
type observedHeaders struct {
	mu  sync.Mutex
	all []http.Header
}

func observeHeaders(reg *testregistry.Registry) *observedHeaders {
	o := &observedHeaders{}
	reg.Inject(testregistry.Fault{Match: func(req *http.Request) bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.all = append(o.all, req.Header.Clone())
		return false
	}})
	return o
}

func (o *observedHeaders) take() []http.Header {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.all
	o.all = nil
	return all
}

// traced asks as the API server does, with headers of a trace.
func (r *running) traced(header http.Header, images ...string) *admissionv1.AdmissionResponse {
	r.t.Helper()
	req := r.request(r.t.Context(), server.PathValidate, reviewOf(pod("team", images...)))
	for k, v := range header {
		req.Header[k] = v
	}
	resp := testhouse.Need(r.client.Do(req))(r.t)
	defer resp.Body.Close()
	var rv admissionv1.AdmissionReview
	if err := json.NewDecoder(resp.Body).Decode(&rv); err != nil || rv.Response == nil {
		r.t.Fatalf("HTTP %d: %v", resp.StatusCode, err)
	}
	return rv.Response
}

// TestTraceOfTheAPIServer is taken up: its id stands in the decision and in the audit
// annotation, and registries are told of it. What else comes with it ends here, and
// so does what is no traceparent. Who has not proven to be the API server does not
// decide what registries record.
func TestTraceOfTheAPIServer(t *testing.T) {
	t.Parallel()
	for name, proven := range map[string]bool{"proven": true, "anybody": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, testhouse.Options{}, service.Options{TrustNetwork: proven}, policy("prod", ""))
			headers := observeHeaders(r.Registry)
			_, image := r.Signed("traced", r.Signer)
			want := traceParent
			if !proven {
				want = strings.TrimSuffix(traceParent, "01") + "00"
			}
			headers.take()
			for range 2 { // the second time all is known
				a := r.traced(http.Header{"Traceparent": {traceParent}, "Tracestate": {"vendor=secret"}, "Baggage": {"user=secret"}}, image)
				if !a.Allowed || a.AuditAnnotations["traceID"] != traceID {
					t.Errorf("%v, annotations %v", a.Allowed, a.AuditAnnotations)
				}
				eventually(t, "the decision's line", func() bool { return strings.Contains(r.audit.String(), `"traceID":"`+traceID+`"`) })
			}
			asked := headers.take()
			if len(asked) < 3 {
				t.Errorf("%d requests", len(asked))
			}
			for _, h := range asked {
				if h.Get("Traceparent") != want || h["Tracestate"] != nil || h["Baggage"] != nil {
					t.Errorf("a registry is told %v, want %q", h, want)
				}
			}
			_, image = r.Signed("untraced", r.Signer)
			headers.take()
			for _, values := range [][]string{nil, {"00-" + traceID}, {traceParent, traceParent}, {strings.ToUpper(traceParent)}} {
				a := r.traced(http.Header{"Traceparent": values}, image)
				if !a.Allowed || a.AuditAnnotations["traceID"] != "" {
					t.Errorf("%q: %v, annotations %v", values, a.Allowed, a.AuditAnnotations)
				}
			}
			for _, h := range headers.take() {
				if h["Traceparent"] != nil {
					t.Errorf("a registry is told of no trace: %v", h)
				}
			}
			eventually(t, "six decisions", func() bool { return strings.Count(r.audit.String(), `{"kind":"decision"`) == 6 })
			if d := r.lastDecision("@"); d.TraceID != "" {
				t.Errorf("a trace that is none: %q", d.TraceID)
			}
		})
	}
}

// TestOneTraceFromTheAPIServerToTheRegistry: the spans that the collector gets lead from
// the API server's to the request that the registry got.
func TestOneTraceFromTheAPIServerToTheRegistry(t *testing.T) {
	t.Parallel()
	c := testotlp.New(t)
	config := testhouse.Need(tracing.FromEnvironment(func(name string) string {
		return map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_CERTIFICATE": c.CAFile}[name]
	}))(t)
	r := start(t, testhouse.Options{}, service.Options{TrustNetwork: true, Tracing: config}, policy("prod", ""))
	headers := observeHeaders(r.Registry)
	_, image := r.Signed("traced", r.Signer)
	headers.take()
	if a := r.traced(http.Header{"Traceparent": {traceParent}}, image); !a.Allowed || a.AuditAnnotations["traceID"] != traceID {
		t.Fatalf("%+v", a)
	}
	asked := headers.take()
	if a := r.traced(http.Header{"Traceparent": {strings.TrimSuffix(traceParent, "01") + "00"}}, image); a.AuditAnnotations["traceID"] != traceID {
		t.Error("a trace that is not recorded has no id")
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	spans := map[string]testotlp.Span{}
	roots := 0
	for _, s := range c.Spans() {
		spans[s.ID] = s
		if s.Parent == "00f067aa0ba902b7" {
			roots++
		}
		if s.Trace != traceID {
			t.Errorf("%s is of another trace", s.Name)
		}
	}
	if roots != 1 || len(asked) < 3 {
		t.Fatalf("%d requests are recorded; %d of the registry", roots, len(asked))
	}
	for _, h := range asked {
		id := strings.Split(h.Get("Traceparent"), "-")
		s, ok := spans[id[2]]
		if !ok || id[1] != traceID || s.Text["server.address"] != r.Registry.Host {
			t.Fatalf("a request with %v is not recorded", h)
		}
		var way []string
		for ok {
			way = append(way, s.Name)
			s, ok = spans[s.Parent]
		}
		if n := len(way); n < 4 || way[n-1] != "admission-validate" || way[n-2] != "image" {
			t.Errorf("from the registry back to the request: %v", way)
		}
	}
}
