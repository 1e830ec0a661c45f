package machine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// mountEvery is how often a volume that is not there yet is looked for, refreshEvery how often one that changes is
	// read again.
	mountEvery, refreshEvery = time.Second, 5 * time.Second
	// restartDelay is the time between two runs of a container.
	restartDelay = time.Second
)

// pod is a Pod of this node.
type pod struct {
	m               *Machine
	object          *corev1.Pod // as it was bound
	uid             types.UID
	namespace, name string
	dir             string
	address, told   string // see Network.podAddress
	containers      []*container
	cancel          context.CancelFunc // its object is gone

	once   sync.Once
	ending chan struct{} // closed when it is being deleted
	grace  time.Duration // valid once ending is closed

	statusMu sync.Mutex // one write of a status at a time
}

// see starts a Pod that is new, and ends one that is being deleted.
func (m *Machine) see(ctx context.Context, o *corev1.Pod) {
	if len(m.o.Namespaces) > 0 && !slices.Contains(m.o.Namespaces, o.Namespace) {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pods[o.UID]
	switch {
	case p == nil && !m.cordoned && o.DeletionTimestamp == nil && o.Status.Phase == corev1.PodPending && (o.Spec.NodeName == "" || o.Spec.NodeName == NodeName):
		p = &pod{m: m, object: o.DeepCopy(), uid: o.UID, namespace: o.Namespace, name: o.Name, ending: make(chan struct{})}
		var err error
		if p.address, p.told, err = m.o.Network.podAddress(m.next); err != nil {
			m.lost = append(m.lost, err)
			return
		}
		m.next++
		for _, spec := range o.Spec.Containers {
			p.containers = append(p.containers, &container{pod: p, spec: spec, program: m.o.Programs[spec.Image], state: waiting("ContainerCreating", "")})
		}
		ctx, p.cancel = context.WithCancel(ctx)
		m.pods[o.UID] = p
		m.wg.Go(func() { p.live(ctx) })
	case p != nil && o.DeletionTimestamp != nil:
		p.once.Do(func() {
			if s := o.DeletionGracePeriodSeconds; s != nil {
				p.grace = time.Duration(*s) * time.Second
			}
			close(p.ending)
		})
	}
}

// forget kills what is left of a Pod whose object is gone.
func (m *Machine) forget(o *corev1.Pod) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if p := m.pods[o.UID]; p != nil {
		p.cancel()
		delete(m.pods, o.UID)
	}
}

func (p *pod) String() string { return p.namespace + "/" + p.name }

func (p *pod) isEnding() bool {
	select {
	case <-p.ending:
		return true
	default:
		return false
	}
}

// live is what becomes of a Pod, until its object is gone.
func (p *pod) live(ctx context.Context) {
	if p.object.Spec.NodeName == "" {
		to := &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: p.namespace, Name: p.name, UID: p.uid}, Target: corev1.ObjectReference{Kind: "Node", Name: NodeName}}
		if err := p.m.client.CoreV1().Pods(p.namespace).Bind(ctx, to, metav1.CreateOptions{}); err != nil {
			if !apierrors.IsNotFound(err) && ctx.Err() == nil {
				p.m.complain("bind Pod %s: %w", p, err)
			}
			return
		}
	}
	p.dir = filepath.Join(p.m.cluster.Dir(), "pods", string(p.uid))
	defer os.RemoveAll(p.dir)
	p.report(ctx)
	if p.pulled() && p.mounted(ctx) {
		p.run(ctx)
	}
	p.report(ctx)
	select {
	case <-ctx.Done():
		return
	case <-p.ending:
	}
	zero := int64(0)
	err := p.m.client.CoreV1().Pods(p.namespace).Delete(ctx, p.name, metav1.DeleteOptions{GracePeriodSeconds: &zero, Preconditions: &metav1.Preconditions{UID: &p.uid}})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) && ctx.Err() == nil {
		p.m.complain("delete Pod %s: %w", p, err)
	}
}

// pulled reports whether all images can be had; else it says which cannot.
func (p *pod) pulled() bool {
	ok := true
	for _, c := range p.containers {
		if c.program == "" && c.imageID() == "" {
			c.set(func() { c.state = waiting("ImagePullBackOff", "no such image: "+c.spec.Image) })
			ok = false
		}
	}
	return ok
}

