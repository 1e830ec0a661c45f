// Package page runs the commands of docs/from-aks.md as they stand there, on one cluster that is its own hub, and lets a hub install the add-on in a cluster that has none.
package page

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
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
	scope        = "/subscriptions/S/resourceGroups/G"
)

var (
	cluster          *kit.Cluster
	binary           string
	server           *product.Server
	registry         *testregistry.Registry
	root, work       string // the repository's folder, and that in which commands run
	signed, unsigned string // images
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	os.Exit(kit.Main(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := install(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer registry.Close()
		return m.Run()
	}, kit.Options{}, &cluster))
}

// install is what a user has done before the page begins: Boltseal is in the cluster, and images are in a registry.
func install(ctx context.Context) (err error) {
	if registry, err = testregistry.Start(testregistry.Options{}); err != nil {
		return err
	}
	signer, err := testca.New(testca.Options{})
	if err != nil {
		return err
	}
	image := registry.PushImage(repo, "signed", 0)
	registry.Sign(repo, image, signer, testca.SignOptions{})
	signed = registry.Host + "/" + repo + "@" + image.Digest.String()
	unsigned = registry.Host + "/" + repo + "@" + registry.PushImage(repo, "unsigned", 1).Digest.String()
	if root, err = product.Root(ctx); err != nil {
		return err
	}
	if binary, err = product.Build(ctx, cluster.Dir()); err != nil {
		return err
	}
	work = filepath.Join(cluster.Dir(), "page")
	if err := errors.Join(os.MkdirAll(work, 0o700), configuration(string(signer.Root().PEM()))); err != nil {
		return err
	}
	if err := product.Install(ctx, cluster, binary); err != nil {
		return err
	}
	rights, err := product.Rights(ctx, "governance: {clusterName: mymanagedcluster}")
	if err != nil {
		return err
	}
	if err := cluster.Apply(ctx, rights); err != nil {
		return err
	}
	if server, err = product.Start(ctx, cluster, binary, product.Options{Args: []string{"--cluster", "mymanagedcluster", "--audit-interval", "5s"}}); err != nil {
		return err
	}
	return errors.Join(server.Ready(ctx), cluster.Client().Create(ctx, webhook()), cluster.Client().Create(ctx, product.Pinning(webhook())))
}

// configuration writes the AKS document's configuration, with the one change that every user makes: whose
// certificate is trusted.
func configuration(certificate string) error {
	text, err := os.ReadFile(filepath.Join(root, "examples", "verify-config.yaml"))
	if err != nil {
		return err
	}
	if block, _ := pem.Decode([]byte(certificate)); block == nil {
		return errors.New("no certificate")
	}
	theirs := regexp.MustCompile(`(?s)      -----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n`)
	if n := len(theirs.FindAllIndex(text, -1)); n != 1 {
		return fmt.Errorf("the example has %d certificates", n)
	}
	ours := "      " + strings.ReplaceAll(strings.TrimSpace(certificate), "\n", "\n      ") + "\n"
	return os.WriteFile(filepath.Join(work, "verify-config.yaml"), theirs.ReplaceAllLiteral(text, []byte(ours)), 0o600)
}

// webhook is what Boltseal makes with --webhook=enforce, by the address of a process on this machine.
func webhook() *admissionregistrationv1.ValidatingWebhookConfiguration {
	url, fail, none := server.URL+"/admission/validate", admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	return &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "boltseal"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{Name: "validate.boltseal.dev", AdmissionReviewVersions: []string{"v1"}, FailurePolicy: &fail, SideEffects: &none,
			NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{"kube-system", product.Namespace}}}},
			Rules: []admissionregistrationv1.RuleWithOperations{{Operations: []admissionregistrationv1.OperationType{"CREATE", "UPDATE"},
				Rule: admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}}}},
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: server.CA}}}}
}

// shell runs a script as a user would, and returns what it prints.
func shell(ctx context.Context, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -euo pipefail\n"+script)
	cmd.Dir = work
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cluster.Kubeconfig(), "SCOPE="+scope, "SIGNED_IMAGE="+signed, "UNSIGNED_IMAGE="+unsigned,
		"PATH="+filepath.Dir(binary)+":"+filepath.Dir(cluster.Kubectl())+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w\n%s\n%s", err, script, out)
	}
	return string(out), err
}

// commands are the commands of the page's sections, one text for each block.
func commands(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs", "from-aks.md"))
	if err != nil {
		t.Fatal(err)
	}
	out, section, block, in := map[string][]string{}, "", "", false
	for line := range strings.Lines(string(text)) {
		switch {
		case in && strings.HasPrefix(line, "```"):
			out[section], block, in = append(out[section], block), "", false
		case in:
			block += line
		case strings.HasPrefix(line, "```sh"):
			in = true
		case strings.HasPrefix(line, "#"):
			section = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	return out
}

func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	await.Until(t, what, f, func() string {
		log, _ := os.ReadFile(server.Process.LogFile())
		return string(log[max(0, len(log)-3000):])
	})
}
