// Package audit runs Boltseal's audit of what already runs against a real control plane.
package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	openreports "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

const (
	installTimeout = 3 * await.Limit
	repo           = "team/app"
	interval       = 3 * time.Second
)

var (
	cluster          *kit.Cluster
	binary           string
	registry         *testregistry.Registry
	signer, stranger *testca.Chain
	server           *product.Server
	starts           int
	signOptions      = testca.SignOptions{}
)

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	os.Exit(kit.Main(func() int {
		ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
		defer cancel()
		if err := install(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer registry.Close()
		return m.Run()
	}, kit.Options{}, &cluster))
}

func install(ctx context.Context) (err error) {
	if registry, err = testregistry.Start(testregistry.Options{MaxLog: -1}); err != nil {
		return err
	}
	if signer, err = testca.New(testca.Options{Intermediates: []testca.Spec{{}}}); err != nil {
		return err
	}
	if stranger, err = testca.New(testca.Options{}); err != nil {
		return err
	}
	if binary, err = product.Build(ctx, cluster.Dir()); err != nil {
		return err
	}
	return product.Install(ctx, cluster, binary)
}

// start runs a replica; it is the one that tests ask from then on.
func start(ctx context.Context, args ...string) (err error) {
	starts++
	server, err = product.Start(ctx, cluster, binary, product.Options{Name: fmt.Sprint("boltseal-", starts), Args: append([]string{"--audit-interval", interval.String()}, args...)})
	if err != nil {
		return err
	}
	return server.Ready(ctx)
}

// reportCRDs are the CustomResourceDefinitions of the module that Boltseal has the types of reports from.
func reportCRDs(ctx context.Context) (manifest string, err error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-json", "github.com/openreports/reports-api").Output()
	if err != nil {
		return "", err
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(module.Dir, "config", "crd", openreports.GroupName+"_reports.yaml"))
	return string(b), err
}

// document is a resource of Ratify's or of Boltseal's.
func document(kind, namespace, name, spec string) string {
	group, ns := "config.ratify.deislabs.io/v1beta1", ""
	if strings.HasSuffix(kind, "ImageIntegrityPolicy") {
		group = "boltseal.dev/v1alpha1"
	}
	if namespace != "" {
		kind, ns = "Namespaced"+kind, ", namespace: "+namespace
	}
	return fmt.Sprintf("---\napiVersion: %s\nkind: %s\nmetadata: {name: %s%s}\nspec:\n  %s\n", group, kind, name, ns, spec)
}

// roots has the chains' roots in a KeyManagementProvider.
func roots(chains ...*testca.Chain) string {
	var pem strings.Builder
	for _, c := range chains {
		pem.Write(c.Root().PEM())
	}
	return document("KeyManagementProvider", "", "roots", "type: inline\n  parameters:\n    value: |\n      "+
		strings.ReplaceAll(strings.TrimSpace(pem.String()), "\n", "\n      "))
}

// config trusts the chains, for all images.
func config(chains ...*testca.Chain) string {
	return roots(chains...) + document("Store", "", "store", "name: oras\n  parameters: {useHttp: true}") + document("Verifier", "", "verifier", `name: notation
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
        trustedIdentities: ["*"]`)
}
