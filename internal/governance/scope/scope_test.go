package scope_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/governance/scope"
	"github.com/boltseal/boltseal/internal/test/weight"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"/", "/a", "/subscriptions/S/resourceGroups/G_1(x).y"} {
		if p, err := scope.Parse(good); err != nil || p.String() != good {
			t.Errorf("%q: %v, %v", good, p, err)
		}
	}
	for bad, want := range map[string]string{
		"": "empty", "a": "begin", "//": "empty part", "/a/": "empty part", "/a//b": "empty part",
		"/.": "in full", "/a/../b": "in full", "/a b": "letters", "/\u212a": "letters", "/a%2fb": "letters", "/a*": "letters",
		"/" + strings.Repeat("x", 512): "at most 512", strings.Repeat("/x", 33): "at most 32", "/" + strings.Repeat("x", 254): "at most 253",
	} {
		_, err := scope.Parse(bad)
		if !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%q: %v, want %q", bad, err, want)
		}
	}
}

func TestContains(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scope, id string
		want      bool
	}{
		{"/", "/a/clusters/c", true},
		{"/a", "/a/clusters/c", true},
		{"/A", "/a/clusters/c", true},
		{"/a", "/ab/clusters/c", false},
		{"/a/b", "/a/clusters/c", false},
		{"/a/clusters/c", "/a/clusters/c", true},
		{"/a/clusters/c/d", "/a/clusters/c", false},
	} {
		if got, err := scope.Contains(c.scope, c.id); err != nil || got != c.want {
			t.Errorf("Contains(%s, %s) = %v, %v", c.scope, c.id, got, err)
		}
	}
	if (scope.Path{}).Contains(parsePath(t, "/a")) || parsePath(t, "/").Contains(scope.Path{}) {
		t.Error("no path contains, or is contained")
	}
}

func parsePath(t *testing.T, s string) scope.Path {
	t.Helper()
	p, err := scope.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestIDs(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"/", "/subscriptions/S/resourceGroups/G"} {
		id := scope.AssignmentID(parsePath(t, at), "only-trusted")
		for _, text := range []string{id, strings.ToUpper(id), strings.Replace(id, scope.Provider, scope.AuthorizationProvider, 1)} {
			p, name, err := scope.ParseAssignmentID(text)
			if err != nil || !p.Equal(parsePath(t, at)) || !strings.EqualFold(name, "only-trusted") {
				t.Errorf("%s: %v %q %v", text, p, name, err)
			}
			if ok, err := scope.NamesAssignment(text, parsePath(t, at), "only-trusted"); !ok || err != nil {
				t.Errorf("%s: %v, %v", text, ok, err)
			}
			if ok, _ := scope.NamesAssignment(text, parsePath(t, "/other"), "only-trusted"); ok {
				t.Errorf("%s names an assignment of another scope", text)
			}
		}
	}
	if _, _, err := scope.ParseAssignmentID("/a/providers/evil.example/policyAssignments/x"); err == nil {
		t.Error("another provider's ID was read")
	}
	if ok, _ := scope.NamesAssignment("", parsePath(t, "/"), ""); ok {
		t.Error("nothing names an assignment")
	}
	if g, ok := parsePath(t, "/Subscriptions/s/resourcegroups/Prod/x").ResourceGroup(); g != "Prod" || !ok {
		t.Error(g, ok)
	}
	if g, ok := parsePath(t, "/emea/production").ResourceGroup(); ok {
		t.Error(g)
	}
}

const group = "/providers/Microsoft.Management/managementGroups/Contoso"

func cluster(change ...func(*v1alpha1.Cluster)) *v1alpha1.Cluster {
	c := &v1alpha1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: "c1"},
		Spec: v1alpha1.ClusterSpec{Scope: "/subscriptions/S/resourceGroups/G", Location: "West Europe", ManagementGroups: []string{group}}}
	for _, f := range change {
		f(c)
	}
	return c
}

