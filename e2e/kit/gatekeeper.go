package kit

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/binaries"
	"github.com/boltseal/boltseal/e2e/process"
)

const (
	// GatekeeperNamespace is where Gatekeeper keeps its state.
	GatekeeperNamespace = "gatekeeper-system"
	// GatekeeperStartTimeout bounds StartGatekeeper.
	GatekeeperStartTimeout = 5 * time.Minute
	// DefaultAuditInterval is how often the kit's Gatekeeper audits; its own default is a minute.
	DefaultAuditInterval = 2 * time.Second
	// gatekeeperAccount is the ServiceAccount of Gatekeeper's manifests.
	gatekeeperAccount = "gatekeeper-admin"
	// gatekeeperPod is the Pod that stands for the process.
	gatekeeperPod = "gatekeeper"
	// webhookDeployment is the name of the webhook's Deployment in Gatekeeper's manifests.
	webhookDeployment = "gatekeeper-controller-manager"
	// validatingConfig is the name of the webhook configuration in Gatekeeper's manifests.
	validatingConfig = "gatekeeper-validating-webhook-configuration"
)

// GatekeeperOptions says how to run Gatekeeper. Its zero value is Gatekeeper as its manifests set it up, with an
// audit every two seconds and without a cache of providers' responses.
type GatekeeperOptions struct {
	// AuditInterval is the time between audits, rounded up to whole seconds. Zero: DefaultAuditInterval.
	// Negative: no audits.
	AuditInterval time.Duration
	// FailurePolicy is that of the validating webhook. Empty: as in the manifests, Ignore.
	FailurePolicy admissionregistrationv1.FailurePolicyType
	// TimeoutSeconds is that of the validating webhook. Zero: as in the manifests, 3.
	TimeoutSeconds int32
	// ResponseCacheTTL is how long Gatekeeper remembers what providers answered. Zero: not at all, so that tests
	// see every verdict; Gatekeeper's own default is 3 minutes.
	ResponseCacheTTL time.Duration
	// Args are added to the flags.
	Args []string
}

// Gatekeeper is a running Gatekeeper: webhook, audit, status and generation in one process, which acts as
// ServiceAccount gatekeeper-system/gatekeeper-admin with the rights of its own manifests. The Pod
// gatekeeper-system/gatekeeper stands for it in the cluster.
type Gatekeeper struct {
	c       *Cluster
	ca      *CA
	certDir string
	podSpec corev1.PodSpec
	process *process.Process
	health  string
}

// StartGatekeeper applies Gatekeeper's manifests, starts it and registers its validating webhook by URL. It
// returns when Gatekeeper says that it is ready. ctx bounds the start only.
func (c *Cluster) StartGatekeeper(ctx context.Context, o GatekeeperOptions) (_ *Gatekeeper, err error) {
	if o.AuditInterval == 0 {
		o.AuditInterval = DefaultAuditInterval
	}
	ctx, cancel := context.WithTimeoutCause(ctx, GatekeeperStartTimeout,
		fmt.Errorf("Gatekeeper was not ready after %s", GatekeeperStartTimeout))
	defer cancel()
	m, err := readManifests(c.gatekeeper)
	if err != nil {
		return nil, err
	}
	if err := c.ApplyObjects(ctx, m.apply...); err != nil {
		return nil, err
	}
	g := &Gatekeeper{c: c, podSpec: m.podSpec, certDir: c.path("gatekeeper", "certs")}
	var port int
	err = untilBound(func() (err error) {
		if port, err = g.start(ctx, o); err != nil {
			return err
		}
		if err = g.waitReady(ctx); err != nil {
			err = errors.Join(err, g.process.Kill())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.process.Kill())
		}
	}()
	config, err := webhookConfig(m.webhook, "https://"+hostPort(port), g.ca.PEM(), o)
	if err != nil {
		return nil, err
	}
	if err := c.ApplyObjects(ctx, config); err != nil {
		return nil, err
	}
	return g, nil
}

