package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
)

// gatekeeperList is what there is to see with Gatekeeper.
const gatekeeperList = `# what Gatekeeper's audit found
kubectl get boltsealtrustedimages -o yaml
` + endOfList

// gatekeeperValues have Gatekeeper deny in place of Boltseal's webhook. The assignment brings the template.
const gatekeeperValues = `
webhook: {enabled: false}
gatekeeper: {enabled: true, provider: {create: false}, template: {create: false}}
`

// withGatekeeper installs Gatekeeper, and the chart so that Gatekeeper asks Boltseal. Gatekeeper is a process beside the
// cluster, for which Services have no names: the Provider has the Service's address, and the certificate, too.
func (p playground) withGatekeeper(ctx context.Context, binary string) error {
	p.say("# starting Gatekeeper …")
	gk, err := p.StartGatekeeper(ctx, kit.GatekeeperOptions{AuditInterval: 2 * time.Second, FailurePolicy: "Fail"})
	if err != nil {
		return err
	}
	if err := p.Apply(ctx, fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: gatekeeper-webhook-server-cert, namespace: gatekeeper-system}
stringData: {ca.crt: %q}
`, gk.ClientCA())); err != nil {
		return err
	}
	manifests, err := chartManifests(ctx, gatekeeperValues)
	if err != nil {
		return err
	}
	all, err := kit.Parse(manifests.Everything)
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.GetKind() == "Namespace" || o.GetKind() == "Service" {
			if err := p.ApplyObjects(ctx, o); err != nil {
				return err
			}
		}
	}
	var service corev1.Service
	if err := p.Client().Get(ctx, client.ObjectKey{Namespace: product.Namespace, Name: "boltseal"}, &service); err != nil {
		return err
	}
	address := service.Spec.ClusterIP
	if err := p.runChart(ctx, binary, gatekeeperValues, "extraArgs: [--tls-names="+address+"]"); err != nil {
		return err
	}
	policy := strings.Index(string(p.demo.Config), "---\n# Nothing may run") // it is for Boltseal's webhook
	if err := p.Apply(ctx, string(p.demo.Config)[:policy]); err != nil {
		return err
	}
	return p.sh(ctx, binary, fmt.Sprintf(`
kubectl rollout status -n boltseal-system deployment/boltseal --timeout=%[1]s
CA=$(kubectl get secret -n boltseal-system boltseal-serving -o jsonpath='{.data.ca\.crt}')
kubectl apply -f - <<END
apiVersion: externaldata.gatekeeper.sh/v1beta1
kind: Provider
metadata: {name: ratify-provider}
spec: {url: "https://%[2]s:6001/ratify/gatekeeper/v1/verify", timeout: 3, caBundle: $CA}
END
kubectl wait --for=create cluster.policy.boltseal.dev/local --timeout=%[1]s
boltseal cluster register --name local --engine Gatekeeper
boltseal policy assignment create --name trusted-images -d image-integrity --scope / --params '{"effect": {"value": "Deny"}}'
kubectl wait --for=create crd/boltsealtrustedimages.constraints.gatekeeper.sh --timeout=%[1]s
until kubectl get boltsealtrustedimages -o jsonpath='{.items[*].status.byPod[*].enforced}' | grep -q true; do sleep 0.2; done
`, installTimeout, address))
}
