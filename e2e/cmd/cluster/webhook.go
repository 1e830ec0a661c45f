package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/boltseal/boltseal/e2e/machine"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/e2e/render"
)

// webhookList is what there is to see without Gatekeeper; it ends with three questions whose answers are all good.
const webhookList = `# why the last one was denied, from the logs of both replicas
kubectl logs -n boltseal-system -l app.kubernetes.io/component=server --tail=-1 | boltseal explain --audit-log -
# is all in order, is what runs trusted, and does the cluster comply (what runs is looked at every 2 seconds)
kubectl wait --for=jsonpath='{.status.compliance.state}'=Compliant policyassignment/trusted-images --timeout=2m
boltseal doctor --image SIGNED
boltseal audit
boltseal compliance
`

// values are those of the playground: what changes shows within seconds.
const values = `
audit: {interval: 2s}
shutdown: {delaySeconds: 1, timeoutSeconds: 5}
`

// withWebhook installs the chart, whose Pods a stand-in for a node runs, with a policy that refuses
// images and an assignment that reports them.
func (p playground) withWebhook(ctx context.Context, binary string) error {
	p.say("# installing Boltseal …")
	root, err := product.Root(ctx)
	if err != nil {
		return err
	}
	manifests, err := render.Plain(render.Options{Chart: filepath.Join(root, "charts", "boltseal"), Namespace: product.Namespace, Values: []string{values}})
	if err != nil {
		return err
	}
	// The process of the node dies with this one.
	if _, err := machine.Start(ctx, p.Cluster, machine.Options{Network: p.network, Programs: map[string]string{"ghcr.io/boltseal/boltseal:0.1.0": binary}, ImageID: imageID}); err != nil {
		return err
	}
	if err := p.Apply(ctx, manifests.Everything); err != nil {
		return err
	}
	if err := p.Apply(ctx, string(p.demo.Config)); err != nil {
		return err
	}
	return p.sh(ctx, binary, fmt.Sprintf(`
kubectl rollout status -n boltseal-system deployment/boltseal --timeout=%[1]s
kubectl wait --for=create validatingwebhookconfiguration/boltseal mutatingwebhookconfiguration/boltseal --timeout=%[1]s
boltseal policy assignment create --name trusted-images -d image-integrity --scope / --params '{"effect": {"value": "Audit"}}'
`, installTimeout))
}

// sh runs a script as a user would, to its end.
func (p playground) sh(ctx context.Context, binary, script string) error {
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -euo pipefail\n"+script)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+p.Kubeconfig(), "PATH="+filepath.Dir(binary)+":"+filepath.Dir(p.Kubectl())+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s\n%s", err, script, out)
	}
	return nil
}

// imageID is the image id of what a Pod of the user's names: by the digest that was pinned into it.
func imageID(image string) string {
	name, digest, pinned := strings.Cut(image, "@")
	if !pinned {
		return ""
	}
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name = name[:i]
	}
	return name + "@" + digest
}
