package integrity

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
)

// MaxOtherKinds bounds the kinds of others that all policies together name.
const MaxOtherKinds = 100

// maxKind bounds a kind's name (RFC 1035 label).
const maxKind = 63

// kindGroups are the API groups of Kubernetes' own kinds that have containers.
var kindGroups = map[string]string{"Pod": "", "PodTemplate": "", "ReplicationController": "", "CronJob": "batch", "Job": "batch",
	"DaemonSet": "apps", "Deployment": "apps", "ReplicaSet": "apps", "StatefulSet": "apps"}

// Kinds lists Kubernetes' own kinds of objects that have containers.
func Kinds() []string { return slices.Sorted(maps.Keys(kindGroups)) }

// KindName is how policies name a kind: one of [Kinds] by itself, every other as
// GROUP/Kind.
func KindName(group, kind string) string {
	if own, ok := kindGroups[kind]; ok && own == group {
		return kind
	}
	return group + "/" + kind
}

// parseKind reads a kind as a policy names it, and returns its [KindName].
func parseKind(text string) (string, error) {
	group, kind, other := strings.Cut(text, "/")
	if !other {
		if _, ok := kindGroups[text]; !ok {
			return "", fmt.Errorf("%q is not known here; known: %s%s; write kinds of others as GROUP/Kind, such as argoproj.io/Rollout",
				text, strings.Join(Kinds(), ", "), nearest.Hint(text, Kinds()))
		}
		return text, nil
	}
	if name := KindName(group, kind); name == kind {
		return name, nil
	}
	if len(validation.IsDNS1123Subdomain(group)) > 0 || len(kind) > maxKind || !kindText(kind) {
		return "", fmt.Errorf("%.150q: write GROUP/Kind without a version, such as argoproj.io/Rollout", text)
	}
	if reservedGroup(group) {
		return "", fmt.Errorf("%q: of Kubernetes' own kinds and Boltseal's only these have containers: %s", text, strings.Join(Kinds(), ", "))
	}
	return text, nil
}

func kindText(kind string) bool {
	for i, r := range kind {
		upper, lower, digit := r >= 'A' && r <= 'Z', r >= 'a' && r <= 'z', r >= '0' && r <= '9'
		if !upper && !lower && (i == 0 || !digit) {
			return false
		}
	}
	return kind != ""
}

// reservedGroup reports whether a group is Kubernetes' own, or one whose objects must get
// through for Boltseal to be put right.
func reservedGroup(group string) bool {
	return !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io") && !strings.HasSuffix(group, ".x-k8s.io") ||
		group == "boltseal.dev" || strings.HasSuffix(group, ".boltseal.dev") || group == "config.ratify.deislabs.io"
}

// Others are the kinds of others that the policy names, as GROUP/Kind.
func (p *Policy) Others() (out []string) {
	for _, k := range p.kinds {
		if strings.Contains(k, "/") {
			out = append(out, k)
		}
	}
	return out
}

// Others are the kinds of others that the cluster's policies name, each once, in
// order. There may be more than [MaxOtherKinds].
func (s *Set) Others() (out []string) {
	if s == nil {
		return nil
	}
	for _, p := range s.policies {
		out = append(out, p.Others()...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Names reports whether a policy of the cluster's names a kind of others.
func (s *Set) Names(group, kind string) bool {
	name := KindName(group, kind)
	return s != nil && slices.ContainsFunc(s.policies, func(p *Policy) bool { return slices.Contains(p.kinds, name) })
}

// Warnings are what deserves a look in a policy with which nothing is wrong.
func (p *Policy) Warnings() []Problem {
	if p.action != v1alpha1.Deny || !slices.Contains(p.kinds, "Pod") || slices.Contains(p.kinds, "Deployment") {
		return nil
	}
	return []Problem{{"spec.match.kinds", "it names Pod and not Deployment: a Deployment with an image that is not trusted is admitted, and its Pods are denied later, which kubectl apply does not show. Leave kinds empty, which means all, or add those that make Pods: Deployment, StatefulSet, DaemonSet, Job, CronJob"}}
}
