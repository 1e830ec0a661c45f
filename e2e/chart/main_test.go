// Package chart holds Boltseal's Helm chart against Helm, a real API server and the program that it installs.
package chart

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/machine"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/e2e/render"
)

const (
	installTimeout = 3 * await.Limit
)

var (
	cluster *kit.Cluster
	node    *machine.Machine
	binary  string
	folder  string // the chart's
	update  = flag.Bool("update", false, "write the golden file anew")
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	flag.Parse()
	network, err := machine.Reserve()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(kit.Main(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
		defer cancel()
		if err := install(ctx, network); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		status := m.Run()
		if err := node.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return status
	}, kit.Options{APIServerArgs: network.APIServerArgs()}, &cluster))
}

func install(ctx context.Context, network *machine.Network) error {
	root, err := product.Root(ctx)
	if err != nil {
		return err
	}
	folder = filepath.Join(root, "charts", "boltseal")
	if binary, err = product.Build(ctx, cluster.Dir()); err != nil {
		return err
	}
	r, err := render.Render(render.Options{Chart: folder})
	if err != nil {
		return err
	}
	if node, err = machine.Start(ctx, cluster, machine.Options{Network: network, Namespaces: []string{"serving", tracingNamespace},
		Programs: map[string]string{"ghcr.io/boltseal/boltseal:0.1.0": binary}}); err != nil {
		return err
	}
	return cluster.Apply(ctx, r.CRDs)
}

// rendered renders the chart in a namespace of that name.
func rendered(t *testing.T, o render.Options) *render.Rendered {
	t.Helper()
	o.Chart = folder
	r, err := render.Render(o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// eventually waits until f returns nil.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f)
}

// set is a set of values.
type set struct {
	name               string
	release, namespace string
	values             string
}

// sets are values that people give, all of a kind together.
var sets = []set{
	{name: "defaults"},
	{name: "one replica", values: "replicas: 1"},
	{name: "names", release: "images", namespace: "trust", values: "fullnameOverride: guard"},
	{name: "a release of another name", release: "images", namespace: "trust"},
	{name: "Gatekeeper", values: `
gatekeeper:
  enabled: true
  mutationProvider: {create: true}
  keepTags: true
webhook: {enabled: false}
`},
	{name: "Gatekeeper with a Provider of one's own", values: `
gatekeeper:
  enabled: true
  namespace: opa
  caSecret: certs
  provider: {create: false}
  template: {create: false}
  reportVersion: 0.1.0
`},
	{name: "a hub that notifies", values: "governance: {notifySecret: hook}"},
	{name: "every Pod's Secrets", values: "webhook: {clientCAConfigMap: api-server-ca}\nkeySources: {podPullSecrets: [\"*\"]}"},
	{name: "the API server by its addresses", values: "webhook: {csiImageDrivers: {csi.example.org: imageRef, b.example: i}, apiServers: [10.0.0.0/28, \"fd00::/64\"]}\ngatekeeper: {enabled: true}\nkeySources: {podPullSecrets: [team]}"},
	{name: "a hub with the page", values: "governance: {page: {enabled: true}}"},
	{name: "a member", values: "governance: {clusterName: fra1, hubKubeconfigSecret: hub}"},
	{name: "not governed", values: "governance: {enabled: false}"},
	{name: "own certificates and credentials", values: `
tls: {existingSecret: boltseal-tls}
webhook: {clientCAConfigMap: api-server-ca, exemptNamespaces: [cni, storage], failurePolicy: Ignore, timeoutSeconds: 5}
registryCredentials: {secretName: pull}
lendIdentityTo: [team-a, team-b]
imagePullSecrets: [{name: pull}]
keySources:
  secrets: [{namespace: keys, name: one}, {namespace: keys, name: two}, {namespace: boltseal-system, name: three}]
  configMaps: [{namespace: keys, name: roots}]
  serviceAccounts: [{namespace: keys, name: puller}]
  podPullSecrets: [keys, trust]
`},
	{name: "no audit, no rights, no account", values: `
audit: {enabled: false}
rbac: {create: false}
serviceAccount: {create: false, name: mine}
networkPolicy: {enabled: false}
podDisruptionBudget: {enabled: false}
crds: {upgrade: false}
goMemLimit: ""
priorityClassName: ""
`},
	{name: "everywhere something", values: `
commonLabels: {team: platform, app.kubernetes.io/name: not-this}
commonAnnotations: {example.org/owner: platform}
image: {repository: registry.example:5000/boltseal, digest: "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", pullPolicy: Always}
replicas: 5
podDisruptionBudget: {maxUnavailable: "40%"}
extraArgs: [--pprof]
extraEnv: [{name: HTTPS_PROXY, value: "http://proxy.example:3128"}]
extraVolumes: [{name: more, configMap: {name: more}}]
extraVolumeMounts: [{name: more, mountPath: /more, readOnly: true}]
serviceAccount: {annotations: {azure.workload.identity/client-id: abc}}
podLabels: {azure.workload.identity/use: "true"}
podAnnotations: {example.org/scrape: "true"}
service: {port: 443, annotations: {example.org/a: b}}
ports: {https: 8443, health: 8081, metrics: 8082}
networkPolicy:
  metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
  egress: [{ports: [{port: 443, protocol: TCP}, {port: 53, protocol: UDP}]}]
nodeSelector: {kubernetes.io/os: linux}
tolerations: [{operator: Exists}]
topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app.kubernetes.io/name: boltseal}}}]
audit: {interval: 1h30m, rate: 0.5, concurrency: 1}
log: {format: text, level: debug, decisions: false}
policies: [{name: production, spec: {match: {namespaces: [prod-*]}, enforcementAction: deny}}, {name: look, spec: {enforcementAction: dryrun}}]
extraObjects:
  - apiVersion: config.ratify.deislabs.io/v1beta1
    kind: Store
    metadata: {name: from-the-chart}
    spec: {name: oras}
`},
	{name: "affinity", values: `affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app.kubernetes.io/name: boltseal}}}]}}`},
	{name: "monitoring", values: `
monitoring:
  podMonitor: {enabled: true, labels: {release: prometheus}}
  serviceMonitor: {enabled: true}
  prometheusRule: {enabled: true, labels: {release: prometheus}, disabled: [BoltsealAuditStale]}
  dashboard: {enabled: true, annotations: {grafana_folder: Kubernetes}}
`},
}

func (s set) options() render.Options {
	return render.Options{Release: s.release, Namespace: s.namespace, Values: []string{s.values}}
}
