package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"

	"github.com/boltseal/boltseal/internal/compile"
)

const (
	// nodesAwait is how long the Nodes are waited for where a Policy begins to ask for
	// them. They may be unreadable, and then nothing else is to wait.
	nodesAwait = 2 * time.Second
	// maxNodes bounds how many Nodes are read at once, for who looks from outside.
	maxNodes = 50_000
)

var unreadNodes = compile.Nodes{Unread: "the cluster's Nodes could not be read yet"}

// nodes counts what the cluster's Nodes run. Only their labels are looked at: a Node
// is long, and lists images.
type nodes struct {
	asked bool          // whether they are watched; of the loop's
	known chan struct{} // closed once all are

	mu    sync.Mutex
	each  map[string]string // name → OS/ARCHITECTURE
	count map[string]int
}

func newNodes() *nodes {
	return &nodes{known: make(chan struct{}), each: map[string]string{}, count: map[string]int{}}
}

// platformOf is what a Node says that it runs.
func platformOf(o metav1.Object) string {
	l := o.GetLabels()
	return l[corev1.LabelOSStable] + "/" + l[corev1.LabelArchStable]
}

// set notes what a Node runs, "" where it is gone, and reports whether the Nodes
// together run something else now.
func (n *nodes) set(name, platform string) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.each[name]
	if old == platform {
		return false
	}
	if old != "" {
		delete(n.each, name)
		if n.count[old]--; n.count[old] == 0 {
			delete(n.count, old)
			changed = true
		}
	}
	if platform != "" {
		n.each[name] = platform
		n.count[platform]++
		changed = changed || n.count[platform] == 1
	}
	return changed
}

// Nodes is what the cluster's Nodes run, as far as is known.
func (c *Controller) Nodes() *compile.Nodes {
	select {
	case <-c.nodes.known:
	default:
		return &unreadNodes
	}
	c.nodes.mu.Lock()
	defer c.nodes.mu.Unlock()
	return compile.NewNodes(slices.Sorted(maps.Keys(c.nodes.count)))
}

// askNodes watches the Nodes from when a Policy asks for them, and gives them a
// moment then.
func (c *Controller) askNodes(ctx context.Context) {
	if c.nodes.asked {
		return
	}
	entries, _ := c.table.entries()
	if !compile.NewCluster(c.o.Cluster, entries).WantsNodes() {
		return
	}
	c.nodes.asked = true
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Node"))
	c.spawn(func() {
		c.watchKind(ctx, o, "Node", false, c.nodeHandler(), func() { close(c.nodes.known); c.poke() })
	})
	most := time.NewTimer(nodesAwait)
	defer most.Stop()
	select {
	case <-ctx.Done():
	case <-c.nodes.known:
	case <-most.C:
		c.o.Log.Warn("a Policy asks what the cluster's Nodes run, and they cannot be read yet: Boltseal must be allowed to list and watch nodes")
	}
}

func (c *Controller) nodeHandler() toolscache.ResourceEventHandler {
	set := func(name, platform string) {
		if c.nodes.set(name, platform) {
			c.poke()
		}
	}
	observe := func(in any) {
		if o, err := meta.Accessor(in); err == nil {
			set(o.GetName(), platformOf(o))
		}
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    observe,
		UpdateFunc: func(_, in any) { observe(in) },
		DeleteFunc: func(in any) {
			if o := deletedObject(in); o != nil {
				set(o.GetName(), "")
			}
		},
	}
}

// ReadNodes reads once what a cluster's Nodes run, for who looks at a cluster from
// outside.
func ReadNodes(ctx context.Context, config *rest.Config) *compile.Nodes {
	unread := func(err error) *compile.Nodes {
		return &compile.Nodes{Unread: fmt.Sprintf("the cluster's Nodes cannot be read: %v", err)}
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return unread(err)
	}
	platforms := map[string]bool{}
	read := 0
	for o := (metav1.ListOptions{Limit: readPage}); ; {
		list, err := client.Resource(corev1.SchemeGroupVersion.WithResource("nodes")).List(ctx, o)
		if err != nil {
			return unread(err)
		}
		for i := range list.Items {
			platforms[platformOf(&list.Items[i])] = true
		}
		if read += len(list.Items); read > maxNodes {
			return unread(fmt.Errorf("there are more than %d", maxNodes))
		}
		if o.Continue = list.Continue; o.Continue == "" {
			return compile.NewNodes(slices.Sorted(maps.Keys(platforms)))
		}
	}
}
