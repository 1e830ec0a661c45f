package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/e2e/render"
)

// steps are how a user begins, in this order, on the page and in what Helm says after the installation.
var steps = []string{"kubectl apply -f trust.yaml", "enforcementAction: warn", `-p '{"spec": {"enforcementAction": "deny"}}'`, "boltseal explain --audit-log -", "kubectl delete imageintegritypolicy only-trusted-images"}

// TestNotesHaveTheStepsOfTheQuickstart holds NOTES.txt against docs/quickstart.md, whose commands are run by a test:
// the same steps in the same order, and each command of the notes that the page has is as it is there.
func TestNotesHaveTheStepsOfTheQuickstart(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(folder, "..", "..", "docs", "quickstart.md"))
	if err != nil {
		t.Fatal(err)
	}
	notes := rendered(t, render.Options{}).Notes
	for name, text := range map[string]string{"the page": string(page), "the notes": notes} {
		for _, s := range steps {
			i := strings.Index(text, s)
			if i < 0 {
				t.Errorf("%s: %q is not there, or before another step", name, s)
				continue
			}
			text = text[i+len(s):]
		}
	}
	words := map[string]bool{}
	for line := range strings.Lines(string(page)) {
		words[strings.Join(strings.Fields(line), " ")] = true
	}
	_, policy, _ := strings.Cut(notes, "<<END\n")
	policy, _, _ = strings.Cut(policy, "END\n")
	for line := range strings.Lines(policy) {
		if l := strings.Join(strings.Fields(line), " "); l != "" && !words[l] {
			t.Errorf("the policy of the notes has %q, and the page's has not", l)
		}
	}
	if policy == "" {
		t.Error("the notes have no policy")
	}
	// Without the webhook there is no policy to apply, and no command that would do nothing.
	off := rendered(t, render.Options{Values: []string{"webhook: {enabled: false}"}}).Notes
	if strings.Contains(off, "ImageIntegrityPolicy\n") || !strings.Contains(off, "kubectl apply -f trust.yaml") {
		t.Errorf("without the webhook:\n%s", off)
	}
}
