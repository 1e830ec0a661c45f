package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/e2e/machine"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/e2e/render"
)

// webhookList is what there is to see without Gatekeeper.
const webhookList = `# why the last one was denied, from the logs of both replicas
kubectl logs -n boltseal-system -l app.kubernetes.io/component=server --tail=-1 | boltseal explain --audit-log -
` + endOfList

// endOfList are three questions whose answers are all good.
const endOfList = `# is everything in order, are the images that run trusted, and does the cluster comply (checked every 2 seconds)
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

// chartManifests is the chart with the values of the playground, and more.
func chartManifests(ctx context.Context, more ...string) (*render.Manifests, error) {
	root, err := product.Root(ctx)
	if err != nil {
		return nil, err
	}
	return render.Plain(render.Options{Chart: filepath.Join(root, "charts", "boltseal"), Namespace: product.Namespace, Values: append([]string{values}, more...)})
}

// runChart installs the chart, whose Pods a stand-in for a node runs. The process of the node dies with this one.
func (p playground) runChart(ctx context.Context, binary string, more ...string) error {
	p.say("# installing Boltseal …")
	manifests, err := chartManifests(ctx, more...)
	if err != nil {
		return err
	}
	if _, err := machine.Start(ctx, p.Cluster, machine.Options{Network: p.network, Programs: map[string]string{"ghcr.io/boltseal/boltseal:0.1.0": binary}, ImageID: imageID,
		Namespaces: []string{product.Namespace, "default"}}); err != nil {
		return err
	}
	return p.Apply(ctx, manifests.Everything)
}

// withWebhook installs the chart with a policy that refuses images and an assignment that reports them.
func (p playground) withWebhook(ctx context.Context, binary string) error {
	if err := p.runChart(ctx, binary); err != nil {
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

// imageID is the image id of what a Pod of the user's names: by the digest that was pinned into it, or else by that of its
// tag in the playground's registry; "" for what is not there.
func imageID(image string) string {
	name, digest, pinned := strings.Cut(image, "@")
	tag := "latest"
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name, tag = name[:i], name[i+1:]
	}
	if !pinned {
		host, path, _ := strings.Cut(name, "/")
		if digest = digestOf("http://" + host + "/v2/" + path + "/manifests/" + tag); digest == "" {
			return ""
		}
	}
	return name + "@" + digest
}

// digestOf is the digest of a manifest in a registry on loopback, "" where it has none.
func digestOf(url string) string {
	if !strings.HasPrefix(url, "http://127.0.0.1:") {
		return ""
	}
	req, err := http.NewRequest(http.MethodHead, url, nil)
	if err != nil {
		return ""
	}
	req.Header.Set("Accept", ocispec.MediaTypeImageManifest+", "+ocispec.MediaTypeImageIndex)
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return ""
	}
	_ = resp.Body.Close()
	return resp.Header.Get("Docker-Content-Digest")
}
