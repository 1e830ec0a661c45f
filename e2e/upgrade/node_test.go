package upgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/e2e/product"
)

// lookEvery is how often the node looks at its Pods and at their probes: as a kubelet does, but sooner.
const lookEvery = 50 * time.Millisecond

// node does what a node and a Service do for the Pods of Boltseal's namespace: it runs each as a process, says whether
// it is ready, ends it by SIGTERM with the time it is given, and leads connections to those that are ready.
type node struct {
	binaries map[string]string // by the image's tag
	listener net.Listener
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu    sync.Mutex
	units map[types.UID]*unit
	next  int
	lost  []error
}

// unit is a Pod that runs.
type unit struct {
	name    string
	server  *product.Server
	ready   atomic.Bool
	ending  atomic.Bool
	address string
}

func newNode(ctx context.Context, binaries map[string]string) (*node, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	n := &node{binaries: binaries, listener: l, cancel: cancel, units: map[types.UID]*unit{}}
	n.wg.Go(func() {
		for ctx.Err() == nil {
			n.look(ctx)
			time.Sleep(lookEvery) // waits: the time between two looks
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go n.lead(c)
		}
	}()
	return n, nil
}

func (n *node) stop() {
	n.cancel()
	_ = n.listener.Close()
	n.wg.Wait()
}

func (n *node) port() int { return n.listener.Addr().(*net.TCPAddr).Port }

func (n *node) complain(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = append(n.lost, err)
}

// problems are what went wrong with Pods.
func (n *node) problems() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return errors.Join(n.lost...)
}

// forgive forgets what was meant to go wrong.
func (n *node) forgive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = nil
}

// versions are those of the Pods that run and are ready.
func (n *node) versions(ctx context.Context) (map[string]int, error) {
	var pods corev1.PodList
	if err := cluster.Client().List(ctx, &pods, client.InNamespace(system), client.MatchingLabels{"app.kubernetes.io/component": "server"}); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, p := range pods.Items {
		n.mu.Lock()
		u := n.units[p.UID]
		n.mu.Unlock()
		if u != nil && u.ready.Load() && p.DeletionTimestamp == nil {
			out[p.Labels["app.kubernetes.io/version"]]++
		}
	}
	return out, nil
}

func (n *node) look(ctx context.Context) {
	var pods corev1.PodList
	if err := cluster.Client().List(ctx, &pods, client.InNamespace(system)); err != nil {
		return
	}
	for i := range pods.Items {
		p := &pods.Items[i]
		n.mu.Lock()
		u := n.units[p.UID]
		n.mu.Unlock()
		switch {
		case u == nil && p.DeletionTimestamp == nil && p.Status.Phase == corev1.PodPending:
			n.start(ctx, p)
		case u != nil && p.DeletionTimestamp != nil && u.ending.CompareAndSwap(false, true):
			n.wg.Go(func() { n.end(p, u) })
		}
	}
}

// start binds a Pod, so that it is not deleted before its process has ended, and runs it.
func (n *node) start(ctx context.Context, p *corev1.Pod) {
	bind := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name}, Target: corev1.ObjectReference{Kind: "Node", Name: "machine"}}
	if err := cluster.Client().SubResource("binding").Create(ctx, p, bind); err != nil {
		n.complain(fmt.Errorf("bind %s: %w", p.Name, err))
		return
	}
	_, tag, _ := strings.Cut(p.Spec.Containers[0].Image, ":")
	s, err := product.StartPod(ctx, cluster, n.binaries[tag], p.Name, p.Namespace, p.Spec)
	if err != nil {
		n.complain(fmt.Errorf("start %s: %w", p.Name, err))
		return
	}
	u := &unit{name: p.Name, server: s, address: strings.TrimPrefix(s.URL, "https://")}
	n.mu.Lock()
	n.units[p.UID] = u
	n.mu.Unlock()
	n.wg.Go(func() {
		if s.Health == "" {
			n.finish(p, u)
			return
		}
		n.probe(ctx, p, u)
	})
}

// probe says whether a Pod is ready until it ends.
func (n *node) probe(ctx context.Context, p *corev1.Pod, u *unit) {
	told := false
	for ctx.Err() == nil {
		select {
		case <-u.server.Process.Exited():
			u.ready.Store(false)
			if !u.ending.Load() {
				n.complain(fmt.Errorf("%s ended by itself: %w", u.name, u.server.Process.Err()))
			}
			return
		case <-time.After(lookEvery):
		}
		now := ready(ctx, u.server.Health)
		u.ready.Store(now)
		if now && !told {
			if err := cluster.SetRunning(ctx, p.Namespace, p.Name, nil); err == nil {
				told = true
			}
		}
	}
}

func ready(ctx context.Context, health string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, health+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// finish tells how a Pod that ends by itself has ended.
func (n *node) finish(p *corev1.Pod, u *unit) {
	<-u.server.Process.Exited()
	phase, status := corev1.PodSucceeded, int32(0)
	if err := u.server.Process.Err(); err != nil && !strings.Contains(err.Error(), "exit status 0") {
		if text, _ := os.ReadFile(cluster.LogFile(u.name)); len(text) > 0 {
			err = fmt.Errorf("%w\n%s", err, text)
		}
		n.complain(fmt.Errorf("%s: %w", u.name, err))
		phase, status = corev1.PodFailed, 1
	}
	before := p.DeepCopy()
	p.Status.Phase = phase
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: p.Spec.Containers[0].Name, Image: p.Spec.Containers[0].Image,
		State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: status, FinishedAt: metav1.Now()}}}}
	if err := cluster.Client().Status().Patch(context.Background(), p, client.MergeFrom(before)); err != nil {
		n.complain(fmt.Errorf("the status of %s: %w", p.Name, err))
	}
}

// end ends a Pod that is being deleted.
func (n *node) end(p *corev1.Pod, u *unit) {
	grace := time.Duration(*p.Spec.TerminationGracePeriodSeconds) * time.Second
	if err := u.server.Process.Stop(grace); err != nil {
		n.complain(fmt.Errorf("%s did not end in good order: %w", u.name, err))
	}
	zero, uid := int64(0), p.UID
	if err := cluster.Client().Delete(context.Background(), p, &client.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &uid}}); client.IgnoreNotFound(err) != nil {
		n.complain(fmt.Errorf("delete %s: %w", p.Name, err))
	}
}

// lead leads a connection to a Pod that is ready, in turn.
func (n *node) lead(c net.Conn) {
	defer c.Close()
	n.mu.Lock()
	var ready []string
	for _, u := range n.units {
		if u.ready.Load() {
			ready = append(ready, u.address)
		}
	}
	n.next++
	at := n.next
	n.mu.Unlock()
	if len(ready) == 0 {
		return
	}
	b, err := net.Dial("tcp", ready[at%len(ready)])
	if err != nil {
		return
	}
	defer b.Close()
	go func() {
		_, _ = io.Copy(b, c)
		_ = b.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(c, b)
}
