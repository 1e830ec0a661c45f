package kit

import (
	"context"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/binaries"
	"github.com/boltseal/boltseal/e2e/process"
)

// DefaultStartTimeout bounds Start once the programs are built, for a start that hangs.
const DefaultStartTimeout = 5 * time.Minute

// Options says how to run a cluster. The zero value is a cluster in a temporary folder with the default
// controllers, which is what tests want.
type Options struct {
	// CacheDir holds the built programs; see binaries.Options.
	CacheDir string
	// Progress receives what a build of missing programs says. Nil: standard error.
	Progress io.Writer
	// Dir is the folder for data, keys and logs. Stop clears the data and leaves the rest, which the next cluster in
	// it clears. Empty: a temporary folder that Stop removes.
	Dir string
	// APIServerPort is the apiserver's port on 127.0.0.1. Zero: a free one.
	APIServerPort int
	// APIServerArgs and ControllerManagerArgs are added to the flags; the last of a repeated flag counts.
	APIServerArgs         []string
	ControllerManagerArgs []string
	// Controllers are the kube-controller-manager's. Nil: those that matter without nodes. Empty but not nil: no
	// controller manager at all, and then no ServiceAccount is made, so that Pods are admitted without one.
	Controllers []string
	// StartTimeout bounds the start after the build. Zero: DefaultStartTimeout.
	StartTimeout time.Duration
	// Clock gives the certificates' time. Nil: time.Now.
	Clock func() time.Time

	choosePorts func(n int) ([]int, error) // nil: freePorts
}

// defaultControllers are those whose work shows in a cluster without nodes.
func defaultControllers() []string {
	return []string{
		"clusterrole-aggregation-controller",
		"cronjob-controller",
		"daemonset-controller",
		"deployment-controller",
		"disruption-controller",
		"endpointslice-controller",
		"garbage-collector-controller",
		"job-controller",
		"namespace-controller",
		"replicaset-controller",
		"replicationcontroller-controller",
		"root-ca-certificate-publisher-controller",
		"serviceaccount-controller",
		"serviceaccount-token-controller",
		"statefulset-controller",
		"validatingadmissionpolicy-status-controller",
	}
}

// Cluster is a running control plane. Its methods may be called from several goroutines.
type Cluster struct {
	o          Options
	programs   binaries.Set
	dir        *workDir
	ca         *CA
	ports      ports
	config     *rest.Config
	kubeconfig string
	client     client.WithWatch
	gatekeeper []byte // its manifests

	mu      sync.Mutex
	control []*process.Process // etcd, apiserver, controller manager
	extra   []*process.Process // started later, by StartGatekeeper and Run
	stopped bool
}

// ports are the ports of one control plane.
type ports struct{ etcd, etcdPeer, api, controllers int }

