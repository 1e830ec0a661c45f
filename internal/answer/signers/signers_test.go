package signers_test

import (
	"reflect"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/answer/signers"
)

func TestOf(t *testing.T) {
	t.Parallel()
	ev := func(o boltseal.Outcome, fingerprint, subject string, chain ...string) boltseal.Evidence {
		return boltseal.Evidence{Outcome: o, Signer: &boltseal.Signer{Fingerprint: fingerprint, Subject: subject, Chain: chain}}
	}
	a, b := ev(boltseal.Verified, "sha256:a", "CN=a,O=x", "CN=int", "CN=root"), ev(boltseal.Verified, "sha256:b", "CN=b\x00\x01")
	bad := ev(boltseal.Rejected, "sha256:c", "CN=c")
	of := func(d boltseal.Decision, evs ...boltseal.Evidence) signers.Set {
		r := boltseal.Result{Decision: d}
		r.Evidence = append(evs, boltseal.Evidence{Outcome: boltseal.Rejected}) // one whose certificate could not be read
		return signers.Of(&r)
	}
	trusted := of(boltseal.Allow, b, bad, a, a)
	if got, want := trusted.All(), []signers.Signer{{"sha256:a", "CN=a,O=x", []string{"CN=int", "CN=root"}}, {"sha256:b", "CN=b", []string{}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got)
	}
	if trusted != of(boltseal.Allow, a, b) || trusted == of(boltseal.Allow, a) || trusted.Subjects() != "CN=a,O=x and CN=b" {
		t.Errorf("%q", trusted.Subjects())
	}
	if s := of(boltseal.Deny, bad); s.Empty() || s.Subjects() != "CN=c" {
		t.Errorf("%q", s.Subjects())
	}
	if s := of(boltseal.Allow, bad); !s.Empty() || s.All() != nil || s.Subjects() != "" || s != (signers.Set{}) {
		t.Errorf("%+v", s.All())
	}
	// What is below an index counts too.
	r := boltseal.Result{Decision: boltseal.Allow}
	r.Index = &boltseal.IndexFindings{Manifests: []boltseal.PlatformResult{{Result: boltseal.Result{Findings: boltseal.Findings{Evidence: []boltseal.Evidence{a}}}}}}
	if signers.Of(&r) != of(boltseal.Allow, a) {
		t.Error("manifests of an index are left out")
	}
}
