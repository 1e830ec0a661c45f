package integrity_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
)

// TestPlaceholders: what stands for an image until something fills it in is denied as
// before, and the message leads to the page with the ways out, each of which works.
func TestPlaceholders(t *testing.T) {
	if _, err := os.Stat(filepath.Join("..", "..", "..", filepath.FromSlash(integrity.Page))); err != nil {
		t.Fatal(err)
	}
	deny := compile(t, "prod", v1alpha1.ImageIntegrityPolicySpec{})
	for _, c := range []struct {
		image    string
		is       bool
		excluded bool // the policy's excludedImages is a way out
	}{
		{"auto", true, true}, {"auto:latest", true, true}, {"Auto", true, false}, {" ", true, false}, {"", true, false}, {"\t", true, false},
		{"placeholder", true, true}, {"replace-me", true, true}, {"REPLACE_ME", true, false}, {"changeme:v1", true, true},
		{"{{ .Values.image }}", true, false}, {"$(IMAGE)", true, false}, {"${IMAGE}:v1", true, false}, {"ko://example.com/cmd/app", true, false}, {"<image>", true, false}, {"reg.example/app:${TAG}", true, false},
		{"nginx", false, false}, {"autoscaler", false, false}, {"reg.example/auto:v1", false, false}, {"reg.example/placeholder", false, false}, {"todo-app", false, false}, {"images", false, false},
	} {
		cause := boltseal.CauseUnavailable
		if _, err := boltseal.ParseReference(c.image); err != nil {
			cause = boltseal.CauseInvalidReference
		}
		img := integrity.Image{Where: `container "istio-proxy"`, Image: c.image, Found: integrity.Found{Decision: boltseal.Unknown, Reason: boltseal.Reason{Cause: cause, Message: "it cannot be read", Remedy: "see whether docker.io is up"}}}
		for _, pod := range []bool{false, true} {
			v := integrity.Judge([]*integrity.Policy{deny}, []integrity.Image{img}, integrity.Context{Pod: pod})
			checkMessages(t, v)
			if v.Allowed || strings.Contains(v.Message, integrity.Page) != c.is || strings.Contains(v.Message, "docker.io is up") == c.is {
				t.Errorf("%q, Pod %v: %s", c.image, pod, v.Message)
			}
			if c.is && strings.Contains(v.Message, "match.kinds: [Pod]") == pod {
				t.Errorf("%q, Pod %v: %s", c.image, pod, v.Message)
			}
			if !pod && strings.Contains(v.Message, "excludedImages") != c.excluded {
				t.Errorf("%q: %s", c.image, v.Message)
			}
		}
		if c.excluded {
			p := compile(t, "prod", v1alpha1.ImageIntegrityPolicySpec{ExcludedImages: []string{c.image}})
			if v := integrity.Judge([]*integrity.Policy{p}, []integrity.Image{img}, integrity.Context{}); !v.Allowed {
				t.Errorf("%q, excluded: %s", c.image, v.Message)
			}
		}
		// What was found in a registry is no placeholder, whatever its name is.
		img.Found = integrity.Found{Reason: boltseal.Reason{Cause: boltseal.CauseNothingSigned, Message: "nothing signed"}, Digest: "sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}
		if v := integrity.Judge([]*integrity.Policy{deny}, []integrity.Image{img}, integrity.Context{}); v.Allowed || strings.Contains(v.Message, "placeholder,") {
			t.Errorf("%q: %s", c.image, v.Message)
		}
	}
}

// TestWarningsSayTheCauseFirst: the API server may hand on 256 characters of each, and
// they say what is wrong, however long the image's name is.
func TestWarningsSayTheCauseFirst(t *testing.T) {
	name := "registry-" + strings.Repeat("a", 40) + ".example/" + strings.Repeat("team/", 30) + "app"
	for _, c := range []struct{ image, message, want string }{
		{name + ":v1", "nothing signed: no signature refers to this image", "nothing signed: no signature refers to this image"},
		{name + ":v1", "resolve " + name + ":v1 at registry.example: HTTP 503: no answer", "resolve the image at registry.example: HTTP 503: no answer"},
		{name + ":v1", "no trust policy of v covers " + name, "no trust policy of v covers the image"},
		{name + "@sha256:" + strings.Repeat("0", 64), "resolve " + name + "@sha256:" + strings.Repeat("0", 64) + ": HTTP 403: not authorized", "resolve the image: HTTP 403: not authorized"},
	} {
		for _, spec := range []v1alpha1.ImageIntegrityPolicySpec{{EnforcementAction: v1alpha1.Warn}, {OnUnavailable: v1alpha1.OnUnavailable{Action: v1alpha1.UnavailableAllow}}} {
			img := integrity.Image{Where: `container "a"`, Image: c.image, Found: integrity.Found{Decision: boltseal.Unknown, Reason: boltseal.Reason{Cause: boltseal.CauseUnavailable, Message: c.message}}}
			v := judge(t, spec, img)
			checkMessages(t, v)
			if !v.Allowed || len(v.Warnings) == 0 || !strings.Contains(v.Warnings[0][:min(256, len(v.Warnings[0]))], c.want) || strings.Count(v.Warnings[0], name) != 1 {
				t.Errorf("%s: %q", c.message, v.Warnings)
			}
		}
	}
}
