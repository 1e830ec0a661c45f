package credential_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/oci"
)

// answers is a source of one answer, which counts.
type answers struct {
	c             oci.Credential
	err           error
	asked, forgot int
}

func (a *answers) Credential(context.Context, string, string) (oci.Credential, error) {
	a.asked++
	return a.c, a.err
}

func (a *answers) Invalidate(_, _ string, c oci.Credential) {
	if a.c.Same(c) {
		a.forgot++
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	passes := func() *answers {
		return &answers{err: fmt.Errorf("%w: this registry", credential.ErrNotForHost)}
	}
	none := func() *answers { return &answers{} }
	has := func(name string) *answers { return &answers{c: oci.Credential{Username: name}} }
	fails := func() *answers { return &answers{err: errors.New("it burnt")} }
	for name, c := range map[string]struct {
		sources []*answers
		user    string
		err     string
		asked   []int
	}{
		"nobody":                  {},
		"the first":               {sources: []*answers{has("a"), has("b")}, user: "a", asked: []int{1, 0}},
		"not for the host":        {sources: []*answers{passes(), has("b")}, user: "b", asked: []int{1, 1}},
		"none":                    {sources: []*answers{none(), has("b")}, user: "b", asked: []int{1, 1}},
		"all pass on":             {sources: []*answers{none(), passes()}, asked: []int{1, 1}},
		"a failure is not passed": {sources: []*answers{passes(), fails(), has("c")}, err: "authProviders[1]: it burnt", asked: []int{1, 1, 0}},
	} {
		var named []credential.Named
		for i, s := range c.sources {
			named = append(named, credential.Named{Name: "x", Place: fmt.Sprintf("authProviders[%d]", i), Source: s})
		}
		named = append(named, credential.Named{Name: "nil"})
		l := credential.NewList(named...)
		got, err := l.Credential(t.Context(), "r.example", "app")
		if got.Username != c.user || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		for i, s := range c.sources {
			if s.asked != c.asked[i] {
				t.Errorf("%s: source %d was asked %d times", name, i, s.asked)
			}
		}
		if c.user == "" {
			continue
		}
		l.Invalidate("r.example", "app", got)
		for i, s := range c.sources {
			if want := s.c.Username == c.user; want != (s.forgot == 1) {
				t.Errorf("%s: source %d forgot %d times", name, i, s.forgot)
			}
		}
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	var p credential.Pool
	built := 0
	get := func(key string) oci.CredentialSource {
		t.Helper()
		s, err := p.Get(key, func() (oci.CredentialSource, error) {
			built++
			return &answers{c: oci.Credential{Username: key}}, nil
		})
		if err != nil || s == nil {
			t.Fatal(s, err)
		}
		return s
	}
	a, again, b := get("a"), get("a"), get("b")
	if a != again || a == b || built != 2 {
		t.Errorf("%d were made", built)
	}
	if c, err := a.Credential(t.Context(), "h", "r"); err != nil || c.Username != "a" {
		t.Errorf("%+v, %v", c, err)
	}
	a.(oci.Invalidator).Invalidate("h", "r", oci.Credential{Username: "a"}) // goes through
	runtime.KeepAlive(a)
	runtime.KeepAlive(again)
	// What nobody holds is made anew.
	for range 3 {
		runtime.GC()
	}
	if get("a"); built != 3 {
		t.Errorf("%d were made", built)
	}
	if s, err := p.Get("nil", func() (oci.CredentialSource, error) { return nil, nil }); s != nil || err != nil {
		t.Error(s, err)
	}
	if s, err := p.Get("bad", func() (oci.CredentialSource, error) { return nil, errors.New("bad") }); s != nil || err == nil || !strings.Contains(err.Error(), "bad") {
		t.Error(s, err)
	}
}
