package registries

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/oci"
)

// helper is a credential helper that is run as docker would, and whose answer changes.
type helper struct{ answer, log, config string }

func newHelper(t *testing.T, host string) *helper {
	t.Helper()
	dir := t.TempDir()
	h := &helper{answer: filepath.Join(dir, "answer"), log: filepath.Join(dir, "log"), config: filepath.Join(dir, "config.json")}
	must(t, os.WriteFile(filepath.Join(dir, "docker-credential-changing"), []byte("#!/bin/sh\ncat >/dev/null\necho >>"+h.log+"\ncat "+h.answer+"\n"), 0o700))
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	must(t, os.WriteFile(h.config, fmt.Appendf(nil, `{"credHelpers":{%q:"changing"}}`, host), 0o600))
	h.set(t, password)
	return h
}

func (h *helper) set(t *testing.T, password string) {
	t.Helper()
	b, err := json.Marshal(map[string]string{"Username": user, "Secret": password})
	must(t, err)
	must(t, os.WriteFile(h.answer, b, 0o600))
}

// runs is how often it was asked.
func (h *helper) runs(t *testing.T) int {
	t.Helper()
	b, err := os.ReadFile(h.log)
	must(t, err)
	return strings.Count(string(b), "\n")
}

// A password that is changed at the registry and in the helper is taken up at once,
// although the helper's old answer would be kept for a minute; a registry that does
// not know the helper's password does not have the helper run each time.
func TestPasswordRotation(t *testing.T) {
	house := testhouse.New(t, testhouse.Options{})
	const next = "another horse"
	for name, start := range map[string]func(*testing.T) (*place, func(string)){
		"basic": func(t *testing.T) (*place, func(string)) {
			auth := basicAuth(t)
			return serve(t, distribution(t, auth), nil), func(p string) { setPassword(t, auth["htpasswd"]["path"].(string), p) }
		},
		"token": func(t *testing.T) (*place, func(string)) {
			ts := startTokenServer(t)
			return serve(t, distribution(t, ts.auth("")), ts), func(p string) { ts.password.Store(&p) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, rotate := start(t)
			p.pusher(t).image(t, "signed", house.Signer)
			h := newHelper(t, p.host)
			source := credential.NewDocker(credential.DockerOptions{Path: h.config})
			// A new store has no token yet, and so has to show the password.
			verify := func(want boltseal.Decision, cause boltseal.Cause, runs int) {
				t.Helper()
				store, err := oci.NewRegistry(oci.Options{Hosts: map[string]oci.HostOptions{p.host: {RootCAs: p.roots}}, Credentials: source, Limits: oci.Limits{Attempts: 1}})
				must(t, err)
				defer store.Close()
				e := house.EngineOf(t, testhouse.Options{Engine: boltseal.Options{Stores: []boltseal.ScopedStore{{Name: "registry", Store: store}}}})
				for range 2 { // nothing is remembered of what failed
					r, err := e.Verify(t.Context(), p.host+"/"+repository+":signed")
					must(t, err)
					if r.Decision != want || cause != "" && r.Reason.Cause != cause {
						t.Errorf("%v because of %+v, want %v", r.Decision, r.Reason, want)
					}
					if text := r.Reason.Message + r.Reason.Remedy; strings.Contains(text, password) || strings.Contains(text, next) {
						t.Errorf("the password stands in %q", text)
					}
				}
				if got := h.runs(t); got != runs {
					t.Errorf("the helper was run %d times, want %d", got, runs)
				}
			}
			verify(boltseal.Allow, "", 1)
			rotate(next)
			verify(boltseal.Unknown, boltseal.CauseUnauthorized, 2) // asked again, and knows no other
			h.set(t, next)
			verify(boltseal.Allow, "", 3)
			verify(boltseal.Allow, "", 3)
		})
	}
}
