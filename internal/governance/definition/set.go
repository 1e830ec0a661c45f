package definition

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// Reference is one definition of an initiative, with the parameters that the
// initiative hands to it.
type Reference struct {
	ID                string // policyDefinitionReferenceId
	DefinitionID      string // a definition's name or resource ID
	DefinitionVersion string // pattern for MatchVersion; "" = any
	Parameters        map[string]v1alpha1.ParameterValue
	GroupNames        []string
}

// Set is an initiative that was checked. It does not change, and may be used from
// several goroutines.
type Set struct {
	Version    string
	Preview    bool
	Deprecated bool

	parameters map[string]*parameter
	references []reference
}

type reference struct {
	id, definition, version string
	groups                  []string
	parameters              []templateMember
}

// CompileSet checks an initiative. The error is strict.Problems, as of Compile.
// Whether its definitions exist and take these parameters is told by binding
// them.
func CompileSet(spec v1alpha1.PolicySetDefinitionSpec) (*Set, error) {
	r := &report{}
	s := r.set(spec)
	return s, r.err()
}

func (r *report) set(spec v1alpha1.PolicySetDefinitionSpec) *Set {
	out := &Set{
		Version: spec.Version, Preview: spec.Metadata.Preview, Deprecated: spec.Metadata.Deprecated,
		parameters: r.parameters(spec.Parameters, MaxSetParameters),
	}
	if n := len(spec.PolicyDefinitions); n == 0 || n > MaxReferences {
		r.add(0, "policyDefinitions", fmt.Sprintf("must have 1 to %d definitions, and has %d", MaxReferences, n))
		return nil
	}
	s := scope{parameters: out.parameters}
	seen := map[string]bool{}
	for i, d := range spec.PolicyDefinitions {
		path := "policyDefinitions[" + strconv.Itoa(i) + "]"
		ref := reference{id: d.PolicyDefinitionReferenceID, definition: d.PolicyDefinitionID, version: d.DefinitionVersion, groups: slices.Clone(d.GroupNames)}
		switch {
		case ref.id == "":
			r.add(0, path+".policyDefinitionReferenceId", "is missing")
		case seen[strings.ToLower(ref.id)]:
			r.add(0, path+".policyDefinitionReferenceId", fmt.Sprintf("%q is listed twice", truncateText(ref.id)))
		}
		seen[strings.ToLower(ref.id)] = true
		if ref.definition == "" {
			r.add(0, path+".policyDefinitionId", "is missing")
		}
		if err := CheckVersionPattern(ref.version); err != nil {
			r.add(0, path+".definitionVersion", err.Error())
		}
		for _, name := range slices.Sorted(maps.Keys(d.Parameters)) {
			if n, ok := r.raw(d.Parameters[name].Value, joinPath(path+".parameters", name)+".value"); ok {
				ref.parameters = append(ref.parameters, templateMember{name, r.compileTemplate(n, s)})
			}
		}
		out.references = append(out.references, ref)
	}
	if len(r.problems) > 0 {
		return nil
	}
	return out
}

// Bind sets the initiative's parameters and returns its definitions with theirs,
// in the initiative's order. The error is strict.Problems, as of
// Definition.Bind.
func (s *Set) Bind(set map[string]v1alpha1.ParameterValue) ([]Reference, error) {
	r := &report{}
	v := values{parameters: r.bindParameters(s.parameters, set)}
	if err := r.err(); err != nil {
		return nil, err
	}
	out := make([]Reference, 0, len(s.references))
	for _, ref := range s.references {
		b := Reference{
			ID: ref.id, DefinitionID: ref.definition, DefinitionVersion: ref.version, GroupNames: slices.Clone(ref.groups),
			Parameters: make(map[string]v1alpha1.ParameterValue, len(ref.parameters)),
		}
		for _, p := range ref.parameters {
			n, err := v.template(p.value)
			if err != nil {
				r.at(p.value.node, "%v", err)
				continue
			}
			b.Parameters[p.name] = v1alpha1.ParameterValue{Value: apiextensionsv1.JSON{Raw: n.appendJSON(nil)}}
		}
		out = append(out, b)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	return out, nil
}
