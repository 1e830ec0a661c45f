package compile_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
)

// TestCacheChangesNothingOfWhatIsFetched: after any rotation at any source, what is
// compiled with knowledge of the past is what is compiled without, and what the
// statuses show is what the engines trust.
func TestCacheChangesNothingOfWhatIsFetched(t *testing.T) {
	t.Parallel()
	steps := 8 // of each provider
	if testing.Short() {
		steps = 4
	}
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			s, r := newSources(t), rand.New(rand.NewPCG(seed, 2))
			k := newKube(t)
			k.deps.Keys = func(w keys.Want) keys.State { return s.refresher.State(s.want(w)) }
			for _, name := range s.names {
				for slot := range slots {
					s.set[name](slot, s.chains[(slot+len(name))%signers])
				}
				k.apply(s.docs[name])
			}
			inline := make([]*testca.Chain, slots)
			for i := range inline {
				inline[i] = s.chains[i]
			}
			bundle := func() (out []byte) {
				for _, c := range inline {
					out = append(out, pemOf(c)...)
				}
				return out
			}
			k.apply(kmp("inline", bundle()) + store("s", "scopes: ['127.0.0.1', "+s.reg.Host+"]") + store("other", "scopes: [other.example]") + store("team/s", ""))
			names := append(slices.Clone(s.names), "inline")
			used := map[string]string{} // provider that each namespace trusts
			use := func(ns, name string) {
				used[ns] = name
				v := "v"
				if ns != "" {
					v = ns + "/v"
				}
				k.apply(verifier(v, name))
			}
			for i := range steps * len(names) {
				if i%steps == 0 { // each in its turn; a namespace trusts another one
					use("", names[i/steps])
					use("team", names[(i/steps+1)%len(names)])
				}
				for _, ns := range []string{"", "team"} {
					name := used[ns]
					c, slot := s.chains[r.IntN(signers)], r.IntN(slots)
					if r.IntN(4) == 0 {
						c = nil
					}
					if name != "inline" {
						s.set[name](slot, c)
						continue
					}
					if inline[slot] = c; len(bundle()) == 0 {
						inline[slot] = s.chains[0]
					}
					k.apply(kmp("inline", bundle()))
				}
				s.ask(compile.NewCluster(k.o, entriesOf(k)).Wants())
				fresh, want := k.fresh()
				c, got := k.compile()
				if tell(want) != tell(got) {
					t.Fatalf("step %d: with the past\n%s\nwithout\n%s", i, tell(got), tell(want))
				}
				for _, ns := range []string{"", "team"} {
					s.agree(i, ns, used[ns], got, c, fresh)
				}
			}
		})
	}
}

// TestRotationOfAnyCertificate: the first, the middle or the last certificate of a
// provider is another one, alone or while one before it cannot be read: its signer is
// trusted at once, and the one before it no more.
func TestRotationOfAnyCertificate(t *testing.T) {
	t.Parallel()
	s := newSources(t)
	k := newKube(t)
	k.deps.Keys = func(w keys.Want) keys.State { return s.refresher.State(s.want(w)) }
	k.apply(store("s", ""))
	for _, name := range s.names {
		for slot := range slots {
			s.set[name](slot, s.chains[slot])
		}
		k.apply(s.docs[name])
	}
	compiled := func() (*compile.Compiled, map[compile.Key]*compile.Standing) {
		s.ask(compile.NewCluster(k.o, entriesOf(k)).Wants())
		return k.compile()
	}
	for _, name := range s.names {
		k.apply(verifier("v", name))
		if c, standing := compiled(); !s.allows(c, slots-1) {
			t.Fatalf("%s: what it has is not trusted\n%s", name, tell(standing))
		}
		for slot := range slots {
			next := slots + slot%(signers-slots)
			if slot > 0 && name == "file" {
				s.set[name](0, nil) // for the moment
			}
			s.set[name](slot, s.chains[next])
			if c, standing := compiled(); !s.allows(c, next) || name != "akv-versions" && s.allows(c, slot) {
				t.Errorf("%s: the rotation of certificate %d is not in force\n%s", name, slot, tell(standing))
			}
			if name == "akv-versions" {
				s.set[name](slot, nil) // disabled: the one before it counts again
				if c, standing := compiled(); s.allows(c, next) {
					t.Errorf("%s: version %d is disabled and trusted\n%s", name, slot, tell(standing))
				}
				continue
			}
			s.set[name](slot, s.chains[slot])
			compiled()
		}
	}
}

// allows reports whether the cluster's engine admits what a signer signed.
func (s *sources) allows(c *compile.Compiled, signer int) bool {
	s.t.Helper()
	r, err := c.EngineFor("").Verify(s.t.Context(), s.reg.Ref(repo, fmt.Sprint("by", signer)))
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Decision == boltseal.Allow
}

func entriesOf(k *kube) (out []compile.Entry) {
	for _, e := range k.entries {
		out = append(out, e)
	}
	return out
}

// agree holds a namespace's engine against one without a past, and against what the
// status of the one provider that it trusts shows.
func (s *sources) agree(step int, ns, provider string, standing map[compile.Key]*compile.Standing, c, fresh *compile.Compiled) {
	s.t.Helper()
	shown, older := map[string]bool{}, false
	for key, st := range standing {
		if strings.HasSuffix(key.Kind, "Verifier") && key.Namespace == ns {
			older = st.Serving == compile.ServingLastGood // it trusts the provider that it named before
		}
		if strings.TrimPrefix(key.Namespace+"/"+key.Name, "/") != provider {
			continue
		}
		for _, cert := range st.Certificates {
			shown[string(cert.Raw)] = true
		}
	}
	for i, chain := range s.chains {
		ref := s.reg.Ref(repo, fmt.Sprint("by", i))
		x, err := c.EngineFor(ns).Verify(s.t.Context(), ref)
		if err != nil {
			s.t.Fatal(err)
		}
		y, err := fresh.EngineFor(ns).Verify(s.t.Context(), ref)
		if err != nil {
			s.t.Fatal(err)
		}
		trusted := shown[string(chain.Root().Raw)]
		if x.Decision != y.Decision || !older && (x.Decision == boltseal.Allow) != trusted {
			s.t.Fatalf("step %d: namespace %q, provider %s: image %d: %v, without the past %v; the status shows its certificate: %t\n%s", step, ns, provider, i, x.Decision, y.Decision, trusted, tell(standing))
		}
	}
}
