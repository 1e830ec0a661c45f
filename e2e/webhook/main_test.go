// Package webhook runs Boltseal as the admission webhook of a real control plane, with certificates of its own.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/boltseal/boltseal/e2e/await"
	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/process"
	"github.com/boltseal/boltseal/e2e/product"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

const (
	system         = "boltseal-system"
	installTimeout = 3 * await.Limit
	repo           = "team/app"
	// shutdownDelay must be longer than the service needs to notice.
	shutdownDelay = "1s"
)

var (
	cluster  *kit.Cluster
	binary   string
	registry *testregistry.Registry
	signer   *testca.Chain
	front    *service
	names    int    // of replicas
	rights   string // the chart's, with Gatekeeper
	standing []*replica
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

// install starts a registry and two replicas at the same time, and applies what a user would.
func install(ctx context.Context) (err error) {
	if registry, err = testregistry.Start(testregistry.Options{}); err != nil {
		return err
	}
	if signer, err = testca.New(testca.Options{Intermediates: []testca.Spec{{}}}); err != nil {
		return err
	}
	if binary, err = product.Build(ctx, cluster.Dir()); err != nil {
		return err
	}
	crds, err := exec.CommandContext(ctx, binary, "crds").Output()
	if err != nil {
		return err
	}
	if rights, err = product.Rights(ctx, "gatekeeper: {enabled: true}"); err != nil {
		return err
	}
	if err := cluster.Apply(ctx, rights, string(crds), config()); err != nil {
		return err
	}
	if front, err = newService(); err != nil {
		return err
	}
	if err := cluster.LoopbackService(ctx, system, "boltseal"); err != nil {
		return err
	}
	for range 2 {
		r, err := start(ctx)
		if err != nil {
			return err
		}
		standing = append(standing, r)
	}
	for _, r := range standing {
		if err := r.waitReady(ctx); err != nil {
			return err
		}
	}
	return nil
}

// replica is a running Boltseal behind the service.
type replica struct {
	name, address, health, metrics string
	process                        *process.Process
	left                           bool // it was told to stop
}

// start runs a replica with the ServiceAccount's rights.
func start(ctx context.Context, args ...string) (*replica, error) {
	config, err := cluster.ServiceAccountConfig(ctx, system, "boltseal")
	if err != nil {
		return nil, err
	}
	names++
	r := &replica{name: fmt.Sprint("boltseal-", names)}
	kubeconfig := filepath.Join(cluster.Dir(), r.name+".kubeconfig")
	if err := kit.WriteKubeconfig(kubeconfig, config); err != nil {
		return nil, err
	}
	args = append([]string{"serve", "--kubeconfig", kubeconfig, "--listen", product.AnyPort, "--health-listen", product.AnyPort, "--metrics-listen", product.AnyPort,
		"--audit-log", filepath.Join(cluster.Dir(), r.name+".audit"), "--log-level", "debug", "--webhook", "enforce",
		"--service", fmt.Sprintf("boltseal:%d", front.port()), "--tls-names", "localhost", "--shutdown-delay", shutdownDelay, "--shutdown-timeout", product.ShutdownTimeout}, args...)
	if r.process, err = cluster.Run(process.Spec{Name: r.name, Path: binary, Args: args}); err != nil {
		return nil, err
	}
	at, err := product.Listening(ctx, r.process, 0, product.Main, product.Health, product.Metrics)
	if err != nil {
		return nil, err
	}
	r.address, r.health, r.metrics = at[product.Main], at[product.Health], at[product.Metrics]
	front.add(r)
	return r, nil
}

func (r *replica) isReady(ctx context.Context) error {
	status, text, err := get(ctx, "http://"+r.health+"/readyz?verbose")
	if err == nil && status != http.StatusOK {
		err = errors.New(text)
	}
	return err
}

func (r *replica) waitReady(ctx context.Context) error {
	for {
		err := r.isReady(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%s is not ready: %w", r.name, err), ctx.Err())
		case <-r.process.Exited():
			return r.process.Err()
		case <-time.After(20 * time.Millisecond): // waits: the time between two questions
		}
	}
}

// leave tells a replica to stop as Kubernetes does: by SIGTERM. A second signal would end it at once.
func (r *replica) leave() error {
	r.left = true
	return r.process.Signal(syscall.SIGTERM)
}

// stop ends a replica, and returns when it has ended.
func (r *replica) stop() error {
	defer front.remove(r)
	if !r.left {
		return r.process.Stop(0)
	}
	select {
	case <-r.process.Exited():
		return nil
	case <-time.After(process.DefaultGrace):
		return errors.Join(fmt.Errorf("%s does not end", r.name), r.process.Kill())
	}
}

// kill ends a replica at once.
func (r *replica) kill() error {
	err := r.process.Kill()
	front.remove(r)
	return err
}

func get(ctx context.Context, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := probes.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// config trusts the signer, for all images.
func config() string {
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
spec: {name: oras}
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
---
# One policy for each action, by a label of the namespace.
apiVersion: boltseal.dev/v1alpha1
kind: ImageIntegrityPolicy
metadata: {name: deny}
spec: {match: {namespaceSelector: {matchLabels: {stage: prod}}}, enforcementAction: deny, resolveTags: true}
---
apiVersion: boltseal.dev/v1alpha1
kind: ImageIntegrityPolicy
metadata: {name: warn}
spec: {match: {namespaceSelector: {matchLabels: {stage: test}}}, enforcementAction: warn}
---
apiVersion: boltseal.dev/v1alpha1
kind: ImageIntegrityPolicy
metadata: {name: dryrun}
spec: {match: {namespaceSelector: {matchLabels: {stage: lab}}}, enforcementAction: dryrun}
---
# What would be denied everywhere else is let through in exempt namespaces only because they are exempt.
apiVersion: boltseal.dev/v1alpha1
kind: ImageIntegrityPolicy
metadata: {name: everywhere}
spec: {match: {namespaces: [kube-system, boltseal-system]}, enforcementAction: deny}
`, strings.ReplaceAll(strings.TrimSpace(string(signer.Root().PEM())), "\n", "\n      "))
}
