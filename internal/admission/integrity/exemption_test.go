package integrity_test

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

var zeros = "sha256:" + strings.Repeat("0", 64)

func ends(t time.Time) *metav1.Time { m := metav1.NewTime(t); return &m }

func deployment(namespace, name string) []v1alpha1.ExemptWorkload {
	return []v1alpha1.ExemptWorkload{{Kind: "Deployment", Namespace: namespace, Name: name}}
}

func TestExemptions(t *testing.T) {
	t.Parallel()
	web := []integrity.Workload{{Kind: "Deployment", Name: "web"}}
	type ex = v1alpha1.Exemption
	for name, tt := range map[string]struct {
		e       ex
		s       integrity.Subject
		image   string
		allowed bool
	}{
		"namespace":                    {ex{Namespaces: []string{"shop"}}, integrity.Subject{Namespace: "shop"}, "reg.example/a:1", true},
		"another namespace":            {ex{Namespaces: []string{"shop"}}, integrity.Subject{Namespace: "shop2"}, "reg.example/a:1", false},
		"beginning of a namespace":     {ex{Namespaces: []string{"shop*"}}, integrity.Subject{Namespace: "shop2"}, "reg.example/a:1", true},
		"image":                        {ex{Images: []string{"reg.example/a:1"}}, integrity.Subject{}, "reg.example/a:1", true},
		"another tag":                  {ex{Images: []string{"reg.example/a:1"}}, integrity.Subject{}, "reg.example/a:2", false},
		"a tag is no digest":           {ex{Images: []string{"reg.example/a:1"}}, integrity.Subject{}, "reg.example/a:1@" + zeros, false},
		"digest":                       {ex{Images: []string{"reg.example/a@" + zeros}}, integrity.Subject{}, "reg.example/a@" + zeros, true},
		"digest behind any tag":        {ex{Images: []string{"reg.example/a@" + zeros}}, integrity.Subject{}, "reg.example/a:1@" + zeros, true},
		"digest in another repository": {ex{Images: []string{"reg.example/a@" + zeros}}, integrity.Subject{}, "reg.example/b@" + zeros, false},
		"repository":                   {ex{Images: []string{"reg.example/a:*", "reg.example/a@*"}}, integrity.Subject{}, "reg.example/a:7", true},
		"lookalike host":               {ex{Images: []string{"reg.example/*"}}, integrity.Subject{}, "reg.example.evil.example/a:7", false},
		"not readable":                 {ex{Images: []string{"reg.example/*"}}, integrity.Subject{}, "reg.example/A a", false},
		"image in a namespace":         {ex{Namespaces: []string{"shop"}, Images: []string{"reg.example/a:1"}}, integrity.Subject{Namespace: "shop"}, "reg.example/a:1", true},
		"that image elsewhere":         {ex{Namespaces: []string{"shop"}, Images: []string{"reg.example/a:1"}}, integrity.Subject{Namespace: "lab"}, "reg.example/a:1", false},
		"another image there":          {ex{Namespaces: []string{"shop"}, Images: []string{"reg.example/a:1"}}, integrity.Subject{Namespace: "shop"}, "reg.example/b:1", false},
		"workload":                     {ex{Workloads: deployment("shop", "web")}, integrity.Subject{Namespace: "shop", Workloads: web}, "reg.example/a:1", true},
		"workload elsewhere":           {ex{Workloads: deployment("shop", "web")}, integrity.Subject{Namespace: "lab", Workloads: web}, "reg.example/a:1", false},
		"another workload":             {ex{Workloads: deployment("shop", "web2")}, integrity.Subject{Namespace: "shop", Workloads: web}, "reg.example/a:1", false},
		"workload in namespaces":       {ex{Namespaces: []string{"shop"}, Workloads: deployment("", "web")}, integrity.Subject{Namespace: "shop", Workloads: web}, "reg.example/a:1", true},
		"ends later":                   {ex{Namespaces: []string{"*"}, Expires: ends(now.Add(1))}, integrity.Subject{Namespace: "shop"}, "reg.example/a:1", true},
		"ends now":                     {ex{Namespaces: []string{"*"}, Expires: ends(now)}, integrity.Subject{Namespace: "shop"}, "reg.example/a:1", false},
	} {
		tt.e.Name, tt.e.Category, tt.e.Reason = "e", v1alpha1.Waiver, "the vendor signs in May"
		p := compile(t, "prod", v1alpha1.ImageIntegrityPolicySpec{Exemptions: []v1alpha1.Exemption{tt.e}})
		img := integrity.Image{Where: `container "a"`, Image: tt.image, Found: denied()}
		v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{img}, integrity.Context{Pod: true, Now: now, Subject: tt.s})
		if v.Allowed != tt.allowed || v.Images[0].Trusted || v.Images[0].Pin != "" || (len(v.Images[0].Exempt) == 1) != tt.allowed {
			t.Errorf("%s: %+v", name, v)
		}
		if tt.allowed && (len(v.Warnings) != 1 || v.Warnings[0] != v.Audit["exempt"] || !strings.Contains(v.Warnings[0], `by exemption "e" (Waiver) because: the vendor signs in May. Found: nothing signed`)) {
			t.Errorf("%s: %q %v", name, v.Warnings, v.Audit)
		}
		if (p.ExemptionOf(tt.s, tt.image, now) != nil) != tt.allowed {
			t.Errorf("%s: ExemptionOf does not agree", name)
		}
	}
}

