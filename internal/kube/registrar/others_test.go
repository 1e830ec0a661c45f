package registrar

import (
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// TestKindsOfOthersAreAskedAbout: a rule for each group, and of a group only the
// kinds that are named.
func TestKindsOfOthersAreAskedAbout(t *testing.T) {
	t.Parallel()
	w := testWebhooks()
	plain := w.Validating(nil).Webhooks[0]
	w.Others = []string{"argoproj.io/Rollout", "argoproj.io/Workflow", "serving.knative.dev/Service"}
	v, m := w.Validating(nil).Webhooks[0], w.Mutating(nil).Webhooks[0]
	var groups []string
	for _, r := range v.Rules[len(plain.Rules):] {
		if !slices.Equal(r.Resources, []string{"*"}) || !slices.Equal(r.APIVersions, []string{"*"}) || *r.Scope != admissionregistrationv1.NamespacedScope || len(r.Operations) != 2 {
			t.Errorf("%+v", r)
		}
		groups = append(groups, r.APIGroups...)
	}
	if !slices.Equal(groups, []string{"argoproj.io", "serving.knative.dev"}) {
		t.Errorf("%v", groups)
	}
	if c := v.MatchConditions[0].Expression; !strings.HasSuffix(c, `in ["argoproj.io/Rollout", "argoproj.io/Workflow", "serving.knative.dev/Service"]`) || len(v.MatchConditions) != len(plain.MatchConditions)+1 {
		t.Errorf("%s", c)
	}
	if before := testWebhooks().Mutating(nil).Webhooks[0]; len(m.Rules) != len(before.Rules) || len(m.MatchConditions) != len(before.MatchConditions) {
		t.Errorf("something is written into kinds of others: %+v", m.Rules)
	}
}

// TestKindsOfOthersOutliveARestart: until the policies are known, what was asked about
// before stays asked about; and they follow the policies from then on.
func TestKindsOfOthersOutliveARestart(t *testing.T) {
	t.Parallel()
	w := testWebhooks()
	w.Others = []string{"argoproj.io/Rollout"}
	before := w.Validating([]byte("old"))
	silent := &Registrar{o: Options{Mode: Enforce, Webhooks: testWebhooks(), Bundle: func() []byte { return []byte("new") }}, seen: map[target]*sight{}, told: map[target]string{}, work: make(chan struct{}, 1)}
	if did, err := silent.put(t.Context(), target{validatingKind, Name}, before); did != "" || err != errNotYet {
		t.Errorf("%q, %v", did, err)
	}
	c := newCluster(t, func(o *Options) { o.Owner, o.Webhooks = Owner{}, w })
	c.set([]byte("ca"), true)
	rules := func() []string {
		var groups []string
		if v := c.validating(); v != nil && len(v.Webhooks) == 2 {
			for _, r := range v.Webhooks[0].Rules {
				groups = append(groups, r.APIGroups...)
			}
		}
		return groups
	}
	c.r.Poke()
	eventually(t, "a rule", func() bool { return slices.Contains(rules(), "argoproj.io") })
	c.r.Ask([]string{"serving.knative.dev/Service"})
	eventually(t, "another rule", func() bool {
		return slices.Contains(rules(), "serving.knative.dev") && !slices.Contains(rules(), "argoproj.io")
	})
	c.r.Ask(nil)
	eventually(t, "no rule", func() bool { return len(rules()) > 0 && !slices.Contains(rules(), "serving.knative.dev") })
}
