// Package machine stands in for a node and its network, so that what a chart makes is what is tested: it binds Pods,
// runs their programs as processes with their ServiceAccounts' tokens, volumes, environment and probes, ends them as a
// kubelet does, answers kubectl logs, and routes Services to the Pods that are ready.
//
// A container is a process here, so what it must do otherwise is otherwise: --in-cluster becomes --kubeconfig and
// --namespace, an argument --…listen=:PORT gets the Pod's address, and a path below a volume's mount path, in an
// argument or an environment variable, becomes that of the folder that stands for the volume. Limits, security contexts,
// NetworkPolicies and names of Services (there is no DNS) have no effect. A probe has as long as it takes, since a slow
// machine is not what is tested.
package machine

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/boltseal/boltseal/e2e/kit"
)

// NodeName is that of the Node.
const NodeName = "machine"

// Options say what a machine runs.
type Options struct {
	// Network is what Reserve returned; the API server runs with its APIServerArgs. Required.
	Network *Network
	// Programs are the binaries of images, by the reference that a Pod has.
	Programs map[string]string
	// ImageID is the image id of an image without a program, such as registry.example/app@sha256:…: its containers run
	// and do nothing. Nil, or "" for an image: it cannot be pulled.
	ImageID func(image string) string
	// Namespaces are those whose Pods run. Empty: all.
	Namespaces []string
}

// Machine is a node that runs. Its methods may be called from several goroutines.
type Machine struct {
	o        Options
	cluster  *kit.Cluster
	client   kubernetes.Interface
	services *services
	logs     *logServer
	factory  informers.SharedInformerFactory
	running  context.Context // until Stop
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	mu   sync.Mutex
	pods map[types.UID]*pod
	next int
	lost []error

	cordoned bool
}

// Start makes the Node and runs its Pods until Stop. ctx bounds the start only.
func Start(ctx context.Context, c *kit.Cluster, o Options) (_ *Machine, err error) {
	m := &Machine{o: o, cluster: c, pods: map[types.UID]*pod{}}
	if m.client, err = kubernetes.NewForConfig(c.Config()); err != nil {
		return nil, err
	}
	if m.logs, err = newLogServer(m); err != nil {
		return nil, err
	}
	if err := m.register(ctx); err != nil {
		return nil, errors.Join(err, m.logs.close())
	}
	ctx, m.cancel = context.WithCancel(context.WithoutCancel(ctx))
	m.running = ctx
	m.factory = informers.NewSharedInformerFactory(m.client, 0)
	factory := m.factory
	m.services = newServices(m, factory.Discovery().V1().EndpointSlices().Lister())
	pods := factory.Core().V1().Pods().Informer()
	_, err1 := pods.AddEventHandler(on(func(p *corev1.Pod) { m.see(ctx, p) }, m.forget))
	_, err2 := factory.Core().V1().Services().Informer().AddEventHandler(on(m.services.see, m.services.forget))
	_, err3 := factory.Discovery().V1().EndpointSlices().Informer().AddEventHandler(on(func(*discoveryv1.EndpointSlice) {}, func(*discoveryv1.EndpointSlice) {}))
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, errors.Join(err, m.Stop())
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	return m, nil
}

// on calls see for what is there, and forget for what is gone.
func on[T any](see, forget func(T)) cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { see(o.(T)) },
		UpdateFunc: func(_, o any) { see(o.(T)) },
		DeleteFunc: func(o any) {
			if d, ok := o.(cache.DeletedFinalStateUnknown); ok {
				o = d.Obj
			}
			if t, ok := o.(T); ok {
				forget(t)
			}
		},
	}
}

// register makes the Node and writes its status.
func (m *Machine) register(ctx context.Context) error {
	node := &corev1.Node{}
	node.Name = NodeName
	node.Labels = map[string]string{"kubernetes.io/hostname": NodeName, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
	node, err := m.client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("make the Node: %w", err)
	}
	now := metav1.Now()
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: now, LastTransitionTime: now}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: m.o.Network.address(hostAddress)}}
	node.Status.DaemonEndpoints.KubeletEndpoint.Port = m.logs.port()
	node.Status.NodeInfo = corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64"}
	if _, err := m.client.CoreV1().Nodes().UpdateStatus(ctx, node, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("write the status of the Node: %w", err)
	}
	return nil
}

// Stop kills what runs. The Node and the Pods stay in the API.
func (m *Machine) Stop() error {
	m.cancel()
	m.factory.Shutdown()
	m.wg.Wait()
	m.services.close()
	return m.logs.close()
}

// Address is where a Pod of this node listens, without a port; "" where it does not run here.
func (m *Machine) Address(p *corev1.Pod) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if have := m.pods[p.UID]; have != nil {
		return have.address
	}
	return ""
}

// LogFile is the log of the only container of a Pod that runs or ran here.
func (m *Machine) LogFile(p *corev1.Pod) (string, error) {
	return m.logFile(p.Namespace, p.Name, p.Spec.Containers[0].Name, false)
}

// Cordon starts no Pods from now on until Uncordon, as a node that is cordoned.
func (m *Machine) Cordon() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cordoned = true
}

// Uncordon starts Pods again, first those that came meanwhile.
func (m *Machine) Uncordon() error {
	m.mu.Lock()
	m.cordoned = false
	m.mu.Unlock()
	pods, err := m.factory.Core().V1().Pods().Lister().List(labels.Everything())
	if err != nil {
		return err
	}
	for _, p := range pods {
		m.see(m.running, p)
	}
	return nil
}

// Problems are what went wrong with Pods: an exit that nobody asked for or with a status other than 0, and an end that
// took longer than the grace period.
func (m *Machine) Problems() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return errors.Join(m.lost...)
}

// Forgive forgets what was meant to go wrong.
func (m *Machine) Forgive() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = nil
}

func (m *Machine) complain(format string, a ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost = append(m.lost, fmt.Errorf(format, a...))
}
