package kit

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/binaries"
	"github.com/boltseal/boltseal/e2e/process"
)

const (
	// pollEvery is how often the kit asks whether something is ready.
	pollEvery = 25 * time.Millisecond
	// probeTimeout bounds one such question.
	probeTimeout = 5 * time.Second
	// firstServiceIP is the address of service kubernetes, the first of serviceRange.
	firstServiceIP = "10.0.0.1"
	serviceRange   = "10.0.0.0/16"
	// issuer is the issuer of ServiceAccount tokens.
	issuer = "https://kubernetes.default.svc.cluster.local"
)

// startControlPlane starts the servers, all at once where they wait for each other by themselves, and returns
// when the cluster can be used.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	if err := c.startControl(binaries.Etcd, c.etcdArgs()); err != nil {
		return err
	}
	// The apiserver needs longer to get to its first question to etcd than etcd to answer.
	if err := c.startControl(binaries.KubeAPIServer, c.apiserverArgs()); err != nil {
		return err
	}
	if err := c.waitHTTP(ctx, "/readyz"); err != nil {
		return err
	}
	var err error
	if c.client, err = newClient(c.config); err != nil {
		return err
	}
	if len(c.o.Controllers) == 0 {
		return nil
	}
	if err := c.startControl(binaries.KubeControllerManager, c.controllerManagerArgs()); err != nil {
		return err
	}
	return c.waitServiceAccount(ctx, "default")
}

func (c *Cluster) startControl(name string, args []string) error {
	p, err := process.Start(process.Spec{Name: name, Path: c.programs.Path(name), Args: args, Dir: c.dir.path, LogFile: c.LogFile(name)})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.control = append(c.control, p)
	c.mu.Unlock()
	return nil
}

func (c *Cluster) etcdArgs() []string {
	clients, peers := "http://"+hostPort(c.ports.etcd), "http://"+hostPort(c.ports.etcdPeer)
	return []string{
		"--data-dir=" + c.path("etcd"),
		"--listen-client-urls=" + clients,
		"--advertise-client-urls=" + clients,
		"--listen-peer-urls=" + peers,
		"--initial-advertise-peer-urls=" + peers,
		"--initial-cluster=default=" + peers,
		"--unsafe-no-fsync", // the data need not survive a crash of the machine
		"--log-level=warn",
	}
}

func (c *Cluster) apiserverArgs() []string {
	pki := func(name string) string { return c.path("pki", name) }
	args := []string{
		"--etcd-servers=http://" + hostPort(c.ports.etcd),
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports.api),
		// Nobody reaches Service kubernetes, and finding an address to advertise would need a default route.
		"--advertise-address=127.0.0.1",
		"--endpoint-reconciler-type=none",
		"--tls-cert-file=" + pki("apiserver.crt"),
		"--tls-private-key-file=" + pki("apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"),
		"--service-account-issuer=" + issuer,
		"--service-account-key-file=" + pki("sa.pub"),
		"--service-account-signing-key-file=" + pki("sa.key"),
		"--service-cluster-ip-range=" + serviceRange,
		"--authorization-mode=RBAC",
		"--allow-privileged=true",
		"--cert-dir=" + c.path("pki"),
	}
	if len(c.o.Controllers) == 0 {
		args = append(args, "--disable-admission-plugins=ServiceAccount")
	}
	return append(args, c.o.APIServerArgs...)
}

func (c *Cluster) controllerManagerArgs() []string {
	pki := func(name string) string { return c.path("pki", name) }
	args := []string{
		"--kubeconfig=" + c.kubeconfig,
		"--bind-address=127.0.0.1",
		"--secure-port=" + strconv.Itoa(c.ports.controllers),
		"--tls-cert-file=" + pki("controllers.crt"),
		"--tls-private-key-file=" + pki("controllers.key"),
		"--controllers=" + strings.Join(c.o.Controllers, ","),
		"--leader-elect=false",
		"--service-account-private-key-file=" + pki("sa.key"),
		"--root-ca-file=" + pki("ca.crt"),
		// The defaults are made for sharing an apiserver with a whole cluster, and slow a storm of Pods down.
		"--kube-api-qps=1000",
		"--kube-api-burst=2000",
	}
	return append(args, c.o.ControllerManagerArgs...)
}

