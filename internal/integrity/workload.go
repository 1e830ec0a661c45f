package integrity

import (
	"strings"
)

// Workload names one in the namespace of the object that is part of it.
type Workload struct{ Kind, Name string }

// WorkloadKinds lists the kinds that can be exempt by name. A Pod is none:
// whoever creates one chooses its name.
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
		out = append(out, Workload{kind, name})
	}
	m := makerOf(kind, owner)
	if m == nil || user != controllerManager && user != controllerAccount+m.controller {
		return out
	}
	return append(out, Owned(kind, owner, labels)...)
}

// Owned returns the workloads that an object is part of if its ownerReference is
// true: its owner; and for a Pod the Deployment that a ReplicaSet of such a name
// and pod-template-hash is of, or the CronJob that such a Job is of.
func Owned(kind string, owner *Owner, labels map[string]string) []Workload {
	if makerOf(kind, owner) == nil {
		return nil
	}
	out := []Workload{{owner.Kind, owner.Name}}
	if kind != "Pod" {
		return out
	}
	switch owner.Kind {
	case "ReplicaSet":
		if hash := labels[templateHashLabel]; hash != "" {
			if name, ok := strings.CutSuffix(owner.Name, "-"+hash); ok && name != "" {
				out = append(out, Workload{"Deployment", name})
			}
		}
	case "Job":
		i := len(owner.Name) - cronJobDigits - 1
		if i > 0 && owner.Name[i] == '-' && strings.Trim(owner.Name[i+1:], "0123456789") == "" {
			out = append(out, Workload{"CronJob", owner.Name[:i]})
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
