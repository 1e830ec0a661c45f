package oci_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// TestKeptTokensChangeNothing: whose credentials there are now decides what is read, and
// not those that there were when a token was fetched; a client that keeps tokens hears
// what one hears that has none.
func TestKeptTokensChangeNothing(t *testing.T) {
	t.Parallel()
	const seed = 9
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test's
	people := map[string]string{"ann": "a", "bob": "b", "eve": "e"}
	may := map[string]bool{"ann/team/one": true, "ann/team/both": true, "bob/team/two": true, "bob/team/both": true, "/team/open": true, "eve/team/open": true, "ann/team/open": true}
	i := newImage(t, testregistry.Options{Token: &testregistry.TokenOptions{Users: people, Anonymous: true,
		Allow: func(user, repo, action string) bool { return may[user+"/"+repo] }}}, 0)
	repos := []string{"team/one", "team/two", "team/both", "team/open"}
	refs := map[string]boltseal.Reference{}
	for _, repo := range repos {
		refs[repo] = pushed(i, repo)
	}
	var now oci.Credential
	credentials := current{&now}
	kept := newRegistry(t, oci.Options{Credentials: credentials})
	told := map[bool]int{}
	for step := range 120 {
		switch r.IntN(5) {
		case 0:
			now = oci.Credential{}
		case 1:
			now = oci.Credential{Username: "eve", Password: "wrong"}
		case 2, 3:
			name := []string{"ann", "bob", "eve"}[r.IntN(3)]
			now = oci.Credential{Username: name, Password: people[name]}
		}
		repo := repos[r.IntN(len(repos))]
		ask := func(reg *oci.Registry) string {
			d, err := reg.Resolve(testContext(t), refs[repo])
			return fmt.Sprint(d.Digest, err)
		}
		fresh := newRegistry(t, oci.Options{Credentials: credentials})
		want, got := ask(fresh), ask(kept)
		if got != want {
			t.Fatalf("seed %d, step %d, %s as %q: %s, and without tokens %s", seed, step, repo, now.Username, got, want)
		}
		told[may[now.Username+"/"+repo] && now.Password == people[now.Username]] = 1
	}
	if len(told) != 2 {
		t.Errorf("all are alike: %v", told)
	}
}

// current are the credentials that there are at the moment.
type current struct{ c *oci.Credential }

func (c current) Credential(context.Context, string, string) (oci.Credential, error) {
	return *c.c, nil
}
