package service_test

import (
	"encoding/json"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/answer/snapshot"
	"github.com/boltseal/boltseal/internal/compile"
	runs "github.com/boltseal/boltseal/internal/running"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/oci"
)

// TestMultiArchAgree: Gatekeeper's provider, the webhook, the audit of what runs and
// `boltseal verify` come to the same about images of several platforms, by tag and by
// digest, whatever the Policy demands.
func TestMultiArchAgree(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		parameters string
		trusted    string // the tags
	}{
		{"multiArch: named", "index-only whole plain"},
		{"multiArch: platforms", "platforms-only whole plain"},
		{"multiArch: platforms, platforms: [linux/amd64]", "platforms-only whole half plain"},
		{"multiArch: platforms, platforms: [linux/s390x]", "plain"},
		{"multiArch: either", "index-only platforms-only whole plain"},
		{"multiArch: all", "whole plain"},
	} {
		t.Run(tt.parameters, func(t *testing.T) {
			t.Parallel()
			h := testhouse.New(t, testhouse.Options{})
			sign := func(tag string, platforms ...string) {
				h.Registry.Sign(testhouse.Repo, h.Index(tag, platforms...)[0], h.Signer, testca.SignOptions{})
			}
			sign("index-only", "linux/amd64", "linux/arm64")
			sign("whole", "linux/amd64+", "linux/arm64+")
			h.Index("platforms-only", "linux/amd64+", "linux/arm64+")
			h.Index("half", "linux/amd64+", "linux/arm64")
			h.Index("none", "linux/amd64", "linux/arm64")
			h.Signed("plain", h.Signer)
			h.Signed("unsigned")
			text := config(h.Signer.Root().PEM(), policy("all", ""), "apiVersion: config.ratify.deislabs.io/v1beta1\nkind: Policy\nmetadata: {name: ratify-policy}\n"+
				"spec: {type: config-policy, parameters: {artifactVerificationPolicies: {default: any}, "+tt.parameters+"}}\n")
			r := startWith(t, h, service.Options{}, text)
			set := testhouse.Need(compile.Decode([]compile.Source{{Name: "f", Data: []byte(text)}}))(t)
			compiled := testhouse.Need(set.Compile(compile.Deps{DockerConfig: func(string) oci.CredentialSource { return nil }}))(t)
			t.Cleanup(compiled.Close)
			for _, tag := range []string{"index-only", "whole", "platforms-only", "half", "none", "plain", "unsigned"} {
				want := strings.Contains(" "+tt.trusted+" ", " "+tag+" ")
				image := h.Registry.Ref(testhouse.Repo, tag)
				cli := testhouse.Need(compiled.EngineFor("").Verify(t.Context(), image))(t)
				pinned := h.Registry.Pinned(testhouse.Repo, cli.Subject.Digest)
				for _, image := range []string{image, pinned, image + "@" + cli.Subject.Digest.String()} {
					verify := testhouse.Need(compiled.EngineFor("").Verify(t.Context(), image))(t)
					item, response := r.gatekeeper("/ratify/gatekeeper/v1/verify", image)[0], r.validate("team", image)
					if verify.Decision == boltseal.Unknown || (verify.Decision == boltseal.Allow) != want || item.trusted() != want || response.Allowed != want {
						t.Errorf("%s: verify %v, Gatekeeper %s, webhook %+v, want %v", image, verify.Decision, item.Value, response, want)
					}
				}
				inventory := runs.NewInventory(nil)
				inventory.AddPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "p", UID: types.UID("u")},
					Spec:   corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: image}}},
					Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{Name: "c", ImageID: pinned}}}})
				snap := &snapshot.Snapshot{Generation: 1, Engines: compiled, Memo: memo.New(memo.Options{}), Policies: integrity.NewSet(set.Integrity(), "")}
				audited := runs.NewJudge(runs.JudgeOptions{Rate: -1}).Judge(t.Context(), snap, inventory, nil)
				if got := audited.Images.Trusted == 1; got != want || audited.Images.Total() != 1 {
					t.Errorf("%s: audit: %+v", tag, audited.Images)
				}
			}
			if tt.parameters == "multiArch: all" {
				var line struct{ Message string }
				if b := r.gatekeeper("/ratify/gatekeeper/v1/verify", h.Registry.Ref(testhouse.Repo, "half"))[0].Value; json.Unmarshal(b, &line) != nil || !strings.Contains(string(b), "is not trusted, and the Policy requires each of index, linux/amd64 and linux/arm64") {
					t.Errorf("%s", b)
				}
			}
		})
	}
}
