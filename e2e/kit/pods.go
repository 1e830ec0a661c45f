package kit

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// SetRunning writes the status that a kubelet would write for a Pod that runs: phase Running, Ready, and a status
// for each container with its image and the image id that imageIDs gives for its name, such as
// "registry.example/app@sha256:…". Init containers have completed (those that restart always run on); ephemeral
// containers run. A container that imageIDs does not name has an empty image id, as while it is pulled. A name in
// imageIDs that the Pod does not have is an error.
func (c *Cluster) SetRunning(ctx context.Context, namespace, name string, imageIDs map[string]string) error {
	var pod corev1.Pod
	if err := c.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &pod); err != nil {
		return fmt.Errorf("read Pod %s/%s: %w", namespace, name, err)
	}
	before := pod.DeepCopy()
	if err := setRunning(&pod, imageIDs); err != nil {
		return err
	}
	if err := c.client.Status().Patch(ctx, &pod, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("write the status of Pod %s/%s: %w", namespace, name, err)
	}
	return nil
}

// SetAllRunning is SetRunning for the Pods of a namespace that are still Pending. imageID gives the image id for
// an image reference. It returns how many it set.
func (c *Cluster) SetAllRunning(ctx context.Context, namespace string, imageID func(image string) string) (int, error) {
	var pods corev1.PodList
	if err := c.client.List(ctx, &pods, client.InNamespace(namespace), client.MatchingFields{"status.phase": string(corev1.PodPending)}); err != nil {
		return 0, fmt.Errorf("list the Pods of namespace %s: %w", namespace, err)
	}
	n := 0
	for _, pod := range pods.Items {
		ids := map[string]string{}
		for name, image := range images(&pod) {
			ids[name] = imageID(image)
		}
		if err := c.SetRunning(ctx, pod.Namespace, pod.Name, ids); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// images returns the image of each container by the container's name.
func images(pod *corev1.Pod) map[string]string {
	out := map[string]string{}
	for _, ct := range pod.Spec.InitContainers {
		out[ct.Name] = ct.Image
	}
	for _, ct := range pod.Spec.Containers {
		out[ct.Name] = ct.Image
	}
	for _, ct := range pod.Spec.EphemeralContainers {
		out[ct.Name] = ct.Image
	}
	return out
}

func setRunning(pod *corev1.Pod, imageIDs map[string]string) error {
	known := images(pod)
	for _, name := range slices.Sorted(maps.Keys(imageIDs)) {
		if _, ok := known[name]; !ok {
			return fmt.Errorf("set the status of Pod %s/%s: it has no container %q, but %q", pod.Namespace, pod.Name, name, slices.Sorted(maps.Keys(known)))
		}
	}
	// The moment is the Pod's own, so that writing twice changes nothing.
	since := pod.CreationTimestamp
	running := func(name, image string) corev1.ContainerStatus {
		yes := true
		return corev1.ContainerStatus{
			Name: name, Image: image, ImageID: imageIDs[name], Ready: true, Started: &yes,
			ContainerID: "containerd://" + string(pod.UID) + "-" + name,
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: since}},
		}
	}
	s := &pod.Status
	s.Phase, s.StartTime = corev1.PodRunning, &since
	s.InitContainerStatuses, s.ContainerStatuses, s.EphemeralContainerStatuses = nil, nil, nil
	for _, ct := range pod.Spec.InitContainers {
		st := running(ct.Name, ct.Image)
		if ct.RestartPolicy == nil || *ct.RestartPolicy != corev1.ContainerRestartPolicyAlways {
			no := false
			st.Started = &no
			st.State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				Reason: "Completed", StartedAt: since, FinishedAt: since, ContainerID: st.ContainerID,
			}}
		}
		s.InitContainerStatuses = append(s.InitContainerStatuses, st)
	}
	for _, ct := range pod.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, running(ct.Name, ct.Image))
	}
	for _, ct := range pod.Spec.EphemeralContainers {
		st := running(ct.Name, ct.Image)
		st.Ready, st.Started = false, nil
		s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, st)
	}
	for _, t := range []corev1.PodConditionType{corev1.PodScheduled, corev1.PodInitialized, corev1.ContainersReady, corev1.PodReady} {
		setCondition(s, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue, LastTransitionTime: since})
	}
	return nil
}

func setCondition(s *corev1.PodStatus, c corev1.PodCondition) {
	i := slices.IndexFunc(s.Conditions, func(have corev1.PodCondition) bool { return have.Type == c.Type })
	if i < 0 {
		s.Conditions = append(s.Conditions, c)
		return
	}
	s.Conditions[i] = c
}
