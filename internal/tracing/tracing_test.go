package tracing_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testotlp"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/internal/tracing"
	"github.com/boltseal/boltseal/internal/tracing/tracecontext"
)

const secret = "s3cr3t-of-the-collector"

func env(pairs map[string]string) func(string) string {
	return func(name string) string { return pairs[name] }
}

func tracer(t *testing.T, log *slog.Logger, pairs map[string]string) *tracing.Tracer {
	t.Helper()
	c, err := tracing.FromEnvironment(env(pairs))
	if err != nil || c == nil {
		t.Fatalf("%+v, %v", c, err)
	}
	tr, err := tracing.New(c, log, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// TestOffUnlessACollectorIsNamed: nothing is recorded by default, and what switches
// tracing off wins.
func TestOffUnlessACollectorIsNamed(t *testing.T) {
	t.Parallel()
	const to = "https://collector.example:4318"
	for name, pairs := range map[string]map[string]string{
		"nothing":     {},
		"disabled":    {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": to},
		"no exporter": {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": to},
		"a name only": {"OTEL_SERVICE_NAME": "x", "OTEL_TRACES_SAMPLER": "always_on"},
	} {
		if c, err := tracing.FromEnvironment(env(pairs)); c != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	for endpoint, pairs := range map[string]map[string]string{
		"http://localhost:4318/v1/traces": {"OTEL_TRACES_EXPORTER": "otlp"},
		to + "/v1/traces":                 {"OTEL_EXPORTER_OTLP_ENDPOINT": to},
		to + "/base/v1/traces":            {"OTEL_EXPORTER_OTLP_ENDPOINT": to + "/base/"},
		"http://c.example/as/it/is":       {"OTEL_EXPORTER_OTLP_ENDPOINT": to, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c.example/as/it/is"},
		"https://c.example/":              {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c.example"},
	} {
		c, err := tracing.FromEnvironment(env(pairs))
		if err != nil || c.Endpoint.String() != endpoint || c.Timeout != 10*time.Second || c.Sampler != "parentbased_always_on" || c.Resource["service.name"] != "boltseal" {
			t.Errorf("%s: %+v, %v", endpoint, c, err)
		}
	}
}

// TestWrongVariables: each is named, and never what is in it.
func TestWrongVariables(t *testing.T) {
	t.Parallel()
	for name, values := range map[string][]string{
		"OTEL_TRACES_EXPORTER":               {"zipkin" + secret},
		"OTEL_EXPORTER_OTLP_ENDPOINT":        {secret, "ftp://" + secret, "https://u:" + secret + "@c.example", "https://c.example?key=" + secret, "https://c.example#" + secret, "https://%zz" + secret},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {"collector:4318/" + secret},
		"OTEL_EXPORTER_OTLP_PROTOCOL":        {"grpc"},
		"OTEL_EXPORTER_OTLP_HEADERS":         {secret, "=" + secret, "a=%zz" + secret, "a b=" + secret, "a=%0a" + secret, strings.Repeat("a"+secret+"=1,", 1) + "x=" + strings.Repeat(secret, 1000)},
		"OTEL_EXPORTER_OTLP_TRACES_HEADERS":  {"authorization: " + secret},
		"OTEL_EXPORTER_OTLP_CERTIFICATE":     {"/nowhere/" + secret},
		"OTEL_EXPORTER_OTLP_CLIENT_KEY":      {"/nowhere/" + secret},
		"OTEL_EXPORTER_OTLP_TIMEOUT":         {"0", "-1", "10s", "99999999"},
		"OTEL_EXPORTER_OTLP_COMPRESSION":     {"zstd"},
		"OTEL_RESOURCE_ATTRIBUTES":           {"a", "a=%zz"},
		"OTEL_TRACES_SAMPLER":                {"alway_on", "jaeger_remote"},
	} {
		for _, v := range values {
			pairs := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "https://c.example"}
			pairs[name] = v
			c, err := tracing.FromEnvironment(env(pairs))
			if c != nil || err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), secret) {
				t.Errorf("%s=%.80q: %+v, %v", name, v, c, err)
			}
		}
	}
	for _, v := range []string{"x", "-0.1", "1.1", "NaN"} {
		_, err := tracing.FromEnvironment(env(map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": v}))
		if err == nil {
			t.Errorf("a ratio of %s", v)
		}
	}
}

var parent = tracecontext.Parse([]string{"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"})

// TestExport: spans arrive at a collector over TLS as what they are, with what it wants
// to be shown.
func TestExport(t *testing.T) {
	t.Parallel()
	c := testotlp.New(t)
	for _, compression := range []string{"none", "gzip"} {
		tr := tracer(t, slog.New(slog.DiscardHandler), map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": c.URL + "/own/path", "OTEL_EXPORTER_OTLP_CERTIFICATE": c.CAFile, "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
			"OTEL_EXPORTER_OTLP_HEADERS": "X-Key=overridden,x-all=1", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "X-Key=" + secret + "%20x", "OTEL_RESOURCE_ATTRIBUTES": "service.name=other,k8s.cluster.name=a%20b", "OTEL_SERVICE_NAME": compression})
		s := tr.Request("admission-validate", parent, true)
		ctx, endImage := s.Image(s.Context(t.Context()), "registry.example/"+strings.Repeat("é", 1000))
		ctx, endList := boltseal.BeginStep(ctx, boltseal.Step{Stage: boltseal.StageReferrers, Host: "registry.example"})
		within, endRequest := boltseal.BeginStep(ctx, boltseal.Step{Stage: boltseal.StageRequest, Host: "registry.example", Method: "GET"})
		told := boltseal.TraceParentOf(within)
		endRequest(boltseal.Ending{Status: 503, Err: boltseal.ErrUnavailable})
		endList(boltseal.Ending{})
		endImage(true)
		s.Set("boltseal.decision.id", "0123456789abcdef")
		s.End(200)
		tr.Close(testwait.Context(t))
		by := map[string]testotlp.Span{}
		for _, s := range c.Spans() {
			if s.Service == compression {
				by[s.Name] = s
			}
		}
		root, image, list, get := by["admission-validate"], by["image"], by["referrers"], by["GET"]
		if len(by) != 4 || root.Parent != "00f067aa0ba902b7" || image.Parent != root.ID || list.Parent != image.ID || get.Parent != list.ID {
			t.Fatalf("%s: %+v", compression, by)
		}
		for _, s := range by {
			if s.Trace != "4bf92f3577b34da6a3ce929d0e0e4736" {
				t.Errorf("%s is of trace %s", s.Name, s.Trace)
			}
		}
		if told != "00-"+get.Trace+"-"+get.ID+"-01" || get.Text["server.address"] != "registry.example" || get.GetStatus().GetMessage() == "" || root.Text["boltseal.decision.id"] == "" ||
			len([]rune(image.Text["container.image.name"])) != 256 {
			t.Errorf("%q, %+v", told, by)
		}
	}
	for _, r := range c.Requests() {
		if r.URL.Path != "/own/path" || r.Header.Get("X-Key") != secret+" x" || r.Header.Get("X-All") != "1" {
			t.Errorf("%s %v", r.URL, r.Header)
		}
	}
}

// TestWhoDecidesWhatIsRecorded: a parent that is trusted does, where the sampler says
// so; nobody else can.
func TestWhoDecidesWhatIsRecorded(t *testing.T) {
	c := testotlp.New(t)
	low := tracecontext.Parse([]string{"00-00000000000000010000000000000001-00f067aa0ba902b7-01"}) // an id that a ratio would take
	for _, tc := range []struct {
		sampler, ratio         string
		parent                 tracecontext.Parent
		trusted, recorded, own bool
	}{
		{sampler: "", recorded: true, own: true},
		{sampler: "", parent: parent, trusted: true, recorded: true},
		{sampler: "", parent: parent.Unsampled(), trusted: true},
		{sampler: "", parent: parent, recorded: true, own: true},
		{sampler: "parentbased_always_off", parent: parent, trusted: true, recorded: true},
		{sampler: "parentbased_always_off", parent: parent},
		{sampler: "parentbased_always_off"},
		{sampler: "parentbased_traceidratio", ratio: "0", parent: parent, trusted: true, recorded: true},
		{sampler: "parentbased_traceidratio", ratio: "0", parent: low},
		{sampler: "traceidratio", ratio: "0.001", parent: low, trusted: true, recorded: true},
		{sampler: "traceidratio", ratio: "0", parent: low, trusted: true},
		{sampler: "traceidratio", ratio: "0", parent: low},
		{sampler: "traceidratio", ratio: "1", parent: parent.Unsampled(), trusted: true, recorded: true},
		{sampler: "always_off", parent: parent, trusted: true},
		{sampler: "always_on", parent: parent.Unsampled(), trusted: true, recorded: true},
	} {
		tr := tracer(t, slog.New(slog.DiscardHandler), map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_CERTIFICATE": c.CAFile, "OTEL_TRACES_SAMPLER": tc.sampler, "OTEL_TRACES_SAMPLER_ARG": tc.ratio})
		s := tr.Request("x", tc.parent, tc.trusted)
		if (s != nil) != tc.recorded {
			t.Errorf("%+v: recorded %v", tc, s != nil)
		}
		if s != nil {
			if own := s.Parent().TraceID != tc.parent.TraceID; own != tc.own || !s.Parent().Sampled() {
				t.Errorf("%+v: a trace of its own: %v", tc, own)
			}
			s.End(200)
		}
		if !tc.recorded {
			if n := testing.AllocsPerRun(100, func() { tr.Request("x", tc.parent, tc.trusted) }); n != 0 {
				t.Errorf("%+v: %v allocations", tc, n)
			}
		}
		tr.Close(testwait.Context(t))
	}
}

// counts are the spans by outcome.
func counts(t *testing.T, tr *tracing.Tracer) map[string]int {
	t.Helper()
	r := prometheus.NewRegistry()
	r.MustRegister(tr.Metrics()...)
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out[label(m)] = int(m.GetCounter().GetValue())
		}
	}
	return out
}

func label(m *dto.Metric) string { return m.GetLabel()[0].GetValue() }

// TestNobodyWaitsForTheCollector: one that does not answer costs neither time nor memory
// without bound; what is lost is counted, and the log has no header in it. Where it
// sends elsewhere, nobody goes.
func TestNobodyWaitsForTheCollector(t *testing.T) {
	t.Parallel()
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	release := make(chan struct{})
	asked := make(chan struct{}, 100)
	silent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-release
		w.Header().Set("Location", other.URL)
		w.WriteHeader(http.StatusTemporaryRedirect)
		_, _ = w.Write([]byte("you said " + r.Header.Get("X-Key")))
	}))
	defer silent.Close()
	var text bytes.Buffer
	tr := tracer(t, slog.New(slog.NewTextHandler(&text, nil)), map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": silent.URL, "OTEL_EXPORTER_OTLP_HEADERS": "X-Key=" + secret, "OTEL_EXPORTER_OTLP_TIMEOUT": "60000"})
	tr.Request("first", tracecontext.Parent{}, true).End(200)
	<-asked // it is under way, and stays so
	const most = 5000
	for range most {
		tr.Request("more", tracecontext.Parent{}, true).End(200)
	}
	if got := counts(t, tr); got["dropped"] < most-3000 || got["exported"] != 0 {
		t.Errorf("%v", got)
	}
	close(release)
	tr.Close(testwait.Context(t))
	if got := counts(t, tr); got["failed"]+got["dropped"] != most+1 || got["exported"] != 0 {
		t.Errorf("%v", got)
	}
	if elsewhere.Load() != 0 || !strings.Contains(text.String(), "could not be sent") || strings.Contains(text.String(), secret) || strings.Count(text.String(), "\n") != 1 {
		t.Errorf("%d requests elsewhere; the log: %s", elsewhere.Load(), text.String())
	}
}

// TestOneTraceIsBounded: an image with very many signatures makes no more spans than
// a trace may have; the rest is counted.
func TestOneTraceIsBounded(t *testing.T) {
	t.Parallel()
	c := testotlp.New(t)
	tr := tracer(t, slog.New(slog.DiscardHandler), map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL, "OTEL_EXPORTER_OTLP_CERTIFICATE": c.CAFile})
	ctx, end := tr.Work(context.Background(), "audit of what runs", "")
	for range 2000 {
		_, endStep := boltseal.BeginStep(ctx, boltseal.Step{Stage: boltseal.StageFetch})
		endStep(boltseal.Ending{})
	}
	end(nil)
	tr.Close(testwait.Context(t))
	var root testotlp.Span
	for _, s := range c.Spans() {
		if s.Name == "audit of what runs" {
			root = s
		}
	}
	omitted := int64(0)
	for _, a := range root.GetAttributes() {
		if a.GetKey() == "boltseal.spans_omitted" {
			omitted = a.GetValue().GetIntValue()
		}
	}
	if n := len(c.Spans()); n != 513 || root.Parent != "" || omitted != 2000-512 {
		t.Errorf("%d spans, %d omitted, the first %+v", n, omitted, root)
	}
	if requests := c.Requests(); len(requests) == 0 || requests[0].URL.Path != "/v1/traces" || os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" {
		t.Error("not at the path that the specification names")
	}
}