// waitHTTP polls a path of the apiserver until it answers 200.
func (c *Cluster) waitHTTP(ctx context.Context, path string) error {
	transport, err := rest.HTTPClientFor(c.config)
	if err != nil {
		return fmt.Errorf("make a client for the apiserver: %w", err)
	}
	transport.Timeout = probeTimeout
	return c.poll(ctx, "the apiserver's "+path, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.config.Host+path, nil)
		if err != nil {
			return err
		}
		resp, err := transport.Do(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %s", resp.Status)
		}
		return nil
	})
}

// waitServiceAccount returns when the controller manager has made the namespace's ServiceAccount, without which
// no Pod is admitted.
func (c *Cluster) waitServiceAccount(ctx context.Context, namespace string) error {
	return c.poll(ctx, "ServiceAccount default of namespace "+namespace, func(ctx context.Context) error {
		var sa corev1.ServiceAccount
		return c.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: "default"}, &sa)
	})
}

// poll asks until ask returns nil. It gives up when ctx is done or a process of the control plane has ended, and
// then says what was waited for and what ask said last.
func (c *Cluster) poll(ctx context.Context, what string, ask func(context.Context) error, watch ...*process.Process) error {
	c.mu.Lock()
	watch = append(slices.Clone(c.control), watch...)
	c.mu.Unlock()
	t := time.NewTicker(pollEvery)
	defer t.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		for _, p := range watch {
			if dead := p.Err(); dead != nil {
				return fmt.Errorf("wait for %s: %w", what, dead)
			}
		}
		select {
		case <-ctx.Done():
			cause := context.Cause(ctx)
			if !errors.Is(err, cause) {
				cause = fmt.Errorf("%w; the last answer was: %w", cause, err)
			}
			return fmt.Errorf("wait for %s: %w", what, cause)
		case <-t.C:
		}
	}
}

// Namespace makes a namespace, with generated name prefix-xxxxx, and returns its name once Pods can be made in it.
// The labels may be nil.
func (c *Cluster) Namespace(ctx context.Context, prefix string, labels map[string]string) (string, error) {
	ns := &corev1.Namespace{}
	ns.GenerateName, ns.Labels = prefix+"-", labels
	if err := c.client.Create(ctx, ns); err != nil {
		return "", fmt.Errorf("make a namespace: %w", err)
	}
	if len(c.o.Controllers) == 0 {
		return ns.Name, nil
	}
	return ns.Name, c.waitServiceAccount(ctx, ns.Name)
}

// LoopbackService makes a Service that leads the apiserver to this machine, so that a webhook registered by
// clientConfig.service, with the process's port as its port, reaches a process on the loopback interface. TLS
// then asks for the name name.namespace.svc. It is a Service of type ExternalName: there is no service network,
// and endpoints may not be loopback addresses.
func (c *Cluster) LoopbackService(ctx context.Context, namespace, name string) error {
	svc := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"}}
	svc.Namespace, svc.Name = namespace, name
	if err := c.client.Create(ctx, svc); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("make Service %s/%s: %w", namespace, name, err)
	}
	return nil
}

// Crash kills the control plane as a machine that loses its power would, and leaves what etcd has on its disk.
// Nothing answers until Restart.
func (c *Cluster) Crash() error {
	c.mu.Lock()
	control := c.control
	c.control = nil
	c.mu.Unlock()
	var errs []error
	for _, p := range control { // etcd first: the others see it go
		errs = append(errs, p.Kill())
	}
	return errors.Join(errs...)
}

// Restart starts a control plane that crashed, with its data, keys and ports, and returns when it takes requests.
// Where another program has taken a port meanwhile, it is waited for.
func (c *Cluster) Restart(ctx context.Context) error {
	for {
		err := c.restart(ctx)
		if !portTaken(err) {
			return err
		}
		if err := c.Crash(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollEvery):
		}
	}
}

func (c *Cluster) restart(ctx context.Context) error {
	if err := errors.Join(c.startControl(binaries.Etcd, c.etcdArgs()), c.startControl(binaries.KubeAPIServer, c.apiserverArgs())); err != nil {
		return err
	}
	if err := c.waitHTTP(ctx, "/readyz"); err != nil {
		return err
	}
	if len(c.o.Controllers) == 0 {
		return nil
	}
	return c.startControl(binaries.KubeControllerManager, c.controllerManagerArgs())
}
