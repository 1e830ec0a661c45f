// Package governance runs a hub and two members, each a real control plane with the real program in it.
package governance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

const (
	startTimeout = 3 * await.Limit
	repo         = "team/app"
)

// site is one cluster with Boltseal in it.
type site struct {
	name    string // at the hub
	cluster *kit.Cluster
	server  *product.Server
	args    []string
	starts  int
}

var (
	binary           string
	hub              = &site{name: "local"}
	fra1, fra2       = &site{name: "fra1"}, &site{name: "fra2"}
	way              *gate // of the members to the hub
	registry         *testregistry.Registry
	signer           *testca.Chain
	signed, unsigned string // images
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	run := func() int {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		err := install(ctx)
		for _, s := range []*site{fra1, fra2} {
			if s.cluster != nil {
				defer func() { _ = s.cluster.Stop() }()
			}
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer registry.Close()
		defer way.shutdown()
		return m.Run()
	}
	os.Exit(kit.Main(run, kit.Options{Controllers: []string{"garbage-collector-controller", "serviceaccount-controller"}}, &hub.cluster))
}

func install(ctx context.Context) (err error) {
	if registry, err = testregistry.Start(testregistry.Options{}); err != nil {
		return err
	}
	if signer, err = testca.New(testca.Options{}); err != nil {
		return err
	}
	image := registry.PushImage(repo, "signed", 0)
	registry.Sign(repo, image, signer, testca.SignOptions{})
	signed = registry.Host + "/" + repo + "@" + image.Digest.String()
	unsigned = registry.Host + "/" + repo + "@" + registry.PushImage(repo, "unsigned", 1).Digest.String()
	if binary, err = product.Build(ctx, hub.cluster.Dir()); err != nil {
		return err
	}
	for _, s := range []*site{fra1, fra2} {
		if s.cluster, err = kit.Start(ctx, kit.Options{Controllers: []string{}}); err != nil {
			return err
		}
	}
	if err := product.Install(ctx, hub.cluster, binary); err != nil {
		return err
	}
	if err := hub.start(ctx); err != nil {
		return err
	}
	if way, err = newGate(strings.TrimPrefix(hub.cluster.Config().Host, "https://")); err != nil {
		return err
	}
	for _, s := range []*site{fra1, fra2} {
		if err := s.join(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// start runs Boltseal in a site, and waits until it is ready.
func (s *site) start(ctx context.Context) (err error) {
	s.starts++
	name := fmt.Sprintf("boltseal-%d", s.starts)
	args := append([]string{"--audit-interval", "5s"}, s.args...)
	if s.server, err = product.Start(ctx, s.cluster, binary, product.Options{Name: name, Args: args}); err != nil {
		return err
	}
	return s.server.Ready(ctx)
}

// join registers a site with the hub, and runs Boltseal in it with the credential that the hub gives.
func (s *site) join(ctx context.Context) error {
	if _, err := boltseal(ctx, "cluster", "register", "--name", s.name, "--scope", "/emea/"+s.name); err != nil {
		return err
	}
	text, err := boltseal(ctx, "cluster", "kubeconfig", "--name", s.name, "--server", "https://"+way.address())
	if err != nil {
		return err
	}
	file := filepath.Join(s.cluster.Dir(), "hub.kubeconfig")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return err
	}
	if err := errors.Join(product.Install(ctx, s.cluster, binary), s.cluster.Apply(ctx, configuration())); err != nil {
		return err
	}
	s.args = []string{"--hub-kubeconfig", file, "--cluster", s.name}
	if err := s.start(ctx); err != nil {
		return err
	}
	return errors.Join(s.cluster.Client().Create(ctx, s.webhook()), s.cluster.Client().Create(ctx, product.Pinning(s.webhook())))
}

// webhook asks Boltseal about Pods of namespaces with the label judged.
func (s *site) webhook() *admissionregistrationv1.ValidatingWebhookConfiguration {
	url, fail, none := s.server.URL+"/admission/validate", admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	return &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "governance"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{Name: "governance.boltseal.dev", AdmissionReviewVersions: []string{"v1"}, FailurePolicy: &fail, SideEffects: &none,
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"judged": "yes"}},
			Rules: []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{"CREATE", "UPDATE"},
				Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: s.server.CA}}}}
}

// boltseal runs a command against the hub with its administrator's rights.
func boltseal(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+hub.cluster.Kubeconfig())
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("boltseal %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String(), nil
}

// configuration trusts the signer for all images. It demands nothing of anybody.
func configuration() string {
	return fmt.Sprintf(`
apiVersion: config.ratify.deislabs.io/v1beta1
kind: KeyManagementProvider
metadata: {name: roots}
spec:
  type: inline
  parameters:
    value: |
      %s
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Store
metadata: {name: store}
spec: {name: oras, parameters: {useHttp: true}}
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Verifier
metadata: {name: verifier}
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores: {ca: {release: [roots]}}
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
      - name: all
        registryScopes: ["*"]
        signatureVerification: {level: strict}
        trustStores: ["ca:release"]
        trustedIdentities: ["*"]
`, strings.ReplaceAll(strings.TrimSpace(string(signer.Root().PEM())), "\n", "\n      "))
}
