package doctor

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal"
)

// How many Pods are looked at for an image to try, and how many images are tried.
const (
	maxTryPods   = 100
	maxTryImages = 20
)

var podKind = schema.GroupVersionKind{Version: "v1", Kind: "Pod"}

// admission asks the API server whether it would take a Pod now, for each image that
// was named, or for one that runs: as a dry run, which leaves nothing behind.
func (x *clusterCheck) admission(ctx context.Context, engine *boltseal.Engine, o Options) {
	images := o.Images[:min(len(o.Images), maxTryImages)]
	if len(images) == 0 {
		image, err := x.runningImage(ctx)
		switch {
		case err != nil:
			x.failed(AreaAdmission, "Pods", err)
			return
		case image == "":
			x.add(AreaAdmission, "", Unknown, "nothing was tried: no Pod runs outside of the system's namespaces", "name an image with --image")
			return
		}
		images = []string{image}
	}
	for _, image := range images {
		x.out = append(x.out, x.tryPod(ctx, engine, image, o))
	}
}

// runningImage is the image of some Pod that runs, "" where none does.
func (x *clusterCheck) runningImage(ctx context.Context) (string, error) {
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(podKind)
	if err := x.client.List(ctx, list, client.Limit(maxTryPods)); err != nil {
		return "", err
	}
	for i := range list.Items {
		u := &list.Items[i]
		if ns := u.GetNamespace(); strings.HasPrefix(ns, "kube-") || ns == x.o.Namespace || ns == "gatekeeper-system" {
			continue
		}
		containers, _, _ := unstructured.NestedSlice(u.Object, "spec", "containers")
		for _, c := range containers {
			m, _ := c.(map[string]any)
			if image, _ := m["image"].(string); image != "" {
				return image, nil
			}
		}
	}
	return "", nil
}

// probePod is a Pod that the strictest of Kubernetes' own rules take.
func probePod(namespace, image string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"generateName": "boltseal-doctor-", "namespace": namespace},
		"spec": map[string]any{
			"automountServiceAccountToken": false,
			"securityContext":              map[string]any{"runAsNonRoot": true, "runAsUser": int64(65532), "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
			"containers": []any{map[string]any{"name": "app", "image": image,
				"resources":       map[string]any{"requests": map[string]any{"cpu": "1m", "memory": "4Mi"}, "limits": map[string]any{"cpu": "1m", "memory": "4Mi"}},
				"securityContext": map[string]any{"allowPrivilegeEscalation": false, "capabilities": map[string]any{"drop": []any{"ALL"}}}}},
		}}}
	u.SetGroupVersionKind(podKind)
	return u
}

// tryPod is what the API server says to a Pod with the image.
func (x *clusterCheck) tryPod(ctx context.Context, engine *boltseal.Engine, image string, o Options) Finding {
	ctx, cancel := context.WithTimeout(ctx, 3*o.Timeout)
	defer cancel()
	f := Finding{Area: AreaAdmission, Subject: image}
	err := x.client.Create(ctx, probePod(x.o.TryNamespace, image), client.DryRunAll)
	text := ""
	if err != nil {
		text = err.Error()
	}
	switch {
	case err == nil:
		f.Level, f.Message = OK, "a Pod with it would be admitted now in namespace "+x.o.TryNamespace
		return f
	case apierrors.IsForbidden(err) && strings.Contains(text, "cannot create resource"):
		f.Level, f.Message, f.Remedy = Unknown, "it was not tried: you may not create Pods in namespace "+x.o.TryNamespace, "ask as somebody who may, or name another namespace with --namespace"
		return f
	case strings.Contains(text, "failed calling webhook"):
		f.Message = "a Pod with it would be refused now, since a webhook does not answer: " + text
		f.Remedy = "see whether the webhook's Pods run and whether its Service and caBundle are right; the findings about replicas and webhooks say more where it is Boltseal's"
		return f
	case !refusedForTrust(text):
		f.Level, f.Message, f.Remedy = Unknown, "the API server refuses the Pod for another reason, so that nothing is known of the image: "+text, "name another namespace with --namespace"
		return f
	}
	f.Message, f.Remedy = "a Pod with it would be refused now: "+text, "do what the message says"
	if engine == nil {
		return f
	}
	r, verr := engine.Verify(ctx, image)
	switch {
	case verr == nil && r.Decision == boltseal.Allow:
		f.Message = "a Pod with it would be refused now, although the image is trusted by the cluster's resources as they are read here: " + text
		f.Remedy = "do what the message says; where it says that the image is not trusted, see whether Boltseal has taken up the latest edit: kubectl get verifiers"
	case verr == nil && r.Decision == boltseal.Deny:
		f.Level = Warning // it is refused as it should be
	}
	return f
}

// refusedForTrust reports whether a refusal is Boltseal's, or Gatekeeper's that asks it.
func refusedForTrust(text string) bool {
	return strings.Contains(text, ".boltseal.dev\" denied the request") || strings.Contains(text, "gatekeeper.sh\" denied the request")
}
