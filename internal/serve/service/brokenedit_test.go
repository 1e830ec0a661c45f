package service_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestRotationIsInForceWhileAnEditIsBroken: a signer that is taken out of a Secret is
// trusted no more, although the configuration file cannot be read at the time.
func TestRotationIsInForceWhileAnEditIsBroken(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(string) string{
		"no YAML":             func(string) string { return "{" },
		"no such kind":        func(s string) string { return s + "---\napiVersion: v1\nkind: Nothing\n" },
		"a rule that is none": func(s string) string { return strings.Replace(s, "level: strict", "level: lenient", 1) },
		"without the provider": func(s string) string {
			return strings.Replace(s, "kind: KeyManagementProvider\nmetadata: {name: roots}", "kind: KeyManagementProvider\nmetadata: {name: others}", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := testhouse.New(t, testhouse.Options{})
			_, pinned := h.Signed("v", h.Signer)
			_, others := h.Signed("w", h.Stranger)
			secret, log := &changingSecret{pem: h.Signer.Root().PEM(), changed: map[int]func(){}}, &lockedBuffer{}
			text := strings.Replace(config([]byte("x"), policy("prod", "")), "  type: inline\n  parameters:\n    value: |\n      x\n", "  type: secret\n  parameters: {name: roots, namespace: boltseal-system}\n", 1)
			r := startWith(t, h, service.Options{Keys: keys.Env{Objects: secret}, Memo: shortLived, Log: slog.New(slog.NewTextHandler(log, nil))}, text)
			eventually(t, "the first signer is trusted", func() bool { return r.validate("ns", pinned).Allowed })
			r.write(damage(text))
			eventually(t, "the edit is refused", func() bool { return strings.Contains(log.String(), "the last good one goes on serving") })
			if !r.validate("ns", pinned).Allowed {
				t.Error("a broken edit changed something")
			}
			secret.set(h.Stranger.Root().PEM())
			eventually(t, "the rotation is in force", func() bool { return !r.validate("ns", pinned).Allowed && r.validate("ns", others).Allowed })
			r.write(text + "# mended\n")
			eventually(t, "the file is in force again", func() bool {
				code, text := r.ready()
				return code == 200 && !strings.Contains(text, "configuration does not apply")
			})
			if r.validate("ns", pinned).Allowed || !r.validate("ns", others).Allowed {
				t.Error("the old signer is back")
			}
		})
	}
}
