package integrity

import (
	"strings"
)

// Workload names one in the namespace of the object that is part of it.
type Workload struct {
	Kind, Name string // the kind as in [KindName]
	// Claimed says that nothing proves it but who asks, which is By: it counts where an
	// exemption names that user as the workload's controller.
	Claimed bool
	By      string
}

// WorkloadKinds lists Kubernetes' own kinds that can be exempt by name; kinds of others
// can be, too. A Pod is none: whoever creates one chooses its name.
func WorkloadKinds() []string {
	return []string{"CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"}
}

// Owner is the ownerReference of an object that has controller: true.
type Owner struct{ APIVersion, Kind, Name, UID string }

// maker is what may own objects of a kind, and the controller that creates those.
type maker struct{ object, group, owner, controller string }

// makers are all of Kubernetes' own controllers that create what has containers.
var makers = [...]maker{
	{"Pod", "apps", "ReplicaSet", "replicaset-controller"},
	{"Pod", "apps", "StatefulSet", "statefulset-controller"},
	{"Pod", "apps", "DaemonSet", "daemon-set-controller"},
	{"Pod", "batch", "Job", "job-controller"},
	{"Pod", "", "ReplicationController", "replication-controller"},
	{"ReplicaSet", "apps", "Deployment", "deployment-controller"},
	{"Job", "batch", "CronJob", "cronjob-controller"},
}

const (
	controllerAccount = "system:serviceaccount:kube-system:"
	// controllerManager is who all controllers are where they have no accounts of
	// their own (kube-controller-manager --use-service-account-credentials=false).
	controllerManager = "system:kube-controller-manager"

	templateHashLabel = "pod-template-hash"
	rolloutHashLabel  = "rollouts-pod-template-hash" // Argo Rollouts
	// deploymentConfigLabel is what OpenShift's DeploymentConfigs put on their Pods.
	deploymentConfigLabel = "deploymentconfig"
	kindRollout           = "argoproj.io/Rollout"
	kindDeploymentConfig  = "apps.openshift.io/DeploymentConfig"
	// cronJobDigits is how many digits the time has, in minutes since 1970, that a
	// CronJob's controller appends to its name for a Job.
	cronJobDigits = 8
)

// Admitted returns the workloads of an object that is about to come in: itself,
// where it is one, and its owners where the user is the very controller that
// creates such objects for such an owner. Anybody can write ownerReferences, so
// from anybody else they are worth nothing.
func Admitted(kind, name, user string, owner *Owner, labels map[string]string) []Workload {
	var out []Workload
	if name != "" {
		out = append(out, Workload{Kind: kind, Name: name})
	}
	m := makerOf(kind, owner)
	if m == nil {
		return append(out, claimedOwner(owner, user)...)
	}
	if user != controllerManager && user != controllerAccount+m.controller {
		return out
	}
	return append(out, Owned(kind, owner, labels)...)
}

// claimedOwner is an owner of a kind of others, as whoever asks has written it.
func claimedOwner(owner *Owner, user string) []Workload {
	if owner == nil || owner.Name == "" || user == "" {
		return nil
	}
	group, _, _ := strings.Cut(owner.APIVersion, "/")
	if reservedGroup(group) {
		return nil
	}
	return []Workload{{Kind: KindName(group, owner.Kind), Name: owner.Name, Claimed: true, By: user}}
}

// Owned returns the workloads that an object is part of if its ownerReference is
// true: its owner; and for a Pod the Deployment that a ReplicaSet of such a name
// and pod-template-hash is of, the CronJob that such a Job is of, and what others name
// in the same way: the Rollout of a ReplicaSet, the DeploymentConfig of a
// ReplicationController.
func Owned(kind string, owner *Owner, labels map[string]string) []Workload {
	if makerOf(kind, owner) == nil {
		return nil
	}
	out := []Workload{{Kind: owner.Kind, Name: owner.Name}}
	if kind != "Pod" {
		return out
	}
	switch owner.Kind {
	case "ReplicaSet":
		for _, of := range [...]struct{ label, kind string }{{templateHashLabel, "Deployment"}, {rolloutHashLabel, kindRollout}} {
			if hash := labels[of.label]; hash != "" {
				if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok && name != "" {
					out = append(out, Workload{Kind: of.kind, Name: name})
				}
			}
		}
	case "ReplicationController":
		if name := labels[deploymentConfigLabel]; name != "" {
			if number, ok := strings.CutPrefix(owner.Name, name+"-"); ok && number != "" && strings.Trim(number, "0123456789") == "" {
				out = append(out, Workload{Kind: kindDeploymentConfig, Name: name})
			}
		}
	case "Job":
		i := len(owner.Name) - cronJobDigits - 1
		if i > 0 && owner.Name[i] == '-' && strings.Trim(owner.Name[i+1:], "0123456789") == "" {
			out = append(out, Workload{Kind: "CronJob", Name: owner.Name[:i]})
		}
	}
	return out
}

func makerOf(kind string, owner *Owner) *maker {
	if owner == nil || owner.Name == "" {
		return nil
	}
	group, _, ok := strings.Cut(owner.APIVersion, "/")
	if !ok {
		group = ""
	}
	for i := range makers {
		if m := &makers[i]; m.object == kind && m.owner == owner.Kind && m.group == group {
			return m
		}
	}
	return nil
}
