package machine

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/boltseal/boltseal/e2e/process"
)

// accountPath is where the token of a Pod's ServiceAccount is mounted.
const accountPath = "/var/run/secrets/kubernetes.io/serviceaccount"

// inCluster is how a container asks for the cluster that it is in.
const inCluster = "--in-cluster"

var (
	listen   = regexp.MustCompile(`^(--(?:[a-z]+-)*listen=):([0-9]+)$`)
	variable = regexp.MustCompile(`\$\(([A-Za-z_][A-Za-z0-9_]*)\)`)
)

// container is a container of a Pod.
type container struct {
	pod     *pod
	spec    corev1.Container
	program string // "" for an image that has none

	mu             sync.Mutex
	state, last    corev1.ContainerState
	started, ready bool
	done           bool // it does not run again
	runs           int  // that were started before this one
}

func (c *container) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *container) restarted() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs
}

func (c *container) isDone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done
}

func (c *container) imageID() string {
	if f := c.pod.m.o.ImageID; f != nil && c.program == "" {
		return f(c.spec.Image)
	}
	return ""
}

func (c *container) logFile(run int) string {
	return c.pod.m.cluster.LogFile(fmt.Sprintf("%s_%s_%s_%d", c.pod.namespace, c.pod.name, c.spec.Name, run))
}

func (c *container) status() corev1.ContainerStatus {
	id := c.imageID()
	c.mu.Lock()
	defer c.mu.Unlock()
	return corev1.ContainerStatus{Name: c.spec.Name, Image: c.spec.Image, ImageID: id, Ready: c.ready, Started: &c.started, State: c.state,
		LastTerminationState: c.last, RestartCount: int32(c.runs), ContainerID: fmt.Sprintf("process://%s-%s-%d", c.pod.uid, c.spec.Name, c.runs)}
}

// supervise runs the container, again and again where its Pod says so, until the Pod ends or is gone. The error is why
// it cannot be run.
func (c *container) supervise(ctx context.Context) error {
	for {
		begin := metav1.Now()
		running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: begin}}
		if c.program == "" {
			c.set(func() { c.state, c.started, c.ready = running, true, true })
			c.pod.report(ctx)
			select {
			case <-ctx.Done():
			case <-c.pod.ending:
			}
			return nil
		}
		p, err := c.start(ctx)
		if err != nil {
			return err
		}
		c.set(func() { c.state = running })
		c.pod.report(ctx)
		c.attend(ctx, p)
		exit := p.ExitStatus()
		again := !c.pod.isEnding() && ctx.Err() == nil && c.pod.restarts(exit)
		if ctx.Err() == nil && !c.pod.isEnding() && (again || exit != 0) {
			c.pod.m.complain("container %s of Pod %s ended by itself: %w", c.spec.Name, c.pod, p.Err())
		}
		c.set(func() {
			c.started, c.ready, c.done = false, false, !again
			c.state = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: int32(exit), StartedAt: begin, FinishedAt: metav1.Now()}}
		})
		c.pod.report(ctx)
		if !again || !c.pod.pause(ctx, restartDelay) {
			return nil
		}
		c.set(func() { c.last, c.runs = c.state, c.runs+1 })
	}
}

// attend probes a process until it has ended, and ends it where its Pod or a probe says so.
func (c *container) attend(ctx context.Context, p *process.Process) {
	probed, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	dead := make(chan string, 1)
	wg.Go(func() { c.probe(probed, dead) })
	select {
	case <-p.Exited():
	case <-ctx.Done():
		_ = p.Kill()
	case why := <-dead:
		c.pod.m.complain("container %s of Pod %s is ended: %s", c.spec.Name, c.pod, why)
		c.stop(ctx, p, time.Duration(*c.pod.object.Spec.TerminationGracePeriodSeconds)*time.Second)
	case <-c.pod.ending:
		c.stop(ctx, p, c.pod.grace)
	}
}

// stop ends a process: first the preStop hook, then SIGTERM, and SIGKILL after the grace period.
func (c *container) stop(ctx context.Context, p *process.Process, grace time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	end := time.Now().Add(grace)
	if l := c.spec.Lifecycle; l != nil && l.PreStop != nil {
		if err := c.hook(ctx, p, l.PreStop); err != nil {
			c.pod.m.complain("preStop of container %s of Pod %s: %w", c.spec.Name, c.pod, err)
		}
	}
	if err := p.Stop(max(time.Until(end), time.Millisecond)); err != nil && ctx.Err() != context.Canceled {
		c.pod.m.complain("Pod %s: %w", c.pod, err)
	}
}

