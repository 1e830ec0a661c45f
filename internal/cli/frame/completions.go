package frame

import "maps"

// KindNamespace is the one kind of [Completed] that is not of policy.boltseal.dev.
const KindNamespace = "Namespace"

// Completed says what a shell offers for a flag, or an argument.
type Completed struct {
	Values []string // the words themselves
	Kinds  []string // and the names of the cluster's objects of kinds, of policy.boltseal.dev or [KindNamespace]
}

// NamesOfKind completes by the names of objects.
func NamesOfKind(kind string) Completed { return Completed{Kinds: []string{kind}} }

// Completions are what a family of commands knows of the values that its flags take. Commands are named by their path below
// the root, such as "policy assignment".
type Completions struct {
	Flags    map[string]Completed            // flags that mean the same in all commands, by their names
	Commands map[string]map[string]Completed // flags of a command, or of all below it
	Names    map[string]Completed            // --name, and the argument, of the verbs of a noun that take one that exists
}

// Join returns the completions of several families. No two families know the same.
func (c Completions) Join(others ...Completions) Completions {
	out := Completions{Flags: map[string]Completed{}, Commands: map[string]map[string]Completed{}, Names: map[string]Completed{}}
	for _, o := range append(others, c) {
		maps.Copy(out.Flags, o.Flags)
		maps.Copy(out.Commands, o.Commands)
		maps.Copy(out.Names, o.Names)
	}
	return out
}