// start writes Gatekeeper's keys and kubeconfig and runs it. It returns the webhook's port.
func (g *Gatekeeper) start(ctx context.Context, o GatekeeperOptions) (int, error) {
	c := g.c
	cacheDir := c.path("gatekeeper", "audit")
	for _, dir := range []string{g.certDir, cacheDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return 0, fmt.Errorf("make Gatekeeper's folders: %w", err)
		}
	}
	var err error
	if g.ca, err = NewCA("gatekeeper-ca", c.o.Clock); err != nil {
		return 0, err
	}
	pair, err := g.ca.Issue(ForBoth, pkix.Name{CommonName: "gatekeeper-webhook-service." + GatekeeperNamespace + ".svc"}, "127.0.0.1")
	if err != nil {
		return 0, err
	}
	files := map[string][]byte{"ca.crt": g.ca.PEM(), "tls.crt": pair.Cert, "tls.key": pair.Key}
	for name, data := range files {
		if err := os.WriteFile(c.path("gatekeeper", "certs", name), data, 0o600); err != nil {
			return 0, fmt.Errorf("write Gatekeeper's keys: %w", err)
		}
	}
	if err := g.makePod(ctx); err != nil {
		return 0, err
	}
	account, err := c.ServiceAccountConfig(ctx, GatekeeperNamespace, gatekeeperAccount)
	if err != nil {
		return 0, err
	}
	kubeconfig := c.path("gatekeeper", "kubeconfig")
	if err := WriteKubeconfig(kubeconfig, account); err != nil {
		return 0, err
	}
	free, err := c.o.choosePorts(3)
	if err != nil {
		return 0, err
	}
	port, health, metrics := free[0], free[1], free[2]
	g.health = "http://" + hostPort(health)
	seconds := int64((max(o.AuditInterval, 0) + time.Second - 1) / time.Second)
	args := []string{
		"--kubeconfig=" + kubeconfig,
		"--disable-cert-rotation",
		"--cert-dir=" + g.certDir,
		"--host=127.0.0.1",
		"--port=" + strconv.Itoa(port),
		"--health-addr=" + hostPort(health),
		"--metrics-addr=0",
		// The Prometheus exporter would listen on all interfaces. This one only ever sends, and not before a day.
		"--metrics-backend=opentelemetry",
		"--otlp-endpoint=" + hostPort(metrics),
		"--otlp-metric-interval=24h",
		"--operation=webhook", "--operation=audit", "--operation=status", "--operation=generate",
		"--exempt-namespace=" + GatekeeperNamespace,
		"--audit-interval=" + strconv.FormatInt(seconds, 10),
		"--api-cache-dir=" + cacheDir,
		"--external-data-provider-response-cache-ttl=" + o.ResponseCacheTTL.String(),
		"--disable-opa-builtin={http.send}",
		"--shutdown-delay=0",
		"--log-denies",
	}
	g.process, err = c.Run(process.Spec{
		Name: binaries.Gatekeeper,
		Path: c.programs.Path(binaries.Gatekeeper),
		Args: append(args, o.Args...),
		Env:  append(os.Environ(), "POD_NAMESPACE="+GatekeeperNamespace, "POD_NAME="+gatekeeperPod),
		Dir:  c.path("gatekeeper"),
	})
	return port, err
}

// makePod makes the Pod that owns what Gatekeeper writes about its state. Without it the garbage collector would
// delete that again and again.
func (g *Gatekeeper) makePod(ctx context.Context) error {
	pod := &corev1.Pod{Spec: g.podSpec}
	pod.Namespace, pod.Name = GatekeeperNamespace, gatekeeperPod
	// The quota that the manifests set on critical Pods would need one more controller.
	pod.Spec.PriorityClassName = ""
	if err := g.c.client.Create(ctx, pod); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make the Pod that stands for Gatekeeper: %w", err)
	}
	return nil
}

func (g *Gatekeeper) waitReady(ctx context.Context) error {
	hc := &http.Client{Timeout: probeTimeout}
	defer hc.CloseIdleConnections()
	return g.c.poll(ctx, "Gatekeeper's /readyz", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.health+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := hc.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	}, g.process)
}

// ClientCA returns, in PEM, the authority of the certificate that Gatekeeper shows to external data providers.
func (g *Gatekeeper) ClientCA() []byte { return g.ca.PEM() }

// CertDir is the folder with Gatekeeper's ca.crt, tls.crt and tls.key. It picks up new ones by itself.
func (g *Gatekeeper) CertDir() string { return g.certDir }

// Process is the running Gatekeeper, for tests that kill or pause it.
func (g *Gatekeeper) Process() *process.Process { return g.process }

// Stop removes the webhook configuration, so that the cluster does not wait for a Gatekeeper that is gone, ends
// the process and removes its Pod. Cluster.Stop needs no call of it before.
func (g *Gatekeeper) Stop(ctx context.Context) error {
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: validatingConfig}}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: GatekeeperNamespace, Name: gatekeeperPod}}
	return errors.Join(
		client.IgnoreNotFound(g.c.client.Delete(ctx, config)),
		g.process.Stop(0),
		client.IgnoreNotFound(g.c.client.Delete(ctx, pod)),
	)
}
