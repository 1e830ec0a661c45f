package service_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// trap is a store that panics for one image: in Blob, which the verifier calls,
// that is a panic inside the verifier.
type trap struct {
	boltseal.Store
	where, image atomic.Pointer[string]
}

func (s *trap) arm(where, image string) {
	s.where.Store(&where)
	s.image.Store(&image)
}

func (s *trap) snap(where string, ref boltseal.Reference) {
	if w, i := s.where.Load(), s.image.Load(); w != nil && *w == where && strings.HasSuffix(*i, ref.Digest.String()) {
		panic("the trap in " + where + " has snapped")
	}
}

func (s *trap) Resolve(ctx context.Context, ref boltseal.Reference) (ocispec.Descriptor, error) {
	s.snap("Resolve", ref)
	return s.Store.Resolve(ctx, ref)
}

func (s *trap) Manifest(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	s.snap("Manifest", ref)
	return s.Store.Manifest(ctx, ref, d)
}

func (s *trap) Blob(ctx context.Context, ref boltseal.Reference, d ocispec.Descriptor) ([]byte, error) {
	s.snap("Blob", ref)
	return s.Store.Blob(ctx, ref, d)
}

// TestPanics: a panic, wherever it happens, costs the image that it happened for.
func TestPanics(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"Resolve", "Manifest", "Blob"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			log, store := &lockedBuffer{}, &trap{}
			r := start(t, testhouse.Options{}, service.Options{Memo: shortLived, Log: slog.New(slog.NewTextHandler(log, nil)), Deps: compile.Deps{Layout: store}}, policy("prod", ""))
			store.Store = r.Store
			_, bad := r.Signed("bad", r.Signer)
			_, good := r.Signed("good", r.Signer)
			store.arm(where, bad)
			items := r.gatekeeper(server.PathVerify, good, bad, good)
			if !items[0].trusted() || items[1].trusted() || !items[2].trusted() {
				t.Errorf("%+v", items)
			}
			if text := string(items[1].Value) + items[1].Error; !strings.Contains(text, "fault in Boltseal") {
				t.Errorf("the answer: %s", text)
			}
			a := r.validate("team", good, bad)
			if a.Allowed || !strings.Contains(a.Result.Message, `container "c1"`) || strings.Contains(a.Result.Message, `container "c0"`) {
				t.Errorf("%+v", a)
			}
			if !r.validate("team", good).Allowed {
				t.Error("the neighbour is denied")
			}
			if n := r.metric("boltseal_panics_total"); n == "" || n == "0" {
				t.Errorf("counted: %q", n)
			}
			for _, part := range []string{"the trap in " + where + " has snapped", "panic_test.go", "level=ERROR"} {
				if !strings.Contains(log.String(), part) {
					t.Errorf("the log does not say %q:\n%s", part, log.String())
				}
			}
			store.arm("", bad)
			eventually(t, "trusted without the fault", func() bool { return r.validate("team", bad).Allowed })
		})
	}
}

// TestPanicOfARequest: what panics outside of a verification costs its request,
// which is denied.
func TestPanicOfARequest(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	log := &lockedBuffer{}
	r := start(t, testhouse.Options{}, service.Options{Memo: memo.Options{}, Log: slog.New(slog.NewTextHandler(log, nil)),
		Server: server.Options{NamespaceLabels: func(string) map[string]string {
			if armed.Load() {
				panic("no labels today")
			}
			return nil
		}}}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	armed.Store(true)
	if a := r.review(server.PathValidate, pod("team", tag)); a.Allowed || !strings.Contains(a.Result.Message, "a fault in Boltseal; its log says more") {
		t.Errorf("%+v %+v", a, a.Result)
	}
	if n := r.metric(`boltseal_requests_total{code="500",endpoint="admission-validate"}`); n != "1" {
		t.Errorf("counted %s times", n)
	}
	if !r.gatekeeper(server.PathVerify, tag)[0].trusted() {
		t.Error("the other endpoint does not answer any more")
	}
	armed.Store(false)
	if !r.validate("team", tag).Allowed {
		t.Error("the process does not answer any more")
	}
	if r.metric("boltseal_panics_total") != "1" || !strings.Contains(log.String(), "no labels today") {
		t.Errorf("counted %s, logged %s", r.metric("boltseal_panics_total"), log.String())
	}
}

type noCredentials struct{}

func (noCredentials) Credential(context.Context, string, string) (oci.Credential, error) {
	panic("no credentials today")
}

// TestPanicForAToken happens in a goroutine that all waiting images share.
func TestPanicForAToken(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{Registry: testregistry.Options{Token: &testregistry.TokenOptions{Anonymous: true}}},
		service.Options{Memo: shortLived, Deps: compile.Deps{DockerConfig: func(string) oci.CredentialSource { return noCredentials{} }}}, policy("prod", ""))
	tag, pinned := r.Signed("v", r.Signer)
	if a := r.validate("team", tag); a.Allowed || !strings.Contains(a.Result.Message, "panic: no credentials today") {
		t.Errorf("%+v", a.Result)
	}
	if a := r.validate("team", pinned); a.Allowed {
		t.Error("allowed")
	}
	if status, _ := r.ready(); status != 200 {
		t.Errorf("ready: HTTP %d", status)
	}
}
