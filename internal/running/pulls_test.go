package running

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestPodsByTheirOwnSecrets: Pods that are alike but for how their images are pulled
// are judged apart where that matters, and together where it does not.
func TestPodsByTheirOwnSecrets(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	tag, digest := s.Signed("v", s.Signer)
	other := s.EngineOf(t, testhouse.Options{Engine: boltseal.Options{Verifiers: []boltseal.Verifier{s.VerifierFor(t, s.Stranger, "notation", "")}}})
	add := func(namespace, name, account string, secrets ...string) {
		p := podOf(namespace, name, tag, digest)
		p.Spec.ServiceAccountName = account
		for _, n := range secrets {
			p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: n})
		}
		s.pods.AddPod(p)
	}
	add("shop", "a", "x", "pull", "more")
	add("shop", "b", "x", "pull", "more")
	add("shop", "c", "x", "wrong")
	add("shop", "d", "x")
	add("bank", "e", "x", "pull", "more")
	if r := s.look(); r.Pods != (Counts{Trusted: 5}) || len(r.Findings) != 2 {
		t.Errorf("nobody asks: %+v", r)
	}
	asked := map[string]int{}
	s.configure(engines{cluster: s.Engine, pods: func(namespace, secrets, account string) *boltseal.Engine {
		asked[namespace+":"+account+":"+secrets]++
		switch secrets {
		case "pull+more":
			return s.Engine
		case "":
			return nil
		}
		return other
	}})
	r := s.look()
	if r.Pods.Trusted != 3 || r.Pods.NotTrusted != 2 {
		t.Errorf("%+v", r)
	}
	for _, who := range []string{"shop:x:pull+more", "shop:x:wrong", "shop:x:", "bank:x:pull+more"} {
		if asked[who] != 1 {
			t.Errorf("%s was asked for %d times", who, asked[who])
		}
	}
}