func TestAt(t *testing.T) {
	t.Parallel()
	p, err := scope.At(cluster())
	if err != nil || p.ID() != "/subscriptions/S/resourceGroups/G/clusters/c1" || scope.ManagedClusterID(p.Scope(), "c1") != "/subscriptions/S/resourceGroups/G/providers/Microsoft.ContainerService/managedClusters/c1" {
		t.Fatal(p, err)
	}
	for name, f := range map[string]func(*v1alpha1.Cluster){
		"scope":           func(c *v1alpha1.Cluster) { c.Spec.Scope = "a" },
		"below a cluster": func(c *v1alpha1.Cluster) { c.Spec.Scope = "/a/Clusters/x" },
		"providers":       func(c *v1alpha1.Cluster) { c.Spec.Scope = "/a/providers/x" },
		"name":            func(c *v1alpha1.Cluster) { c.Name = "a/b" },
		"group":           func(c *v1alpha1.Cluster) { c.Spec.ManagementGroups = []string{"/subscriptions/T"} },
		"groups":          func(c *v1alpha1.Cluster) { c.Spec.ManagementGroups = slices.Repeat([]string{group}, 11) },
	} {
		if p, err := scope.At(cluster(f)); !errors.Is(err, boltseal.ErrConfiguration) || p.In(parsePath(t, "/")) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func in(kind string, values ...string) v1alpha1.Selector {
	return v1alpha1.Selector{Kind: kind, In: values}
}

func notIn(kind string, values ...string) v1alpha1.Selector {
	return v1alpha1.Selector{Kind: kind, NotIn: values}
}

func all(list ...v1alpha1.Selector) v1alpha1.ResourceSelector {
	return v1alpha1.ResourceSelector{Selectors: list}
}

func TestInScope(t *testing.T) {
	t.Parallel()
	nowhere := func(c *v1alpha1.Cluster) { c.Spec.Location = "" }
	for name, c := range map[string]struct {
		spec    v1alpha1.PolicyAssignmentSpec
		cluster *v1alpha1.Cluster
		want    bool
		unknown bool
	}{
		"above":            {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/subscriptions/s"}, want: true},
		"beside":           {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/subscriptions/s2"}},
		"management group": {spec: v1alpha1.PolicyAssignmentSpec{Scope: strings.ToLower(group)}, want: true},
		"not its group":    {spec: v1alpha1.PolicyAssignmentSpec{Scope: group + "2"}},
		"the cluster":      {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/subscriptions/S/resourceGroups/G/clusters/c1"}, want: true},
		"alias":            {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/subscriptions/S/resourceGroups/G/providers/Microsoft.ContainerService/managedClusters/c1"}, want: true},
		"notScope":         {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", NotScopes: []string{"/x", "/subscriptions/S"}}},
		"notScope alias":   {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", NotScopes: []string{"/subscriptions/S/resourceGroups/G/providers/Microsoft.ContainerService/managedClusters/C1"}}},
		"notScope group":   {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/subscriptions/S", NotScopes: []string{group}}},
		"location":         {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(in("resourceLocation", "eastus", "westeurope"))}}, want: true},
		"not location":     {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(notIn("resourceLocation", "westeurope"))}}},
		"and": {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{
			all(in("resourceLocation", "westeurope"), in("resourceType", "Microsoft.Compute/virtualMachines"))}}},
		"or": {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{
			all(in("resourceLocation", "eastus")), all(in("resourceType", "microsoft.containerservice/managedclusters"))}}, want: true},
		"without location":     {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(in("resourceWithoutLocation", "subscriptionLevelResources"))}}},
		"not without location": {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(notIn("resourceWithoutLocation", "subscriptionLevelResources"))}}, want: true},
		"unknown location":     {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(notIn("resourceLocation", "eastus"))}}, cluster: cluster(nowhere), unknown: true},
		"unknown, other holds": {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{
			all(in("resourceLocation", "eastus")), all(in("resourceType", "policy.boltseal.dev/clusters"))}}, cluster: cluster(nowhere), want: true},
		"unknown, decided anyway": {spec: v1alpha1.PolicyAssignmentSpec{Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{
			all(in("resourceLocation", "eastus"), in("resourceType", "x/y"))}}, cluster: cluster(nowhere)},
	} {
		if c.cluster == nil {
			c.cluster = cluster()
		}
		got, err := scope.InScope(&c.spec, c.cluster)
		var undecided *scope.UndecidedError
		if got != c.want || errors.As(err, &undecided) != c.unknown || (err != nil) != c.unknown {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for want, spec := range map[string]v1alpha1.PolicyAssignmentSpec{
		"spec.scope":                      {Scope: "a"},
		"takes out all":                   {Scope: "/a/b", NotScopes: []string{"/A"}},
		"spec.notScopes[1]":               {Scope: "/", NotScopes: []string{"/a", "/.."}},
		"at most 400":                     {Scope: "/", NotScopes: slices.Repeat([]string{"/a"}, 401)},
		"at most 10":                      {Scope: "/", ResourceSelectors: slices.Repeat([]v1alpha1.ResourceSelector{all(in("resourceType", "a"))}, 11)},
		"select everything":               {Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{{}}},
		`did you mean "resourceLocation"`: {Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(in("resourceLocations", "a"))}},
		"not known here":                  {Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(in("policyDefinitionReferenceId", "a"))}},
		"either in or notIn":              {Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(v1alpha1.Selector{Kind: "resourceType"})}},
		"at most 50":                      {Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(in("resourceType", slices.Repeat([]string{"a"}, 51)...))}},
		"is empty":                        {Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(in("resourceType", " "))}},
		"subscriptionLevelResources":      {Scope: "/", ResourceSelectors: []v1alpha1.ResourceSelector{all(notIn("resourceWithoutLocation", "x"))}},
		`did you mean "policyEffect"`:     {Scope: "/", Overrides: []v1alpha1.Override{{Kind: "policyEfect", Value: "x"}}},
		".value":                          {Scope: "/", Overrides: []v1alpha1.Override{{Kind: "policyEffect"}}},
		`did you mean "verify"`:           {Scope: "/", Overrides: []v1alpha1.Override{{Kind: "policyEffect", Value: "Deny", Selectors: []v1alpha1.Selector{notIn("policyDefinitionReferenceId", "verfy")}}}},
	} {
		a, err := scope.Compile(&spec, []string{"verify"})
		if a != nil || !errors.Is(err, boltseal.ErrConfiguration) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	var none *scope.Assignment
	if p, err := scope.At(cluster()); err != nil {
		t.Error(err)
	} else if ok, _ := none.Holds(p); ok {
		t.Error("no assignment holds")
	}
}

