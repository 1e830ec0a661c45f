package definition

import (
	"embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
)

//go:embed builtin/*.json
var builtInFiles embed.FS

// The built-in initiative, its definitions, and the names that their counterparts
// have in Azure, by which they are found too.
const (
	SetImageIntegrity      = "image-integrity"
	DeployImageIntegrity   = "deploy-image-integrity"
	DeployPolicyAddOn      = "deploy-policy-add-on"
	VerifyImages           = "image-integrity-verification"
	azureSetImageIntegrity = "af28bf8b-c669-4dd3-9137-1e68fdc61bd6"
	azureDeployIntegrity   = "5dc99dae-cfb2-42cc-8762-9aae02b74e27"
	azureDeployPolicyAddOn = "a8eff44f-8c92-45c3-a3fb-9880802d67a7"
	azureVerifyImages      = "cf426bb8-b320-4321-8545-1b784a5df3a4"
)

// DefinitionEntry is a definition of a Library.
type DefinitionEntry struct {
	Object   v1alpha1.PolicyDefinition
	Compiled *Definition
	BuiltIn  bool
}

// SetEntry is an initiative of a Library.
type SetEntry struct {
	Object   v1alpha1.PolicySetDefinition
	Compiled *Set
	BuiltIn  bool
}

// Matches tells whether the definition will do for a definitionVersion. Of an
// imported one only the newest content is at hand, so only its version counts; a
// built-in one stands in for every version that it lists.
func (e DefinitionEntry) Matches(pattern string) bool {
	return matchesVersion(pattern, e.Object.Spec.Version, e.Object.Spec.Versions, e.BuiltIn)
}

// Matches is as of a DefinitionEntry.
func (e SetEntry) Matches(pattern string) bool {
	return matchesVersion(pattern, e.Object.Spec.Version, e.Object.Spec.Versions, e.BuiltIn)
}

func matchesVersion(pattern, version string, versions []string, builtIn bool) bool {
	return MatchVersion(pattern, version) ||
		builtIn && slices.ContainsFunc(versions, func(v string) bool { return MatchVersion(pattern, v) })
}

// Library finds definitions and initiatives. The zero Library is empty. It may be
// read from several goroutines while nothing is added.
type Library struct {
	definitions map[string]DefinitionEntry // by name in small letters
	sets        map[string]SetEntry
	aliases     map[string]string // names in Azure of what is built in
	broken      map[string]bool   // TYPE/name of what was added and does not compile
}

// BuiltIns returns a new library with what is built in. It panics where that does
// not compile, which the tests exclude.
func BuiltIns() Library {
	l := Library{aliases: map[string]string{
		azureSetImageIntegrity: SetImageIntegrity, azureDeployIntegrity: DeployImageIntegrity,
		azureDeployPolicyAddOn: DeployPolicyAddOn, azureVerifyImages: VerifyImages,
	}}
	for _, name := range []string{SetImageIntegrity, DeployImageIntegrity, DeployPolicyAddOn, VerifyImages} {
		data, err := builtInFiles.ReadFile("builtin/" + name + ".json")
		if err != nil {
			panic(err)
		}
		objects, err := Import("", data)
		if err == nil {
			err = l.add(true, objects)
		}
		if err != nil {
			panic(fmt.Sprintf("the built-in %s: %v", name, err))
		}
	}
	return l
}

// Add compiles objects and adds them, in place of what has the same name. They
// are found before what is built in. The error is the first object's that does
// not compile; the others are added nevertheless. What does not compile is not
// found afterwards, and nothing built in takes its place.
func (l *Library) Add(objects ...Object) error { return l.add(false, objects) }

func (l *Library) add(builtIn bool, objects []Object) error {
	if l.definitions == nil {
		l.definitions, l.sets, l.broken = map[string]DefinitionEntry{}, map[string]SetEntry{}, map[string]bool{}
	}
	var first error
	for _, o := range objects {
		var err error
		name, typ := strings.ToLower(o.Name()), definitionType
		if o.Set != nil {
			typ = setType
		}
		switch {
		case o.Definition != nil:
			var d *Definition
			if d, err = Compile(o.Definition.Spec); err == nil {
				l.definitions[name] = DefinitionEntry{*o.Definition.DeepCopy(), d, builtIn}
			}
		case o.Set != nil:
			var s *Set
			if s, err = CompileSet(o.Set.Spec); err == nil {
				l.sets[name] = SetEntry{*o.Set.DeepCopy(), s, builtIn}
			}
		}
		l.broken[typ+"/"+name] = err != nil
		if err != nil && first == nil {
			first = fmt.Errorf("%s: %w", o.describe(), err)
		}
	}
	return first
}

// Definition finds a definition by its name or its resource ID as Azure writes
// it, in any case. An ID finds what was imported with this ID, then what has its
// last part as its name and was not imported with another ID.
func (l Library) Definition(id string) (DefinitionEntry, bool) {
	return findEntry(l, l.definitions, id, definitionType, func(e DefinitionEntry) string { return e.Object.Annotations[AnnotationID] })
}

// Set finds an initiative, as Definition does a definition.
func (l Library) Set(id string) (SetEntry, bool) {
	return findEntry(l, l.sets, id, setType, func(e SetEntry) string { return e.Object.Annotations[AnnotationID] })
}

func findEntry[E any](l Library, entries map[string]E, id, typ string, azureID func(E) string) (E, bool) {
	var none E
	low := strings.ToLower(id)
	last := low
	if i := strings.LastIndexByte(low, '/'); i >= 0 {
		last = low[i+1:]
		// Another type with the same name must not be taken for this one.
		if kind, ok := resourceType(low[:i]); ok && kind != strings.ToLower(typ) {
			return none, false
		}
	}
	full := last != low
	if l.broken[typ+"/"+last] {
		return none, false
	}
	if full {
		for _, name := range slices.Sorted(maps.Keys(entries)) {
			if strings.EqualFold(azureID(entries[name]), id) {
				return entries[name], true
			}
		}
	}
	if e, ok := entries[last]; ok && (!full || azureID(e) == "") {
		return e, true
	}
	e, ok := entries[l.aliases[last]]
	return e, ok
}

// resourceType returns what stands after the last /providers/.
func resourceType(path string) (string, bool) {
	i := strings.LastIndex(path, "/providers/")
	if i < 0 {
		return "", false
	}
	return path[i+len("/providers/"):], true
}

// Nearest returns the name that somebody probably meant, "" where none is near.
func (l Library) Nearest(id string) string {
	names := slices.Concat(slices.Sorted(maps.Keys(l.definitions)), slices.Sorted(maps.Keys(l.sets)))
	return nearest.Word(strings.ToLower(id[strings.LastIndexByte(id, '/')+1:]), names)
}
