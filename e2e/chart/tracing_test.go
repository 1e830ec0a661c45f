package chart

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/e2e/render"
	"github.com/boltseal/boltseal/internal/test/testotlp"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// tracingNamespace is where the chart is installed once more, with a collector.
const tracingNamespace = "tracing"

// TestTracesOfTheChartReachACollector: the values name a collector, its CA, a Secret with what it is shown and attributes,
// and the Pod that the chart makes sends its traces there.
func TestTracesOfTheChartReachACollector(t *testing.T) {
	t.Parallel()
	collector := testotlp.New(t)
	ca, err := os.ReadFile(collector.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	const service = "Boltseal, of fra1 & more"
	r := rendered(t, render.Options{Release: tracingNamespace, Namespace: tracingNamespace, Values: []string{fmt.Sprintf(`
fullnameOverride: tracing
replicas: 1
webhook: {enabled: false}
governance: {enabled: false}
audit: {interval: 2s}
shutdown: {delaySeconds: 0}
tracing:
  endpoint: %s
  headersSecret: collector
  caConfigMap: collector-ca
  resourceAttributes: {service.name: %q}
`, collector.URL, service)}})
	ctx := testwait.Context(t)
	if err := cluster.ApplyObjects(ctx, render.Namespace(tracingNamespace, nil)); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(ctx, fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: collector, namespace: %[1]s}
stringData: {headers: "authorization=Bearer%%20of-the-collector"}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: collector-ca, namespace: %[1]s}
data: {ca.crt: %[2]q}
`, tracingNamespace, ca), r.Objects); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a trace reaches the collector", func() error {
		if err := node.Problems(); err != nil {
			return err
		}
		if len(collector.Spans()) == 0 {
			return fmt.Errorf("no span has come")
		}
		return nil
	})
	if got := collector.Spans()[0].Service; got != service {
		t.Errorf("the resource is %q", got)
	}
	if got := collector.Requests()[0].Header.Get("Authorization"); got != "Bearer of-the-collector" {
		t.Errorf("the collector is shown %q", got)
	}
	if strings.Contains(r.Objects, "of-the-collector") {
		t.Error("the secret is in the manifests")
	}
}

// TestNoTracesByDefault: without a collector nothing of it is in the manifests, whatever else is set.
func TestNoTracesByDefault(t *testing.T) {
	t.Parallel()
	for _, values := range []string{"{}", "tracing: {ratio: 0.5, headersSecret: collector, caConfigMap: collector-ca, resourceAttributes: {a: b}}"} {
		if r := rendered(t, render.Options{Values: []string{values}}); strings.Contains(r.Objects, "OTEL_") || strings.Contains(r.Objects, "tracing-ca") {
			t.Errorf("%s: something of a collector's is set", values)
		}
	}
}

// TestTracingValuesAreChecked: what Boltseal would refuse when it starts, the schema refuses before.
func TestTracingValuesAreChecked(t *testing.T) {
	t.Parallel()
	for _, values := range []string{"endpoint: collector", `endpoint: "https://user:secret@collector"`, `endpoint: "https://collector?key=secret"`, "sampler: alway_on", "ratio: 1.5", "ratio: -1",
		"protocol: grpc", `resourceAttributes: {"a=b": c}`} {
		if _, err := render.Render(render.Options{Chart: folder, Values: []string{"tracing: {" + values + "}"}}); err == nil {
			t.Errorf("%s: is taken", values)
		}
	}
}
