package integrity_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// TestKindsByGroup: a kind is Kubernetes' own by its group, and not by its name alone.
func TestKindsByGroup(t *testing.T) {
	t.Parallel()
	for text, message := range map[string]string{
		"Pod": "", "Deployment": "", "apps/Deployment": "", "batch/Job": "", "argoproj.io/Rollout": "", "serving.knative.dev/Service": "", "apps.openshift.io/DeploymentConfig": "",
		"jobset.x-k8s.io/JobSet": "", "example.org/Pod": "", "example.org/Deployment": "",
		"Rollout": "write kinds of others as GROUP/Kind", "Deploymet": `did you mean "Deployment"`, "argoproj.io/v1alpha1/Rollout": "without a version", "argoproj.io/": "write GROUP/Kind", "/Pod/x": "write GROUP/Kind",
		"argoproj.io/*": "write GROUP/Kind", "Argo.io/Rollout": "write GROUP/Kind", "example.org/" + strings.Repeat("x", 64): "write GROUP/Kind",
		"apps/Rollout": "Kubernetes' own", "coordination.k8s.io/Lease": "Kubernetes' own", "admissionregistration.k8s.io/ValidatingWebhookConfiguration": "Kubernetes' own",
		"boltseal.dev/ImageIntegrityPolicy": "Boltseal's", "config.ratify.deislabs.io/NamespacedStore": "Boltseal's", "policy.boltseal.dev/Assignment": "Boltseal's",
	} {
		_, problems := integrity.Compile("p", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{Kinds: []string{text}}})
		if message == "" != (len(problems) == 0) || message != "" && !strings.Contains(problems[0].Message, message) {
			t.Errorf("%s: %v", text, problems)
		}
	}
	of := func(kinds ...string) *integrity.Policy {
		p, problems := integrity.Compile("p", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{Kinds: kinds}})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return p
	}
	for _, tt := range []struct {
		policy      *integrity.Policy
		group, kind string
		selected    bool
	}{
		{of(), "", "Pod", true}, {of(), "apps", "Deployment", true}, {of(), "argoproj.io", "Rollout", false}, {of(), "example.org", "Pod", false},
		{of("apps/Deployment"), "apps", "Deployment", true}, {of("Deployment"), "example.org", "Deployment", false}, {of("example.org/Deployment"), "apps", "Deployment", false},
		{of("example.org/Deployment"), "example.org", "Deployment", true}, {of("Pod", "argoproj.io/Rollout"), "argoproj.io", "Rollout", true}, {of("argoproj.io/Rollout"), "", "Pod", false},
	} {
		set := integrity.NewSet([]*integrity.Policy{tt.policy})
		if got := len(set.Select(integrity.Object{Kind: integrity.KindName(tt.group, tt.kind), Namespace: "ns"})) == 1; got != tt.selected {
			t.Errorf("%s/%s by %v: %t", tt.group, tt.kind, tt.policy.Others(), got)
		}
	}
	set := integrity.NewSet([]*integrity.Policy{of("z.io/Z", "Pod"), of("a.io/A", "z.io/Z")})
	if got := set.Others(); !slices.Equal(got, []string{"a.io/A", "z.io/Z"}) || !set.Names("z.io", "Z") || set.Names("", "Deployment") || set.Names("z.io", "A") {
		t.Errorf("%v", got)
	}
}