// TestExemptionsAreNarrow: an exemption helps where it says, and nobody else.
func TestExemptionsAreNarrow(t *testing.T) {
	t.Parallel()
	mine := v1alpha1.Exemption{Name: "e", Category: v1alpha1.Mitigated, Images: []string{"reg.example/a*"}, Expires: ends(now.Add(time.Hour))}
	p := compile(t, "lenient", v1alpha1.ImageIntegrityPolicySpec{Exemptions: []v1alpha1.Exemption{mine}})
	other := compile(t, "strict", v1alpha1.ImageIntegrityPolicySpec{})
	img := func(name string, f integrity.Found) integrity.Image {
		i := image(name, f)
		i.Image = "reg.example/" + name + ":1"
		return i
	}
	c := integrity.Context{Pod: true, Now: now}
	if v := integrity.Judge([]*integrity.Policy{p, other}, []integrity.Image{img("a", denied())}, c); v.Allowed {
		t.Errorf("another policy's demand fell away: %+v", v)
	}
	if v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{img("a", denied()), img("b", denied())}, c); v.Allowed || !strings.Contains(v.Message, "1 of 2") {
		t.Errorf("another container's image was let in: %+v", v)
	}
	v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{img("a", trusted())}, c)
	if !v.Allowed || !v.Images[0].Trusted || len(v.Images[0].Exempt) > 0 || v.Audit["exempt"] != "" {
		t.Errorf("a trusted image needs no exemption: %+v", v)
	}
	// Whatever the registry would have said, it would have been admitted.
	v = integrity.Judge([]*integrity.Policy{p}, []integrity.Image{img("a", outage(boltseal.CauseUnavailable))}, c)
	if !v.Allowed || v.Images[0].Trusted || v.Images[0].Pin != "" || v.Images[0].Found.Decision != boltseal.Unknown || !strings.Contains(v.Audit["exempt"], "could not be checked") ||
		!strings.Contains(v.Audit["exempt"], "until 2026-11-23T13:00:00Z") {
		t.Errorf("an outage: %+v", v)
	}
	for range 2 { // two groups, one of them under no exemption
		v = integrity.JudgeAll(c, integrity.Group{Policies: []*integrity.Policy{p}, Images: []integrity.Image{img("a", denied())}},
			integrity.Group{Policies: []*integrity.Policy{other.Of("shop")}, Images: []integrity.Image{img("a", denied())}})
		if v.Allowed || len(v.Images[0].Exempt) != 1 {
			t.Errorf("%+v", v)
		}
	}
}

func TestTheLongestExemptionIsTold(t *testing.T) {
	t.Parallel()
	e := func(name string, at *metav1.Time) v1alpha1.Exemption {
		return v1alpha1.Exemption{Name: name, Category: v1alpha1.Waiver, Namespaces: []string{"shop"}, Expires: at}
	}
	p := compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{Exemptions: []v1alpha1.Exemption{
		e("b", ends(now.Add(time.Hour))), e("a", ends(now.Add(time.Hour))), e("c", ends(now.Add(2*time.Hour))), e("over", ends(now.Add(-1)))}})
	shop := integrity.Subject{Namespace: "shop"}
	for at, want := range map[time.Time]string{now: "c", now.Add(time.Hour): "c", now.Add(-1): "c"} {
		if got := p.ExemptionOf(shop, "a:1", at); got == nil || got.Name != want {
			t.Errorf("%v: %+v", at, got)
		}
	}
	if got := p.ExemptionOf(shop, "a:1", now.Add(2*time.Hour)); got != nil {
		t.Errorf("all are over: %+v", got)
	}
	p = compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{Exemptions: []v1alpha1.Exemption{e("b", ends(now.Add(time.Hour))), e("z", nil), e("c", ends(now.Add(2*time.Hour)))}})
	if got := p.ExemptionOf(shop, "a:1", now); got.Name != "z" || got.EndsSoon(now) || got.Until() != "without an end" {
		t.Errorf("%+v", got)
	}
	if p.Exemptions()[0].Name != "b" || !p.Exemptions()[0].EndsSoon(now) || p.Exemptions()[0].EndsSoon(now.Add(time.Hour)) {
		t.Errorf("%+v", p.Exemptions()[0])
	}
}