// mounted waits for the Pod's volumes, and has them read again. It is false when the Pod ends before.
func (p *pod) mounted(ctx context.Context) bool {
	for {
		err := p.mount(ctx)
		if err == nil {
			break
		}
		for _, c := range p.containers {
			c.set(func() { c.state = waiting("ContainerCreating", err.Error()) })
		}
		p.report(ctx)
		if !p.pause(ctx, mountEvery) {
			return false
		}
	}
	p.m.wg.Go(func() {
		for p.pause(ctx, refreshEvery) {
			_ = p.mount(ctx) // what was deleted stays mounted
		}
	})
	return true
}

// pause waits; it is false where the Pod ends meanwhile.
func (p *pod) pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-p.ending:
		return false
	case <-time.After(d):
		return true
	}
}

// run runs the containers until they have ended for good, or the Pod is gone.
func (p *pod) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, c := range p.containers {
		wg.Go(func() {
			if err := c.supervise(ctx); err != nil {
				p.m.complain("container %s of Pod %s: %w", c.spec.Name, p, err)
				c.set(func() { c.state = waiting("CreateContainerError", err.Error()) })
			}
		})
	}
	wg.Wait()
}

// report writes the Pod's status.
func (p *pod) report(ctx context.Context) {
	p.statusMu.Lock()
	defer p.statusMu.Unlock()
	for {
		now, err := p.m.client.CoreV1().Pods(p.namespace).Get(ctx, p.name, metav1.GetOptions{})
		if err == nil && now.UID == p.uid {
			p.status(&now.Status)
			_, err = p.m.client.CoreV1().Pods(p.namespace).UpdateStatus(ctx, now, metav1.UpdateOptions{})
		}
		switch {
		case apierrors.IsConflict(err):
			continue
		case err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil:
			p.m.complain("the status of Pod %s: %w", p, err)
		}
		return
	}
}

// status writes down how the Pod stands.
func (p *pod) status(s *corev1.PodStatus) {
	now := metav1.Now()
	s.ContainerStatuses = nil
	begun, ready, done, failed := true, true, true, false
	for _, c := range p.containers {
		st := c.status()
		s.ContainerStatuses = append(s.ContainerStatuses, st)
		t := st.State.Terminated
		begun = begun && (st.State.Waiting == nil || st.RestartCount > 0)
		ready = ready && st.Ready
		done = done && t != nil && c.isDone()
		failed = failed || t != nil && t.ExitCode != 0
	}
	switch {
	case done && failed:
		s.Phase = corev1.PodFailed
	case done:
		s.Phase = corev1.PodSucceeded
	case begun:
		s.Phase = corev1.PodRunning
	}
	if s.StartTime == nil {
		s.StartTime = &now
	}
	s.HostIP = p.m.o.Network.address(hostAddress)
	s.HostIPs = []corev1.HostIP{{IP: s.HostIP}}
	s.PodIP, s.PodIPs = p.told, []corev1.PodIP{{IP: p.told}}
	condition(s, corev1.PodScheduled, true, now)
	condition(s, corev1.PodInitialized, true, now)
	condition(s, corev1.ContainersReady, ready, now)
	condition(s, corev1.PodReady, ready, now)
}

// condition sets a condition; its time is that of the last change.
func condition(s *corev1.PodStatus, of corev1.PodConditionType, is bool, now metav1.Time) {
	status := corev1.ConditionFalse
	if is {
		status = corev1.ConditionTrue
	}
	i := slices.IndexFunc(s.Conditions, func(c corev1.PodCondition) bool { return c.Type == of })
	switch {
	case i < 0:
		s.Conditions = append(s.Conditions, corev1.PodCondition{Type: of, Status: status, LastTransitionTime: now})
	case s.Conditions[i].Status != status:
		s.Conditions[i].Status, s.Conditions[i].LastTransitionTime = status, now
	}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// restarts reports whether a container runs again after it has ended with a status.
func (p *pod) restarts(exit int) bool {
	switch p.object.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exit != 0
	}
	return true
}

// field is the value of a field of the Pod, for the downward API.
func (p *pod) field(path string) (string, error) {
	switch path {
	case "metadata.name":
		return p.name, nil
	case "metadata.namespace":
		return p.namespace, nil
	case "metadata.uid":
		return string(p.uid), nil
	case "spec.nodeName":
		return NodeName, nil
	case "spec.serviceAccountName":
		return p.object.Spec.ServiceAccountName, nil
	case "status.podIP":
		return p.address, nil
	}
	return "", fmt.Errorf("this node does not know the field %s of a Pod", path)
}
