package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
)

// gatekeeperList is what there is to see with Gatekeeper.
const gatekeeperList = `# what Gatekeeper's audit found
kubectl get boltsealtrustedimages only-trusted-images -o yaml
# what runs
boltseal audit
`

// withGatekeeper has Gatekeeper ask Boltseal, which is a process beside the cluster.
func (p playground) withGatekeeper(ctx context.Context, binary string) error {
	p.say("# starting Gatekeeper and Boltseal …")
	if err := product.Install(ctx, p.Cluster, binary); err != nil {
		return err
	}
	gk, err := p.StartGatekeeper(ctx, kit.GatekeeperOptions{AuditInterval: 10 * time.Second, FailurePolicy: "Fail"})
	if err != nil {
		return err
	}
	s, err := product.Start(ctx, p.Cluster, binary, product.Options{ClientCA: gk.ClientCA()})
	if err != nil {
		return err
	}
	if err := s.Ready(ctx); err != nil {
		return err
	}
	if err := p.Apply(ctx, string(p.demo.Config)); err != nil {
		return err
	}
	root, err := product.Root(ctx)
	if err != nil {
		return err
	}
	docs := []string{fmt.Sprintf(`
apiVersion: externaldata.gatekeeper.sh/v1beta1
kind: Provider
metadata: {name: ratify-provider}
spec: {url: %s/ratify/gatekeeper/v1/verify, timeout: 3, caBundle: %s}
`, s.URL, base64.StdEncoding.EncodeToString(s.CA))}
	for _, name := range []string{"template.yaml", "constraint.yaml"} {
		b, err := os.ReadFile(filepath.Join(root, "charts", "boltseal", "gatekeeper", name))
		if err != nil {
			return err
		}
		docs = append(docs, strings.Replace(string(b), "allowTags: false", "allowTags: true", 1)) // Gatekeeper does not mutate here
	}
	return gk.Apply(ctx, docs...)
}
