package running

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/boltseal/boltseal/internal/admission/integrity"
)

const (
	// maxOwners is how many owners are asked for in one look.
	maxOwners = 1000
	// ownerAge is how long it is good what an owner named: longer than the audit's
	// interval, so that another look asks for others.
	ownerAge     = 30 * time.Minute
	ownerTimeout = 10 * time.Second
)

// Owners reads the workloads that own Pods.
type Owners interface {
	// Images are those that the template of the owner names, in its namespace. There
	// are none where no such object has that UID.
	Images(ctx context.Context, namespace string, o integrity.Owner) ([]string, error)
}

// owned is an owner in a namespace.
type owned struct {
	namespace string
	owner     integrity.Owner
}

// template is what an owner names.
type template struct {
	images []string
	until  time.Time
}

// packOwner is the Pod's ownerReference with controller: true; "" where it has
// none or more than one.
func packOwner(p *corev1.Pod) string {
	text := ""
	for _, o := range p.OwnerReferences {
		if o.Controller == nil || !*o.Controller {
			continue
		}
		if text != "" {
			return ""
		}
		text = strings.Join([]string{o.APIVersion, o.Kind, o.Name, string(o.UID)}, fieldEnd)
	}
	return text
}

func unpackOwner(s string) *integrity.Owner {
	f := strings.Split(s, fieldEnd)
	if len(f) != 4 {
		return nil
	}
	return &integrity.Owner{APIVersion: f[0], Kind: f[1], Name: f[2], UID: f[3]}
}

// confirm asks the owners of Pods that run something untrusted and are exempt if
// they are owned as they say: nobody keeps who created a Pod, and anybody can
// write ownerReferences. It is true where the owner is there and names the image.
func (j *Judge) confirm(ctx context.Context, p *plan) {
	now := j.o.Clock()
	known := j.verdicts(p)
	kept, seen := map[owned]template{}, map[owned]bool{}
	asked := 0
	for _, s := range p.sorts {
		for _, d := range s.demands {
			if d.claimed == nil || known[d.unit] == nil || outcomeOf(known[d.unit].decision) == Trusted {
				continue
			}
			o := unpackOwner(s.owner.Value())
			if o == nil {
				continue
			}
			key := owned{s.namespace, *o}
			if seen[key] {
				continue
			}
			seen[key] = true
			n, before := j.owners[key]
			if before {
				kept[key] = n // at worst it is old
			}
			if before && now.Before(n.until) {
				continue
			}
			if j.o.Owners == nil || asked == maxOwners || ctx.Err() != nil {
				continue
			}
			asked++
			images, err := j.askOwner(ctx, key)
			if err != nil {
				continue // it is not confirmed, and asked for again at the next look
			}
			kept[key] = template{images, now.Add(ownerAge)}
		}
	}
	j.owners = kept
}

func (j *Judge) askOwner(ctx context.Context, o owned) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	return j.o.Owners.Images(ctx, o.namespace, o.owner)
}

// exemption is what a demand is under, nil where that is nothing.
func (j *Judge) exemption(s *sort, d demand, now time.Time) *integrity.Exemption {
	if e := d.claimed; e != nil && !e.Over(now) {
		if o := unpackOwner(s.owner.Value()); o != nil {
			if n, ok := j.owners[owned{s.namespace, *o}]; ok && slices.ContainsFunc(n.images, func(image string) bool { return runsImage(d.image, image) }) {
				return e
			}
		}
	}
	if d.exempt != nil && !d.exempt.Over(now) {
		return d.exempt
	}
	return nil
}

// runsImage reports whether a Pod's image is its template's, or that with the digest
// that was once verified written behind it.
func runsImage(pod, named string) bool {
	if pod == named {
		return true
	}
	name, _, pinned := strings.Cut(pod, "@")
	return pinned && !strings.Contains(named, "@") && (name == named || name == named+":latest")
}

// ownerResource is where owners of Pods of a kind are.
func ownerResource(kind string) (schema.GroupVersionResource, bool) {
	switch kind {
	case "ReplicaSet", "StatefulSet", "DaemonSet":
		return schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: strings.ToLower(kind) + "s"}, true
	case "Job":
		return schema.GroupVersionResource{Group: "batch", Version: "v1", Resource: "jobs"}, true
	case "ReplicationController":
		return schema.GroupVersionResource{Version: "v1", Resource: "replicationcontrollers"}, true
	}
	return schema.GroupVersionResource{}, false
}

// clusterOwners are the Owners of a cluster.
type clusterOwners struct{ client dynamic.Interface }

// NewOwners reads owners from a cluster.
func NewOwners(client dynamic.Interface) Owners { return clusterOwners{client} }

// Images asks the API server.
func (c clusterOwners) Images(ctx context.Context, namespace string, o integrity.Owner) ([]string, error) {
	gvr, ok := ownerResource(o.Kind)
	if !ok {
		return nil, nil
	}
	u, err := c.client.Resource(gvr).Namespace(namespace).Get(ctx, o.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case o.UID == "" || string(u.GetUID()) != o.UID:
		return nil, nil
	}
	fields, ok, err := unstructured.NestedMap(u.Object, "spec", "template")
	if err != nil || !ok {
		return nil, err
	}
	var t corev1.PodTemplateSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &t); err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", o.Kind, namespace, o.Name, err)
	}
	var images []string
	for _, list := range [][]corev1.Container{t.Spec.InitContainers, t.Spec.Containers} {
		for i := range list {
			images = append(images, list[i].Image)
		}
	}
	for _, v := range t.Spec.Volumes {
		if v.Image != nil {
			images = append(images, v.Image.Reference)
		}
	}
	return images, nil
}
