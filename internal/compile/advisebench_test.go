package compile_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/internal/compile"
)

// BenchmarkAdvise is one change in a cluster of as many resources as are looked at.
func BenchmarkAdvise(b *testing.B) {
	pem := chain(b).Root().PEM()
	k := newKube(b)
	k.apply(store("store", "") + kmp("roots", pem) + verifier("verifier", "roots"))
	for i := 0; len(k.entries) < compile.MaxAdvised-5; i++ {
		ns := fmt.Sprintf("team-%d/", i)
		k.apply(store(ns+"store", "") + kmp(ns+"own", pem) + verifier(ns+"verifier", "own", "roots") + ownImagePolicy(ns+"own", ""))
	}
	entries := slices.Collect(maps.Values(k.entries))
	for name, c := range map[string]struct {
		text    string
		deleted bool
	}{
		"a Verifier whose provider is not there": {verifier("v", "rots"), false}, "a Store": {store("other", "scopes: [a.example]"), false},
		"a provider that all name goes": {kmp("roots", pem), true}, "a policy": {imagePolicy("p", ""), false},
	} {
		text, err := yaml.YAMLToJSON([]byte(strings.TrimPrefix(c.text, "---\n")))
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("%s/resources=%d", strings.ReplaceAll(name, " ", "-"), len(entries)), func(b *testing.B) {
			for b.Loop() {
				compile.Advise(k.o, entries, compile.Change{Next: compile.DecodeObject(text), Deleted: c.deleted, Proven: true}, k.deps)
			}
		})
	}
}