// Start builds the programs if need be, starts a control plane and returns when it takes requests and the
// ServiceAccount of namespace default exists. ctx bounds the start only; the cluster runs until Stop, or until
// this process dies.
func Start(ctx context.Context, o Options) (_ *Cluster, err error) {
	if o.Progress == nil {
		o.Progress = os.Stderr
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.StartTimeout == 0 {
		o.StartTimeout = DefaultStartTimeout
	}
	if o.Controllers == nil {
		o.Controllers = defaultControllers()
	}
	if o.choosePorts == nil {
		o.choosePorts = freePorts
	}
	set, err := binaries.Build(ctx, binaries.Options{CacheDir: o.CacheDir, Progress: o.Progress, Clock: o.Clock})
	if err != nil {
		return nil, err
	}
	c := &Cluster{o: o, programs: set}
	if c.dir, err = newWorkDir(os.TempDir(), o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	ctx, cancel := context.WithTimeoutCause(ctx, o.StartTimeout,
		fmt.Errorf("the control plane was not ready after %s", o.StartTimeout))
	defer cancel()
	err = untilBound(func() error {
		if err := c.prepare(); err != nil {
			return err
		}
		err := c.startControlPlane(ctx)
		if portTaken(err) {
			err = errors.Join(err, c.Crash())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// prepare writes keys and certificates and chooses ports.
func (c *Cluster) prepare() error {
	for _, dir := range []string{"etcd", "gatekeeper", "logs", "pki"} {
		if err := os.RemoveAll(c.path(dir)); err != nil {
			return fmt.Errorf("clear what an earlier cluster left: %w", err)
		}
	}
	for _, dir := range []string{"logs", "pki"} {
		if err := os.MkdirAll(c.path(dir), 0o700); err != nil {
			return fmt.Errorf("make the cluster's folders: %w", err)
		}
	}
	free, err := c.o.choosePorts(4)
	if err != nil {
		return err
	}
	c.ports = ports{etcd: free[0], etcdPeer: free[1], api: free[2], controllers: free[3]}
	if c.o.APIServerPort != 0 {
		c.ports.api = c.o.APIServerPort
	}
	if c.ca, err = NewCA("boltseal-e2e", c.o.Clock); err != nil {
		return err
	}
	serving, err := c.ca.Issue(ForServer, pkix.Name{CommonName: "kube-apiserver"},
		"127.0.0.1", "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", firstServiceIP)
	if err != nil {
		return err
	}
	controllers, err := c.ca.Issue(ForServer, pkix.Name{CommonName: "kube-controller-manager"}, "127.0.0.1")
	if err != nil {
		return err
	}
	saPrivate, saPublic, err := newSigningKey()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"ca.crt": c.ca.PEM(), "apiserver.crt": serving.Cert, "apiserver.key": serving.Key,
		"controllers.crt": controllers.Cert, "controllers.key": controllers.Key,
		"sa.key": saPrivate, "sa.pub": saPublic,
	}
	for name, data := range files {
		if err := os.WriteFile(c.path("pki", name), data, 0o600); err != nil {
			return fmt.Errorf("write the cluster's keys: %w", err)
		}
	}
	if c.config, err = c.UserConfig("admin", "system:masters"); err != nil {
		return err
	}
	c.kubeconfig = c.path("kubeconfig")
	if err := WriteKubeconfig(c.kubeconfig, c.config); err != nil {
		return err
	}
	if c.gatekeeper, err = os.ReadFile(c.programs.GatekeeperManifests()); err != nil {
		return fmt.Errorf("read Gatekeeper's manifests: %w", err)
	}
	return nil
}

// Stop ends everything that was started, the control plane last, and removes the temporary folder. It returns when no process and no file is left. Calling it again does nothing.
func (c *Cluster) Stop() error {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return nil
	}
	c.stopped = true
	extra, control := c.extra, c.control
	c.mu.Unlock()

	var errs []error
	stopped := make(chan error)
	for _, p := range extra {
		go func() { stopped <- p.Stop(0) }()
	}
	for range extra {
		errs = append(errs, <-stopped)
	}
	// The control plane's state is thrown away, so it needs no time to end in good order.
	for i := len(control) - 1; i >= 0; i-- {
		errs = append(errs, control[i].Kill())
	}
	// A chosen folder keeps the logs; the data would only be cleared by the next cluster.
	errs = append(errs, os.RemoveAll(c.path("etcd")))
	return errors.Join(append(errs, c.dir.close())...)
}

// Run starts a program of the test's own, such as Boltseal, as part of the cluster: its log is Dir/logs/name.log,
// and Stop ends it, with SIGTERM first. Spec.LogFile may be left empty.
func (c *Cluster) Run(spec process.Spec) (*process.Process, error) {
	if spec.LogFile == "" {
		spec.LogFile = c.LogFile(spec.Name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil, fmt.Errorf("start %s: the cluster is stopped", spec.Name)
	}
	p, err := process.Start(spec)
	if err != nil {
		return nil, err
	}
	c.extra = append(c.extra, p)
	return p, nil
}

// Wait returns nil when ctx is done, or an error when a process of the control plane has ended before.
func (c *Cluster) Wait(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	c.mu.Lock()
	for _, p := range c.control {
		wg.Go(func() {
			select {
			case <-p.Exited():
				cancel(p.Err())
			case <-ctx.Done():
			}
		})
	}
	c.mu.Unlock()
	wg.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, process.ErrExited) {
		return cause
	}
	return nil
}

// Dir is the cluster's folder, for files that should go with it.
func (c *Cluster) Dir() string { return c.dir.path }

// LogFile is where the process with that name logs: etcd, kube-apiserver, kube-controller-manager, gatekeeper, or
// one that Run started.
func (c *Cluster) LogFile(name string) string { return c.path("logs", name+".log") }

// Kubectl is the path of a kubectl of the cluster's version.
func (c *Cluster) Kubectl() string { return c.programs.Path(binaries.Kubectl) }

// Processes returns the processes that were started, the control plane's first.
func (c *Cluster) Processes() []*process.Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(append([]*process.Process(nil), c.control...), c.extra...)
}

func (c *Cluster) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir.path}, elem...)...)
}