func TestOverrides(t *testing.T) {
	t.Parallel()
	a, err := scope.Compile(&v1alpha1.PolicyAssignmentSpec{Scope: "/", Overrides: []v1alpha1.Override{
		{Kind: "policyEffect", Value: "Disabled", Selectors: []v1alpha1.Selector{in("resourceLocation", "eastus")}},
		{Kind: "policyEffect", Value: "Audit", Selectors: []v1alpha1.Selector{in("policyDefinitionReferenceId", "Verify")}},
		{Kind: "definitionVersion", Value: "2.*.*"},
		{Kind: "policyEffect", Value: "Deny"},
		{Kind: "policyVersion", Value: "3.*.*"},
	}}, []string{"verify", "deploy"})
	if err != nil {
		t.Fatal(err)
	}
	at := func(c *v1alpha1.Cluster) scope.Place {
		p, err := scope.At(c)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if got, err := a.Overrides(at(cluster()), "verify"); err != nil || got != (scope.Applied{Effect: "Audit", Version: "2.*.*"}) {
		t.Error(got, err)
	}
	if got, err := a.Overrides(at(cluster()), "deploy"); err != nil || got != (scope.Applied{Effect: "Deny", Version: "2.*.*"}) {
		t.Error(got, err)
	}
	var undecided *scope.UndecidedError
	if got, err := a.Overrides(at(cluster(func(c *v1alpha1.Cluster) { c.Spec.Location = "" })), "deploy"); !errors.As(err, &undecided) || got != (scope.Applied{}) {
		t.Error(got, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"/", "/a/b", "/a/../b", "//", "/a/", "/Subscriptions/S", "/a\x00", "/\u212a", ""} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		weight.Bound{Floor: 16 << 10, Times: 32}.Check(t, len(a), func() { _, _ = scope.Parse(a) })
		p, err := scope.Parse(a)
		if err != nil {
			if !errors.Is(err, boltseal.ErrConfiguration) || p.Contains(p) {
				t.Fatal(err)
			}
			return
		}
		if !p.Contains(p) || !parsePath(t, "/").Contains(p) || !parsePath(t, strings.ToUpper(a)).Equal(p) {
			t.Fatalf("%q does not contain itself, or not in capitals", a)
		}
		for _, part := range strings.Split(a, "/")[1:] {
			if a != "/" && (part == "" || part == "." || part == "..") {
				t.Fatalf("%q", a)
			}
		}
		q, err := scope.Parse(b)
		if err != nil {
			return
		}
		// Held against the plain definition, of texts.
		x, y := strings.ToLower(strings.TrimSuffix(a, "/"))+"/", strings.ToLower(strings.TrimSuffix(b, "/"))+"/"
		if p.Contains(q) != strings.HasPrefix(y, x) {
			t.Fatalf("Contains(%q, %q) = %v", a, b, p.Contains(q))
		}
		if p.Contains(q) && q.Contains(p) != p.Equal(q) {
			t.Fatalf("%q and %q contain each other and differ", a, b)
		}
		if id := scope.AssignmentID(p, "n"); true {
			if at, name, err := scope.ParseAssignmentID(id); err == nil && (!at.Equal(p) || name != "n") {
				t.Fatalf("%q is read as %v %q", id, at, name)
			}
		}
	})
}
