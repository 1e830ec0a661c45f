package definition

import (
	"errors"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/test/weight"
)

func TestExpressions(t *testing.T) {
	t.Parallel()
	params := map[string]*parameter{"e": {typ: TypeString}, "l": {typ: TypeArray}, "b": {typ: TypeBoolean}, "o": {typ: TypeObject}}
	v := values{cluster: ClusterFields{Name: "c1", ResourceGroup: "g1", Location: "here"}, parameters: map[string]node{
		"e": {kind: stringKind, text: "Disabled"}, "l": {kind: arrayKind, items: []node{{kind: stringKind, text: "x"}}}, "b": {kind: boolKind, yes: true}, "o": {kind: objectKind},
	}}
	for in, want := range map[string]string{
		`plain`: `"plain"`, `[[escaped]`: `"[escaped]"`, `[not`: `"[not"`, `[[not`: `"[[not"`, `[]x`: `"[]x"`,
		`[parameters('e')]`: `"Disabled"`, `[ PARAMETERS ( 'e' ) ]`: `"Disabled"`,
		`[if(equals(parameters('e'),'Disabled'),'Disabled','DeployIfNotExists')]`: `"Disabled"`,
		`[if(equals(parameters('e'),'disabled'),1,2)]`:                            `2`,
		`[if(parameters('b'), 'it''s', '')]`:                                      `"it's"`,
		`[concat('a', parameters('e'), 1)]`:                                       `"aDisabled1"`,
		`[concat(parameters('l'), parameters('l'))]`:                              `["x","x"]`,
		`[field('name')]`: `"c1"`, `[field('Location')]`: `"here"`, `[resourceGroup().name]`: `"g1"`,
		`[equals(-1, 1)]`: `false`, `[parameters('o')]`: `{}`,
	} {
		r := &report{}
		tmpl := r.compileTemplate(node{kind: stringKind, text: in}, scope{params, true})
		if r.err() != nil {
			t.Errorf("%s: %v", in, r.err())
			continue
		}
		n, err := v.template(tmpl)
		if got := string(n.appendJSON(nil)); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		`[]`: "ends too early", `[parameters]`: "must be a function", `[parameters('e'))]`: "')' is not expected", `[parameters('e]`: "not closed",
		`[parameters()]`: "takes 1 argument", `[parameters('f')]`: "no parameter", `[parameters(concat('e'))]`: "a name in single quotes",
		`[union(1,2)]`: "union() is not supported", `[paramters('e')]`: `did you mean "parameters"?`,
		`[if('a','b','c')]`: "must be true or false", `[if(equals(1,1),'b')]`: "takes 3", `[concat()]`: "at least one",
		`[concat('a', parameters('l'))]`: "texts or lists, not both", `[concat(parameters('o'))]`: "not objects",
		`[resourceGroup()]`: "only resourceGroup().name", `[resourceGroup().location]`: "only resourceGroup().name", `[parameters('o').a]`: ".a on parameters('o')",
		`[parameters('l')[0]]`: "[ ] on a value", `[field('tags')]`: "no field", `[99999999999999999999]`: "no whole number", `[é()]`: "'é' is not expected",
		`[` + strings.Repeat("concat(", 100) + strings.Repeat(")", 100) + `]`: "deeper than",
		`[` + strings.Repeat("x", MaxExpression) + `y]`:                       "longer than",
		`[concat(1` + strings.Repeat(",1", maxExprNodes) + `)]`:               "parts",
	} {
		r := &report{}
		r.compileTemplate(node{kind: stringKind, text: in}, scope{params, true})
		if err := r.err(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", truncateText(in), err, want)
		}
	}
}

// same compares expressions; functions and members may be in any case.
func same(x, y *expr) bool {
	if x.kind != y.kind || !strings.EqualFold(x.name, y.name) || len(x.args) != len(y.args) || !x.value.equal(y.value) {
		return false
	}
	for i := range x.args {
		if !same(x.args[i], y.args[i]) {
			return false
		}
	}
	return true
}

func FuzzExpression(f *testing.F) {
	for _, s := range []string{`parameters('x')`, `if(equals(parameters('effect'),'Disabled'),'Disabled','DeployIfNotExists')`, `resourceGroup().name`,
		`reference(variables('v')).outputs.aksCluster.value`, `take(concat('a''b', -12), 64)[0]`, `a( 'ü' )`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		weight.Bound{Floor: 64 << 10, Times: 256}.Check(t, len(s), func() { _, _ = parseExpression(s) })
		e, err := parseExpression(s)
		if err != nil {
			return
		}
		written := e.String()
		again, err := parseExpression(written)
		if len(written) > MaxExpression {
			return // the spaces after commas may make it too long
		}
		if err != nil || !same(e, again) || again.String() != written {
			t.Fatalf("%q became %q: %v", s, written, err)
		}
		used := map[string]bool{}
		typ, err := scope{map[string]*parameter{"x": {typ: TypeString}}, true}.check(e, used)
		if err != nil {
			return
		}
		n, err := values{parameters: map[string]node{"x": {kind: stringKind, text: "v"}}}.eval(e)
		if err == nil && typ != anyType && typeOf(n) != typ {
			t.Fatalf("%q is of type %s, and became %s", s, typ, n.what())
		}
	})
}

func FuzzImport(f *testing.F) {
	for _, name := range []string{fileAddOn, fileSet, fileIntegrity, fileVerify} {
		f.Add(published(f, name))
	}
	f.Add([]byte(`[{"name":"x","mode":"Indexed","policyRule":{"if":{"not":{"field":"name","notIn":["a"]}},"then":{"effect":"audit"}}}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		weight.Bound{Floor: 256 << 10, Times: 256}.Check(t, len(data), func() { _, _ = Import("", data) })
		objects, err := Import("", data)
		if err != nil {
			var ps strict.Problems
			if objects != nil || !errors.As(err, &ps) || !errors.Is(err, boltseal.ErrConfiguration) || len(ps) == 0 {
				t.Fatalf("%d objects, %v", len(objects), err)
			}
			return
		}
		if len(objects) == 0 {
			t.Fatal("neither objects nor an error")
		}
		var l Library
		if err := l.Add(objects...); err != nil {
			t.Fatalf("imported, and does not compile: %v", err)
		}
		for _, o := range objects {
			if (o.Definition == nil) == (o.Set == nil) || !resourceName.MatchString(o.Name()) {
				t.Fatalf("%+v", o)
			}
			if o.Definition == nil {
				continue
			}
			if e, ok := l.Definition(o.Name()); !ok || e.Compiled == nil {
				t.Fatalf("%s is not found", o.Name())
			} else if b, err := e.Compiled.Bind(map[string]v1alpha1.ParameterValue{}, ClusterFields{Name: "c"}); err == nil {
				b.Applies(ClusterFields{})
				b.Exists(ClusterFields{})
				if b.Effect == EffectDeployIfNotExists && b.Deploy == (Deploy{}) {
					t.Fatal("deploys nothing")
				}
			}
		}
	})
}