func (c *container) hook(ctx context.Context, p *process.Process, h *corev1.LifecycleHandler) error {
	switch {
	case h.Sleep != nil:
		select {
		case <-time.After(time.Duration(h.Sleep.Seconds) * time.Second): // waits: the hook is a sleep
		case <-p.Exited():
		case <-ctx.Done():
		}
		return nil
	case h.HTTPGet != nil:
		return c.get(ctx, http.DefaultClient, h.HTTPGet)
	}
	return errors.New("this node runs no such hook")
}

// start starts the process of the container.
func (c *container) start(ctx context.Context) (*process.Process, error) {
	if len(c.spec.Command) > 0 || len(c.spec.EnvFrom) > 0 {
		return nil, errors.New("this node runs no command but the image's, and knows no envFrom")
	}
	env, err := c.environment(ctx)
	if err != nil {
		return nil, err
	}
	args, err := c.arguments(env)
	if err != nil {
		return nil, err
	}
	list := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + c.pod.dir}
	if s := c.spec.SecurityContext; s != nil && s.ReadOnlyRootFilesystem != nil && *s.ReadOnlyRootFilesystem {
		list = append(list, "TMPDIR="+filepath.Join(c.pod.dir, "read-only"))
	}
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return process.Start(process.Spec{Name: c.pod.name, Path: c.program, Args: args, Env: list, Dir: c.pod.dir, LogFile: c.logFile(c.restarted())})
}

// arguments are those that the process gets.
func (c *container) arguments(env map[string]string) ([]string, error) {
	var out []string
	serves := false
	for _, a := range c.spec.Args {
		a = c.local(expand(a, env))
		if m := listen.FindStringSubmatch(a); m != nil {
			a, serves = m[1]+c.pod.address+":"+m[2], true
		}
		if a == inCluster {
			kubeconfig, err := c.kubeconfig()
			if err != nil {
				return nil, err
			}
			a = "--kubeconfig=" + kubeconfig
		}
		out = append(out, a)
	}
	if serves {
		out = append(out, "--namespace="+c.pod.namespace)
	}
	return out, nil
}

// environment is what the Pod says; variables in it are replaced.
func (c *container) environment(ctx context.Context) (map[string]string, error) {
	env := map[string]string{}
	for _, e := range c.spec.Env {
		value := expand(e.Value, env)
		if from := e.ValueFrom; from != nil {
			var err error
			switch {
			case from.FieldRef != nil:
				value, err = c.pod.field(from.FieldRef.FieldPath)
			case from.SecretKeyRef != nil:
				value, err = c.pod.secretKey(ctx, from.SecretKeyRef)
			case from.ConfigMapKeyRef != nil:
				value, err = c.pod.configMapKey(ctx, from.ConfigMapKeyRef)
			default:
				err = errors.New("this node does not know where its value is from")
			}
			if err != nil {
				return nil, fmt.Errorf("variable %s: %w", e.Name, err)
			}
		}
		env[e.Name] = c.local(value)
	}
	return env, nil
}

func expand(text string, env map[string]string) string {
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		if value, ok := env[v[2:len(v)-1]]; ok {
			return value
		}
		return v
	})
}

// local replaces a path below a mount path, alone or as the value of a flag.
func (c *container) local(text string) string {
	flag, path := "", text
	if at := strings.IndexByte(text, '='); at >= 0 && strings.HasPrefix(text, "-") {
		flag, path = text[:at+1], text[at+1:]
	}
	for _, m := range c.spec.VolumeMounts {
		if rest, ok := strings.CutPrefix(path, m.MountPath); ok && (rest == "" || rest[0] == '/') {
			return flag + c.pod.volume(m.Name) + rest
		}
	}
	return text
}

// kubeconfig names the API server, and the token and the CA in the ServiceAccount's volume.
func (c *container) kubeconfig() (string, error) {
	token := c.local(accountPath + "/token")
	if strings.HasPrefix(token, accountPath) {
		return "", errors.New("no token of its ServiceAccount is mounted")
	}
	const name = "in-cluster"
	k := clientcmdapi.NewConfig()
	k.Clusters[name] = &clientcmdapi.Cluster{Server: c.pod.m.cluster.Config().Host, CertificateAuthority: c.local(accountPath + "/ca.crt")}
	k.AuthInfos[name] = &clientcmdapi.AuthInfo{TokenFile: token}
	k.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name, Namespace: c.pod.namespace}
	k.CurrentContext = name
	file := filepath.Join(c.pod.dir, "kubeconfig")
	return file, clientcmd.WriteToFile(*k, file)
}