func TestBadExemptions(t *testing.T) {
	t.Parallel()
	many := make([]v1alpha1.Exemption, integrity.MaxExemptions+1)
	ok := func(f func(*v1alpha1.Exemption)) []v1alpha1.Exemption {
		e := v1alpha1.Exemption{Name: "e", Category: v1alpha1.Waiver, Namespaces: []string{"shop"}}
		f(&e)
		return []v1alpha1.Exemption{e}
	}
	type E = *v1alpha1.Exemption
	for name, tt := range map[string]struct {
		list []v1alpha1.Exemption
		want string
	}{
		"too many":    {many, "501 entries"},
		"no name":     {ok(func(e E) { e.Name = "" }), "spec.exemptions[0].name"},
		"odd name":    {ok(func(e E) { e.Name = "a\nb" }), "spec.exemptions[0].name"},
		"twice":       {append(ok(func(E) {}), ok(func(E) {})...), `spec.exemptions[1].name: two exemptions have the name "e"`},
		"category":    {ok(func(e E) { e.Category = "Waver" }), `"Waver" is not known here; known: Waiver, Mitigated`},
		"no category": {ok(func(e E) { e.Category = "" }), "category"},
		"long reason": {ok(func(e E) { e.Reason = strings.Repeat("x", 513) }), "reason"},
		"no time":     {ok(func(e E) { e.Expires = &metav1.Time{} }), "expires"},
		"nothing":     {ok(func(e E) { e.Namespaces = nil }), "names nothing to take out"},
		"namespace":   {ok(func(e E) { e.Namespaces = []string{"Shop"} }), "lower case"},
		"image":       {ok(func(e E) { e.Images = []string{"registry*"} }), "other registries too"},
		"many images": {ok(func(e E) { e.Images = make([]string, 101) }), "101 entries"},
		"Pod":         {ok(func(e E) { e.Workloads = []v1alpha1.ExemptWorkload{{Kind: "Pod", Name: "a"}} }), `"Pod" is not known here`},
		"workload":    {ok(func(e E) { e.Workloads = deployment("", "*") }), "workloads[0].name"},
		"own controller": {ok(func(e E) {
			e.Workloads = []v1alpha1.ExemptWorkload{{Kind: "apps/Deployment", Name: "a", Controller: "system:serviceaccount:a:b"}}
		}), "is known; leave it out"},
		"no controller": {ok(func(e E) {
			e.Workloads = []v1alpha1.ExemptWorkload{{Kind: "argoproj.io/Rollout", Name: "a", Controller: "alice"}}
		}), "is no ServiceAccount's user"},
		"PodTemplate":    {ok(func(e E) { e.Workloads = []v1alpha1.ExemptWorkload{{Kind: "PodTemplate", Name: "a"}} }), `"PodTemplate" is not known here`},
		"with a version": {ok(func(e E) { e.Workloads = []v1alpha1.ExemptWorkload{{Kind: "argoproj.io/v1/Rollout", Name: "a"}} }), "without a version"},
		"in namespace":   {ok(func(e E) { e.Workloads = deployment("a*", "web") }), "workloads[0].namespace"},
		"anywhere":       {ok(func(e E) { e.Namespaces, e.Workloads = nil, deployment("", "web") }), "in which namespace"},
		"many workloads": {ok(func(e E) { e.Workloads = make([]v1alpha1.ExemptWorkload, 101) }), "101 entries"},
	} {
		_, problems := integrity.Compile("p", v1alpha1.ImageIntegrityPolicySpec{Exemptions: tt.list})
		text := ""
		for _, p := range problems {
			text += p.Error() + "\n"
		}
		if !strings.Contains(text, tt.want) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

const kubeSystem = "system:serviceaccount:kube-system:"

// TestForgedOwners: whoever writes an ownerReference gains nothing by it, unless they are the
// controller that creates such objects.
func TestForgedOwners(t *testing.T) {
	t.Parallel()
	rs := &integrity.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4f8", UID: "u"}
	hash := map[string]string{"pod-template-hash": "5d4f8"}
	own := func(api, kind, name string) *integrity.Owner {
		return &integrity.Owner{APIVersion: api, Kind: kind, Name: name}
	}
	for name, tt := range map[string]struct {
		kind, object, user string
		owner              *integrity.Owner
		labels             map[string]string
		want               string
	}{
		"Deployment itself":           {"Deployment", "web", "alice", nil, nil, "Deployment/web"},
		"no name yet":                 {"Job", "", "alice", nil, nil, ""},
		"ReplicaSet's controller":     {"Pod", "p", kubeSystem + "replicaset-controller", rs, hash, "Pod/p ReplicaSet/web-5d4f8 Deployment/web"},
		"one account for all":         {"Pod", "p", "system:kube-controller-manager", rs, hash, "Pod/p ReplicaSet/web-5d4f8 Deployment/web"},
		"anybody":                     {"Pod", "p", "alice", rs, hash, "Pod/p"},
		"nobody":                      {"Pod", "p", "", rs, hash, "Pod/p"},
		"another namespace's account": {"Pod", "p", "system:serviceaccount:shop:replicaset-controller", rs, hash, "Pod/p"},
		"another controller":          {"Pod", "p", kubeSystem + "job-controller", rs, hash, "Pod/p"},
		"another account there":       {"Pod", "p", kubeSystem + "default", rs, hash, "Pod/p"},
		"another group":               {"Pod", "p", kubeSystem + "replicaset-controller", own("evil.example/v1", "ReplicaSet", "web-5d4f8"), hash, "Pod/p evil.example/ReplicaSet/web-5d4f8?"},
		"no group":                    {"Pod", "p", kubeSystem + "replicaset-controller", own("v1", "ReplicaSet", "web-5d4f8"), hash, "Pod/p"},
		"a Deployment owns no Pod":    {"Pod", "p", kubeSystem + "deployment-controller", own("apps/v1", "Deployment", "web"), nil, "Pod/p"},
		"no hash":                     {"Pod", "p", kubeSystem + "replicaset-controller", rs, nil, "Pod/p ReplicaSet/web-5d4f8"},
		"another hash":                {"Pod", "p", kubeSystem + "replicaset-controller", rs, map[string]string{"pod-template-hash": "f8"}, "Pod/p ReplicaSet/web-5d4f8"},
		"nothing before the hash":     {"Pod", "p", kubeSystem + "replicaset-controller", own("apps/v1", "ReplicaSet", "-5d4f8"), hash, "Pod/p ReplicaSet/-5d4f8"},
		"StatefulSet":                 {"Pod", "db-0", kubeSystem + "statefulset-controller", own("apps/v1", "StatefulSet", "db"), hash, "Pod/db-0 StatefulSet/db"},
		"DaemonSet":                   {"Pod", "p", kubeSystem + "daemon-set-controller", own("apps/v1", "DaemonSet", "d"), nil, "Pod/p DaemonSet/d"},
		"ReplicationController":       {"Pod", "p", kubeSystem + "replication-controller", own("v1", "ReplicationController", "r"), nil, "Pod/p ReplicationController/r"},
		"Deployment's ReplicaSet":     {"ReplicaSet", "web-5d4f8", kubeSystem + "deployment-controller", own("apps/v1", "Deployment", "web"), nil, "ReplicaSet/web-5d4f8 Deployment/web"},
		"a forged ReplicaSet":         {"ReplicaSet", "web-5d4f8", "alice", own("apps/v1", "Deployment", "web"), nil, "ReplicaSet/web-5d4f8"},
		"CronJob's Job":               {"Job", "night-29384756", kubeSystem + "cronjob-controller", own("batch/v1", "CronJob", "night"), nil, "Job/night-29384756 CronJob/night"},
		"CronJob's Pod":               {"Pod", "p", kubeSystem + "job-controller", own("batch/v1", "Job", "night-29384756"), nil, "Pod/p Job/night-29384756 CronJob/night"},
		"a Job of another name":       {"Pod", "p", kubeSystem + "job-controller", own("batch/v1", "Job", "night-2938475x"), nil, "Pod/p Job/night-2938475x"},
		"Rollout itself":              {"argoproj.io/Rollout", "web", "alice", nil, nil, "argoproj.io/Rollout/web"},
		"Rollout's ReplicaSet":        {"ReplicaSet", "web-5d4f8", "argo", own("argoproj.io/v1alpha1", "Rollout", "web"), nil, "ReplicaSet/web-5d4f8 argoproj.io/Rollout/web?"},
		"Rollout's Pod":               {"Pod", "p", kubeSystem + "replicaset-controller", rs, map[string]string{"rollouts-pod-template-hash": "5d4f8"}, "Pod/p ReplicaSet/web-5d4f8 argoproj.io/Rollout/web"},
		"a forged Rollout's Pod":      {"Pod", "p", "alice", rs, map[string]string{"rollouts-pod-template-hash": "5d4f8"}, "Pod/p"},
		"DeploymentConfig's Pod":      {"Pod", "p", kubeSystem + "replication-controller", own("v1", "ReplicationController", "web-12"), map[string]string{"deploymentconfig": "web"}, "Pod/p ReplicationController/web-12 apps.openshift.io/DeploymentConfig/web"},
		"of another number":           {"Pod", "p", kubeSystem + "replication-controller", own("v1", "ReplicationController", "web-1x"), map[string]string{"deploymentconfig": "web"}, "Pod/p ReplicationController/web-1x"},
		"nobody's claim":              {"Pod", "p", "", own("argoproj.io/v1alpha1", "Workflow", "w"), nil, "Pod/p"},
		"a claim of Kubernetes' own":  {"Pod", "p", "alice", own("policy.k8s.io/v1", "Thing", "w"), nil, "Pod/p"},
		"a short name":                {"Pod", "p", kubeSystem + "job-controller", own("batch/v1", "Job", "-29384756"), nil, "Pod/p Job/-29384756"},
	} {
		var got []string
		for _, w := range integrity.Admitted(tt.kind, tt.object, tt.user, tt.owner, tt.labels) {
			text := w.Kind + "/" + w.Name
			if w.Claimed {
				text += "?"
			}
			got = append(got, text)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestExemptWorkloadsOfOthers: a workload of another's kind is exempt by its name, and
// what belongs to it where the user that creates it is the one that the exemption names.
// Nobody else gains anything by naming it as an owner.
func TestExemptWorkloadsOfOthers(t *testing.T) {
	t.Parallel()
	const argo = "system:serviceaccount:argo-rollouts:argo-rollouts"
	exempt := func(controller string) *integrity.Policy {
		return compile(t, "p", v1alpha1.ImageIntegrityPolicySpec{Exemptions: []v1alpha1.Exemption{{Name: "e", Category: v1alpha1.Waiver,
			Workloads: []v1alpha1.ExemptWorkload{{Kind: "argoproj.io/Rollout", Name: "web", Namespace: "shop", Controller: controller}}}}})
	}
	rollout := &integrity.Owner{APIVersion: "argoproj.io/v1alpha1", Kind: "Rollout", Name: "web"}
	rs := &integrity.Owner{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "web-5d4f8"}
	hash := map[string]string{"rollouts-pod-template-hash": "5d4f8"}
	for name, tt := range map[string]struct {
		namespace, kind, object, user string
		owner                         *integrity.Owner
		controller                    string
		want                          bool
	}{
		"itself":                      {"shop", "argoproj.io/Rollout", "web", "alice", nil, "", true},
		"another name":                {"shop", "argoproj.io/Rollout", "api", "alice", nil, "", false},
		"another namespace":           {"test", "argoproj.io/Rollout", "web", "alice", nil, "", false},
		"another group":               {"shop", "evil.example/Rollout", "web", "alice", nil, "", false},
		"its ReplicaSet":              {"shop", "ReplicaSet", "web-5d4f8", argo, rollout, argo, true},
		"without a controller":        {"shop", "ReplicaSet", "web-5d4f8", argo, rollout, "", false},
		"by another controller":       {"shop", "ReplicaSet", "web-5d4f8", argo, rollout, "system:serviceaccount:shop:argo-rollouts", false},
		"by somebody":                 {"shop", "ReplicaSet", "web-5d4f8", "alice", rollout, argo, false},
		"by nobody":                   {"shop", "ReplicaSet", "web-5d4f8", "", rollout, argo, false},
		"its Pod":                     {"shop", "Pod", "web-5d4f8-x", kubeSystem + "replicaset-controller", rs, argo, true},
		"a Pod by somebody":           {"shop", "Pod", "web-5d4f8-x", "alice", rs, argo, false},
		"a Pod of the controller":     {"shop", "Pod", "p", argo, rollout, argo, true},
		"a Pod of somebody's account": {"shop", "Pod", "p", "system:serviceaccount:shop:default", rollout, argo, false},
	} {
		s := integrity.Subject{Namespace: tt.namespace, Workloads: integrity.Admitted(tt.kind, tt.object, tt.user, tt.owner, hash)}
		if got := exempt(tt.controller).ExemptionOf(s, "a:1", now); (got != nil) != tt.want {
			t.Errorf("%s: exempt %v", name, got != nil)
		}
	}
}
