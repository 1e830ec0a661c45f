package render_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	chart "github.com/boltseal/boltseal/charts/boltseal"
	"github.com/boltseal/boltseal/internal/governance/render"
)

var now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func own(t *testing.T) []byte {
	t.Helper()
	b, err := chart.GatekeeperTemplate()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func demand(id string, change ...func(*v1alpha1.Demand)) v1alpha1.Demand {
	d := v1alpha1.Demand{Name: render.Name(id, "verify"), Assignment: "a", AssignmentID: id, DefinitionID: "/d", DefinitionReferenceID: "verify",
		SetDefinitionID: "/s", Effect: "Deny", EnforcementAction: integrityv1.Deny, Message: "Sign it.",
		Match: integrityv1.Match{Kinds: []string{"Pod"}, ExcludedNamespaces: []string{"kube-system", "old-*"}}, ExcludedImages: []string{"registry.example/base/*"}}
	for _, f := range change {
		f(&d)
	}
	return d
}

func exempt(name string, within *v1alpha1.ExemptionWithin, ends ...time.Time) func(*v1alpha1.Demand) {
	return func(d *v1alpha1.Demand) {
		e := v1alpha1.BundleExemption{Name: name, Category: "Waiver", Within: within}
		for _, t := range ends {
			m := metav1.NewTime(t)
			e.ExpiresOn = &m
		}
		d.Exemptions = append(d.Exemptions, e)
	}
}

func run(t *testing.T, engine v1alpha1.Engine, installed []unstructured.Unstructured, demands ...v1alpha1.Demand) *render.Result {
	t.Helper()
	r, err := render.Render(render.Input{Engine: engine, Demands: demands, OwnTemplate: own(t), Exempt: []string{"boltseal-system"},
		Installed: installed, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func same(t *testing.T, u *unstructured.Unstructured, want string) {
	t.Helper()
	got, err := yaml.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	if strings.TrimSpace(string(got)) != strings.TrimSpace(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

const metadata = `metadata:
  annotations:
    azure-policy-assignment-id: /A
    azure-policy-definition-id: /d
    azure-policy-definition-reference-id: verify
    azure-policy-setdefinition-id: /s
    boltseal.dev/message: Sign it.
  labels:
    boltseal.dev/managed-by: governance
    managed-by: azure-policy-addon
`

func TestGoldenPolicy(t *testing.T) {
	t.Parallel()
	r := run(t, v1alpha1.EngineBoltseal, nil, demand("/A"))
	same(t, r.Objects[0], `apiVersion: boltseal.dev/v1alpha1
kind: ImageIntegrityPolicy
`+metadata+`  name: `+render.Name("/A", "verify")+`
spec:
  enforcementAction: deny
  excludedImages:
  - registry.example/base/*
  match:
    excludedNamespaces:
    - kube-system
    - old-*
    kinds:
    - Pod
  onUnavailable: {}
`)
}

func TestGoldenConstraint(t *testing.T) {
	t.Parallel()
	r := run(t, v1alpha1.EngineGatekeeper, nil, demand("/A", func(d *v1alpha1.Demand) {
		d.Effect, d.EnforcementAction, d.Warn, d.Source = "Audit", integrityv1.Warn, true, "Original"
	}))
	if len(r.Objects) != 2 {
		t.Fatalf("%+v", r)
	}
	tpl := r.Objects[0]
	if tpl.GetName() != "boltsealtrustedimages" || tpl.GetAnnotations()[render.AnnotationInstalledBy] != "azure-policy-addon" ||
		tpl.GetAnnotations()[render.AnnotationDefinition] != "/d" || !render.Managed(tpl) {
		t.Errorf("%v %v", tpl.GetName(), tpl.GetAnnotations())
	}
	same(t, r.Objects[1], `apiVersion: constraints.gatekeeper.sh/v1beta1
kind: BoltsealTrustedImages
`+metadata+`  name: azurepolicy-boltsealtrustedimages-`+render.Hash("/a", "VERIFY")+`
spec:
  enforcementAction: scoped
  match:
    excludedNamespaces:
    - kube-system
    - gatekeeper-system
    - boltseal-system
    - old-*
    kinds:
    - apiGroups:
      - ""
      kinds:
      - Pod
    source: Original
  parameters:
    allowTags: true
    excludedImages:
    - registry.example/base/*
  scopedEnforcementActions:
  - action: warn
    enforcementPoints:
    - name: validation.gatekeeper.sh
  - action: dryrun
    enforcementPoints:
    - name: audit.gatekeeper.sh
`)
}

func TestNames(t *testing.T) {
	t.Parallel()
	azure := render.ConstraintName("k8sazurev1notationverification", "/x", "r")
	if len(azure) != 63 || !regexp.MustCompile(`^azurepolicy-k8sazurev1notationverification-[0-9a-f]{20}$`).MatchString(azure) {
		t.Error(azure)
	}
	if long := render.ConstraintName(strings.Repeat("x", 80), "/x", "r"); len(long) != 63 {
		t.Error(long)
	}
	seen := map[string]bool{}
	for _, p := range [][2]string{{"/a", "b"}, {"/ab", ""}, {"/a", "bc"}, {"", "/ab"}} {
		seen[render.Name(p[0], p[1])] = true
	}
	if len(seen) != 4 || render.Name("/A", "b") != render.Name("/a", "B") {
		t.Error(seen)
	}
}

func TestAction(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		effect string
		warn   bool
		mode   v1alpha1.EnforcementMode
		want   string
	}{
		{"Deny", false, "", "deny true"}, {"deny", true, "Default", "deny true"}, {"Deny", false, "DoNotEnforce", "dryrun true"},
		{"Audit", false, "", "dryrun true"}, {"audit", true, "", "warn true"}, {"Audit", true, "DoNotEnforce", "dryrun true"}, {"Disabled", false, "", " false"},
	} {
		a, ok, err := render.Action(c.effect, c.warn, c.mode)
		if got := fmt.Sprint(a, ok); err != nil || strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
	for _, effect := range []string{"", "Modify"} {
		if _, ok, err := render.Action(effect, false, ""); err == nil || ok {
			t.Errorf("%q was taken", effect)
		}
	}
	if _, _, err := render.Action("Deny", false, "Off"); err == nil {
		t.Error("an unknown mode was taken")
	}
}

func TestExemptions(t *testing.T) {
	t.Parallel()
	type within = v1alpha1.ExemptionWithin
	var many []string
	for n := range 1000 {
		many = append(many, fmt.Sprint("n", n))
	}
	for name, c := range map[string]struct {
		within   *within
		ends     []time.Time
		refused  render.RefusalReason // by Gatekeeper
		boltseal bool                 // honours it all the same
		gone     bool                 // it is over
		action   string               // "" is deny
		text     string               // what the object must have, or must not where refused
	}{
		"cluster":             {action: "dryrun"},
		"later":               {ends: []time.Time{now.Add(time.Second)}, action: "dryrun"},
		"over":                {ends: []time.Time{now}, gone: true},
		"namespaces":          {within: &within{Namespaces: []string{"shop", "test-*"}}, text: "test-*"},
		"images":              {within: &within{Images: []string{"registry.example/app:1"}}, text: "registry.example/app:1"},
		"nothing":             {within: &within{}, refused: render.EmptyWithin},
		"workload":            {within: &within{Namespaces: []string{"shop"}, Workloads: []string{"Deployment/web"}}, refused: render.NotExpressible, boltseal: true, text: "shop"},
		"combination":         {within: &within{Namespaces: []string{"shop"}, Images: []string{"registry.example/app:1"}}, text: "shop"},
		"a Pod by name":       {within: &within{Namespaces: []string{"shop"}, Workloads: []string{"Pod/web"}}, refused: render.InvalidExemption, text: "shop"},
		"a workload anywhere": {within: &within{Workloads: []string{"Deployment/web"}}, refused: render.InvalidExemption, text: "web"},
		"wide image":          {within: &within{Images: []string{"registry*"}}, refused: render.InvalidExemption, text: "registry*"},
		"wide name":           {within: &within{Namespaces: []string{"*shop*"}}, refused: render.InvalidExemption, text: "shop"},
		"too many":            {within: &within{Namespaces: many}, refused: render.InvalidExemption, text: "n999"},
	} {
		for _, engine := range []v1alpha1.Engine{v1alpha1.EngineBoltseal, v1alpha1.EngineGatekeeper} {
			r := run(t, engine, nil, demand("/A", exempt("e", c.within, c.ends...)))
			o, obj := r.Outcomes[0], r.Objects[len(r.Objects)-1]
			text, _ := yaml.Marshal(obj.Object["spec"])
			action, _, _ := unstructured.NestedString(obj.Object, "spec", "enforcementAction")
			if c.action == "" && action != "deny" || c.action != "" && (action != c.action || !o.Exempt) {
				t.Errorf("%s, %s: action %s", name, engine, action)
			}
			switch {
			case c.refused != "" && !(c.boltseal && engine == v1alpha1.EngineBoltseal):
				if len(o.Refused) != 1 || o.Refused[0].Reason != c.refused || len(o.Honoured) != 0 || c.text != "" && strings.Contains(string(text), c.text) {
					t.Errorf("%s, %s: %+v\n%s", name, engine, o, text)
				}
			case len(o.Refused) != 0 || (len(o.Honoured) == 1) == c.gone || !strings.Contains(string(text), c.text):
				t.Errorf("%s, %s: %+v\n%s", name, engine, o, text)
			}
			if want := len(c.ends) == 1 && !c.gone; r.Next.IsZero() == want {
				t.Errorf("%s: next %v", name, r.Next)
			}
		}
	}
}

const foreign = `apiVersion: templates.gatekeeper.sh/v1
kind: ConstraintTemplate
metadata:
  name: k8sazurev1notationverification
  labels: {boltseal.dev/managed-by: someone}
  finalizers: [x/y]
spec:
  crd: {spec: {names: {kind: K8sAzureV1NotationVerification}}}
  targets: [{target: admission.k8s.gatekeeper.sh, rego: "package %s"}]
`

func brings(template string) func(*v1alpha1.Demand) {
	return func(d *v1alpha1.Demand) { d.Template, d.ExcludedImages = template, nil }
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	one, two := brings(fmt.Sprintf(foreign, "one")), brings(fmt.Sprintf(foreign, "two"))
	before := run(t, v1alpha1.EngineGatekeeper, nil, demand("/A", one))
	if len(before.Objects) != 2 || before.Objects[0].GetFinalizers() != nil || !render.Managed(before.Objects[0]) {
		t.Fatalf("%+v", before.Outcomes)
	}
	r := run(t, v1alpha1.EngineGatekeeper, nil, demand("/A", one), demand("/B", two), demand("/C"))
	for n, want := range []render.Reason{render.ConstraintTemplateConflicts, render.ConstraintTemplateConflicts, ""} {
		if r.Outcomes[n].Reason != want {
			t.Errorf("%+v", r.Outcomes[n])
		}
	}
	if len(r.Objects) != 2 || r.Objects[0].GetName() != "boltsealtrustedimages" {
		t.Errorf("%d objects", len(r.Objects))
	}
	for _, u := range before.Objects {
		if !r.Keeps(u) {
			t.Errorf("%s is not kept", u.GetName())
		}
	}
	if gone := run(t, v1alpha1.EngineGatekeeper, nil, demand("/C")); gone.Keeps(before.Objects[0]) || gone.Keeps(before.Objects[1]) {
		t.Error("what nobody demands is kept")
	}
	if r := run(t, v1alpha1.EngineGatekeeper, nil, demand("/A", one), demand("/B", one)); len(r.Objects) != 3 {
		t.Errorf("two demands of one source: %+v", r.Outcomes)
	}
}

func TestInstalledBySomebodyElse(t *testing.T) {
	t.Parallel()
	read := func(text string) []unstructured.Unstructured {
		var u unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &u.Object); err != nil {
			t.Fatal(err)
		}
		return []unstructured.Unstructured{u}
	}
	d := demand("/A", brings(fmt.Sprintf(foreign, "one")))
	r := run(t, v1alpha1.EngineGatekeeper, read(fmt.Sprintf(foreign, "two")), d)
	if r.Outcomes[0].Reason != render.ConstraintTemplateConflicts || len(r.Objects) != 0 {
		t.Errorf("%+v", r)
	}
	theirs := read(fmt.Sprintf(foreign, "one"))
	if err := unstructured.SetNestedField(theirs[0].Object, false, "spec", "crd", "spec", "validation", "legacySchema"); err != nil {
		t.Fatal(err)
	}
	r = run(t, v1alpha1.EngineGatekeeper, theirs, d)
	if len(r.Objects) != 1 || r.Objects[0].GetKind() != "K8sAzureV1NotationVerification" || !r.Keeps(&theirs[0]) {
		t.Errorf("%+v", r)
	}
	mine := run(t, v1alpha1.EngineGatekeeper, nil, d).Objects[0].DeepCopy()
	if err := unstructured.SetNestedSlice(mine.Object, nil, "spec", "targets"); err != nil {
		t.Fatal(err)
	}
	if r = run(t, v1alpha1.EngineGatekeeper, []unstructured.Unstructured{*mine}, d); len(r.Objects) != 2 {
		t.Errorf("a hand edit is not put back: %+v", r.Outcomes)
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		engine v1alpha1.Engine
		change func(*v1alpha1.Demand)
		want   render.Reason
	}{
		"no action":      {v1alpha1.EngineBoltseal, func(d *v1alpha1.Demand) { d.EnforcementAction = "" }, render.InvalidConstraint},
		"audit denies":   {v1alpha1.EngineGatekeeper, func(d *v1alpha1.Demand) { d.Effect = "Audit" }, render.InvalidConstraint},
		"kind":           {v1alpha1.EngineGatekeeper, func(d *v1alpha1.Demand) { d.Match.Kinds = []string{"Node"} }, render.InvalidConstraint},
		"image":          {v1alpha1.EngineBoltseal, func(d *v1alpha1.Demand) { d.ExcludedImages = []string{"a*"} }, render.InvalidConstraint},
		"source":         {v1alpha1.EngineGatekeeper, func(d *v1alpha1.Demand) { d.Source = "x" }, render.InvalidConstraint},
		"needs template": {v1alpha1.EngineBoltseal, brings(foreign), render.InvalidConstraint},
		"images unknown": {v1alpha1.EngineGatekeeper, func(d *v1alpha1.Demand) { d.Template = foreign }, render.InvalidConstraint},
		"no template":    {v1alpha1.EngineGatekeeper, brings("kind: Pod"), render.ConstraintTemplateInstallFailed},
		"two documents":  {v1alpha1.EngineGatekeeper, brings(foreign + "---\nkind: [\n"), render.ConstraintTemplateInstallFailed},
		"other name":     {v1alpha1.EngineGatekeeper, brings(strings.Replace(foreign, "name: k8s", "name: x", 1)), render.ConstraintTemplateInstallFailed},
		"too large":      {v1alpha1.EngineGatekeeper, brings(foreign + strings.Repeat("#", render.MaxTemplateBytes)), render.ConstraintTemplateInstallFailed},
	} {
		installed := run(t, v1alpha1.EngineGatekeeper, nil, demand("/A"))
		r := run(t, c.engine, nil, demand("/A", c.change), demand("/B"))
		if r.Outcomes[0].Reason != c.want || r.Outcomes[0].Message == "" || r.Outcomes[1].Reason != "" || r.Outcomes[1].Name == "" {
			t.Errorf("%s: %+v", name, r.Outcomes)
		}
		if !r.Keeps(installed.Objects[1]) {
			t.Errorf("%s: what is installed is not kept", name)
		}
	}
	if r := run(t, v1alpha1.EngineBoltseal, nil, demand("/A"), demand("/A")); len(r.Objects) != 0 {
		t.Error("two demands of one name were rendered")
	}
	if _, err := render.Render(render.Input{}); err == nil {
		t.Error("no engine is taken")
	}
	r := run(t, v1alpha1.EngineGatekeeper, nil, demand("/A", brings(fmt.Sprintf(foreign, "x")), exempt("e", &v1alpha1.ExemptionWithin{Images: []string{"registry.example/a:1"}})))
	if o := r.Outcomes[0]; o.Reason != "" || len(o.Refused) != 1 || o.Refused[0].Reason != render.TemplateHasNoImages {
		t.Errorf("%+v", o)
	}
}
