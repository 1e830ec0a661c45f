package controller

import (
	"net/http"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

const ratifysGroup, ownGroup = "config.ratify.deislabs.io", "boltseal.dev"

func imagePolicy(t testing.TB, name string) *unstructured.Unstructured {
	return parse(t, "apiVersion: boltseal.dev/v1alpha1\nkind: ImageIntegrityPolicy\nmetadata: {name: "+name+"}\nspec: {enforcementAction: deny}\n")
}

// looked waits until the API server was asked for a version's kinds so many times
// more.
func (s *apiServer) looked(t testing.TB, group string, times int) {
	t.Helper()
	before, path := s.asked(group), "/apis/"+group
	eventually(t, "asked again at "+path, func() bool { return s.asked(group) >= before+times })
}

// TestNotReadyWithoutItsOwnKinds: where a kind of Boltseal's own is not known nobody
// knows whether there are policies, so nothing is in force; Ratify's may be absent.
func TestNotReadyWithoutItsOwnKinds(t *testing.T) {
	t.Parallel()
	for name, unknown := range map[string][]string{
		"none of its own":    {ownGroup},
		"one of its own":     {"ImageIntegrityPolicy"},
		"another of its own": {"NamespacedImageIntegrityPolicy"},
		"none at all":        {ownGroup, ratifysGroup},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPIServer(t)
			for _, u := range unknown {
				s.unknown[u] = true
			}
			s.apply(document(t, "Store", "", "s", "name: oras"))
			s.apply(imagePolicy(t, "prod"))
			r := start(t, s, "one")
			eventually(t, "it says which kind is not known", func() bool {
				ok, text := r.Ready()
				return !ok && strings.Contains(text, "ImageIntegrityPolicy (the cluster does not know this kind: boltseal crds prints its definition)")
			})
			s.looked(t, ownGroup, 2)
			if ok, _ := r.Ready(); ok || r.times() != 0 {
				t.Error("something is in force")
			}
			if !strings.Contains(r.log.String(), "boltseal crds") {
				t.Errorf("nobody is told what to do:\n%s", r.log)
			}
			s.change(func() { clear(s.unknown) })
			r.becomes("Store", "", "s", "Current")
			r.becomes("ImageIntegrityPolicy", "", "prod", "Current")
			if ok, text := r.Ready(); !ok {
				t.Error(text)
			}
		})
	}
}

// TestRatifysKindsMayBeAbsent: who needs none of them does not install them.
func TestRatifysKindsMayBeAbsent(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.unknown[ratifysGroup] = true
	s.apply(imagePolicy(t, "prod"))
	r := start(t, s, "one")
	r.becomes("ImageIntegrityPolicy", "", "prod", "Current")
	if ok, text := r.Ready(); !ok {
		t.Error(text)
	}
	s.apply(document(t, "Store", "", "s", "name: oras"))
	s.change(func() { clear(s.unknown) })
	r.becomes("Store", "", "s", "Current")
}

// TestAKindThatMayNotBeRead: a right that is missing is no absence.
func TestAKindThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	for _, resource := range []string{"imageintegritypolicies", "namespacedverifiers", "namespaces"} {
		s := newAPIServer(t)
		s.refuse = func(r *http.Request) int {
			if strings.HasSuffix(r.URL.Path, "/"+resource) {
				return http.StatusForbidden
			}
			return 0
		}
		r := start(t, s, "one")
		eventually(t, "it says what cannot be read", func() bool {
			ok, text := r.Ready()
			return !ok && strings.Contains(text, "not all of them have been read") && strings.Contains(text, "the last problem:") && !strings.Contains(text, "Store (")
		})
		if r.times() != 0 {
			t.Error("something is in force without " + resource)
		}
	}
}

// TestAKindThatVanishes: who deletes a definition deletes its resources by the way,
// and what they demanded stays in force until the kind is there again.
func TestAKindThatVanishes(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"ImageIntegrityPolicy", "NamespacedVerifier"} {
		for _, again := range []bool{false, true} {
			t.Run(kind, func(t *testing.T) {
				t.Parallel()
				s := newAPIServer(t)
				group, ns := ownGroup, ""
				one, other := imagePolicy(t, "one"), imagePolicy(t, "other")
				if kind != "ImageIntegrityPolicy" {
					group, ns = ratifysGroup, "team"
					one, other = verifier(t, ns, "one", "roots"), verifier(t, ns, "other", "roots")
				}
				s.apply(roots(t, "roots", pem(t)))
				s.apply(one)
				r := start(t, s, "one")
				eventually(t, "it is active", func() bool { return r.standing(kind, ns, "one") != "" })
				was := r.standing(kind, ns, "one")
				s.change(func() { s.ending[kind] = true })
				s.remove(one)
				eventually(t, "it is told", func() bool { return r.Vanished() != nil && strings.Contains(r.Vanished().Error(), kind) })
				s.looked(t, group, 2)
				s.change(func() { s.unknown[kind] = true })
				s.apply(document(t, "Store", "", "s", "name: oras")) // other edits go on
				r.becomes("Store", "", "s", "Current")
				s.looked(t, group, 2)
				if r.standing(kind, ns, "one") != was || r.Vanished() == nil {
					t.Error("what was known became none")
				}
				if !strings.Contains(r.log.String(), "does not know a kind any more") {
					t.Errorf("the log says nothing:\n%s", r.log)
				}
				s.change(func() {
					clear(s.ending)
					clear(s.unknown)
				})
				if again {
					s.apply(other)
					eventually(t, "the other is in force", func() bool { return r.standing(kind, ns, "other") == was })
				}
				r.becomes(kind, ns, "one", "")
				eventually(t, "all is well", func() bool { return r.Vanished() == nil })
			})
		}
	}
}

// TestAKindThatVanishesUnseen: a watch that finds its kind gone has told of no
// deletion, and says so all the same.
func TestAKindThatVanishesUnseen(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.apply(imagePolicy(t, "prod"))
	r := start(t, s, "one")
	r.becomes("ImageIntegrityPolicy", "", "prod", "Current")
	s.change(func() { s.unknown["ImageIntegrityPolicy"] = true })
	s.CloseClientConnections()
	eventually(t, "it is told", func() bool { return r.Vanished() != nil })
	if r.standing("ImageIntegrityPolicy", "", "prod") != "Current" {
		t.Error("what was known became none")
	}
}

// TestWhatIsDeletedIsDeleted: one of several, and the last of a kind.
func TestWhatIsDeletedIsDeleted(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	one, other := imagePolicy(t, "one"), imagePolicy(t, "other")
	s.apply(one)
	s.apply(other)
	r := start(t, s, "one")
	r.becomes("ImageIntegrityPolicy", "", "other", "Current")
	s.remove(one)
	r.becomes("ImageIntegrityPolicy", "", "one", "")
	s.remove(other)
	r.becomes("ImageIntegrityPolicy", "", "other", "")
	s.apply(other) // what is made again is there again
	r.becomes("ImageIntegrityPolicy", "", "other", "Current")
	if err := r.Vanished(); err != nil {
		t.Error(err)
	}
}
