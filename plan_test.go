package boltseal_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/policy"
)

// relisted is a store whose lists say what a registry may say of its referrers.
type relisted struct {
	boltseal.Store
	change func([]ocispec.Descriptor) []ocispec.Descriptor
}

func (s relisted) Referrers(ctx context.Context, ref boltseal.Reference, d digest.Digest, _ []string) (boltseal.Listing, error) {
	l, err := s.Store.Referrers(ctx, ref, d, nil)
	l.Referrers = s.change(l.Referrers)
	return l, err
}

func untype(ds []ocispec.Descriptor) []ocispec.Descriptor {
	for i := range ds {
		ds[i].ArtifactType = ""
	}
	return ds
}

// TestReferrersWithoutAType: they are looked at after those with one, up to a limit,
// and only their manifests say whether they are signatures.
func TestReferrersWithoutAType(t *testing.T) {
	t.Parallel()
	for _, rule := range []policy.Rule{policy.Any, policy.All} {
		h := newHouse(t, houseOptions{Rule: rule, Engine: boltseal.Options{Limits: boltseal.Limits{MaxUntyped: 5}}})
		listed := func(change func([]ocispec.Descriptor) []ocispec.Descriptor) *boltseal.Engine {
			return h.Engine.WithStores(func(s boltseal.Store) boltseal.Store { return relisted{s, change} })
		}
		push := func(tag string, others int, chains ...*testca.Chain) string {
			d := h.Registry.PushImage(repo, tag, 0)
			for i := range others {
				h.Registry.PushReferrer(repo, d, "application/spdx+json", []byte(fmt.Sprint(tag, i)))
			}
			for _, c := range chains {
				h.Registry.Sign(repo, d, c, testca.SignOptions{})
			}
			return h.Registry.Ref(repo, tag)
		}
		for name, c := range map[string]struct {
			image string
			want  map[policy.Rule]boltseal.Decision
			cause map[policy.Rule]boltseal.Cause
		}{
			"signed":                {push("signed", 2, h.Signer), map[policy.Rule]boltseal.Decision{policy.Any: boltseal.Allow, policy.All: boltseal.Allow}, nil},
			"nothing but others":    {push("others", 3), nil, map[policy.Rule]boltseal.Cause{policy.Any: boltseal.CauseNothingSigned, policy.All: boltseal.CauseNothingSigned}},
			"by a stranger":         {push("foreign", 1, h.Stranger), nil, map[policy.Rule]boltseal.Cause{policy.Any: boltseal.CauseUntrustedSigner, policy.All: boltseal.CauseUntrustedSigner}},
			"by a stranger as well": {push("both", 1, h.Stranger, h.Signer), map[policy.Rule]boltseal.Decision{policy.Any: boltseal.Allow}, map[policy.Rule]boltseal.Cause{policy.All: boltseal.CauseUntrustedSigner}},
			"beyond the limit":      {push("late", 5, h.Signer), nil, map[policy.Rule]boltseal.Cause{policy.Any: boltseal.CauseLimit, policy.All: boltseal.CauseLimit}},
		} {
			r, err := listed(untype).Verify(t.Context(), c.image)
			if err != nil {
				t.Fatal(err)
			}
			if r.Decision != c.want[rule] || r.Decision != boltseal.Allow && r.Reason.Cause != c.cause[rule] {
				t.Errorf("%s, %s: %s (%s: %s)", name, rule, r.Decision, r.Reason.Cause, r.Reason.Message)
			}
			for _, ev := range r.Evidence {
				if ev.ArtifactType != "application/vnd.cncf.notary.signature" || ev.Reason.Cause == boltseal.CauseIncomplete {
					t.Errorf("%s, %s: %+v", name, rule, ev)
				}
			}
		}
	}
}

// TestTypesOfAListAreHints: what is listed as a signature and is none is passed over,
// and under all it denies nothing.
func TestTypesOfAListAreHints(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{Rule: policy.All})
	image := h.Registry.PushImage(repo, "v", 0)
	h.Registry.PushReferrer(repo, image, "application/spdx+json", []byte("x"))
	h.Registry.Sign(repo, image, h.Signer, testca.SignOptions{})
	e := h.Engine.WithStores(func(s boltseal.Store) boltseal.Store {
		return relisted{s, func(ds []ocispec.Descriptor) []ocispec.Descriptor {
			for i := range ds {
				ds[i].ArtifactType, ds[i].MediaType, ds[i].Size = "application/vnd.cncf.notary.signature", "a/b", 5<<20
			}
			return ds
		}}
	})
	r, err := e.Verify(t.Context(), h.Registry.Ref(repo, "v"))
	if err != nil || r.Decision != boltseal.Allow || len(r.Evidence) != 1 || len(r.PassedOver) != 1 || r.PassedOver[0].ArtifactType != "application/spdx+json" {
		t.Errorf("%s %+v, %+v, %+v, %v", r.Decision, r.Reason, r.Evidence, r.PassedOver, err)
	}
}

// TestSizesOfStrangers: a signature that states another size of the image than it has
// costs the image's bytes a few times at most, and proves nothing.
func TestSizesOfStrangers(t *testing.T) {
	t.Parallel()
	h := newHouse(t, houseOptions{})
	image := h.Registry.PushImage(repo, "v", 0)
	for i := range 10 {
		other := image
		other.Size += int64(i) + 1
		h.Registry.Sign(repo, other, h.Signer, testca.SignOptions{})
	}
	r := h.Verify(t, h.Registry.Ref(repo, "v"))
	expect(t, r, boltseal.Deny, boltseal.CauseOtherImage)
	reads := 0
	for _, q := range h.Registry.Requests(testregistry.Manifest) {
		if q.Method == http.MethodGet && strings.HasSuffix(q.Path, image.Digest.String()) {
			reads++
		}
	}
	if reads == 0 || reads > 3 || r.Subject.Size != image.Size {
		t.Errorf("the image was read %d times, and is %+v", reads, r.Subject)
	}
}
