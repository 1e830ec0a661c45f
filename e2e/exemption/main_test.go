// Package exemption runs Boltseal as the webhook and the audit of a real control plane whose controllers have accounts of their own.
package exemption

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

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
	installTimeout = 3 * await.Limit
	repo           = "team/app"
	interval       = 3 * time.Second // of the audit
)

var (
	cluster  *kit.Cluster
	binary   string
	registry *testregistry.Registry
	signer   *testca.Chain
	server   *product.Server
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
	}, kit.Options{ControllerManagerArgs: []string{"--use-service-account-credentials=true"}}, &cluster))
}

func install(ctx context.Context) (err error) {
	if registry, err = testregistry.Start(testregistry.Options{}); err != nil {
		return err
	}
	if signer, err = testca.New(testca.Options{}); err != nil {
		return err
	}
	if binary, err = product.Build(ctx, cluster.Dir()); err != nil {
		return err
	}
	if err := product.Install(ctx, cluster, binary); err != nil {
		return err
	}
	if server, err = product.Start(ctx, cluster, binary, product.Options{Args: []string{"--audit-interval", interval.String()}}); err != nil {
		return err
	}
	return server.Ready(ctx)
}

// webhook asks Boltseal about what comes into namespaces with the label judged.
func webhook() *admissionregistrationv1.ValidatingWebhookConfiguration {
	url, fail, none := server.URL+"/admission/validate", admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone
	rule := func(group string, resources ...string) admissionregistrationv1.RuleWithOperations {
		return admissionregistrationv1.RuleWithOperations{Operations: []admissionregistrationv1.OperationType{"CREATE", "UPDATE"},
			Rule: admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: resources}}
	}
	return &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "exemption"},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{Name: "exemption.boltseal.dev", AdmissionReviewVersions: []string{"v1"}, FailurePolicy: &fail, SideEffects: &none,
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"judged": "yes"}},
			Rules:             []admissionregistrationv1.RuleWithOperations{rule("", "pods"), rule("apps", "deployments", "replicasets"), rule("batch", "jobs", "cronjobs")},
			ClientConfig:      admissionregistrationv1.WebhookClientConfig{URL: &url, CABundle: server.CA}}}}
}
