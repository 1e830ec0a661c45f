package service_test

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// told is everything that a service says to anybody but its registry.
func (r *running) told(log *lockedBuffer, answers ...string) string {
	_, ready := r.ready()
	_, metrics := r.get(r.scrape + "/metrics")
	return strings.Join(append(answers, log.String(), r.audit.String(), ready, metrics), "\n")
}

func noSecret(t *testing.T, text string, secrets ...string) {
	t.Helper()
	for _, s := range secrets {
		for _, form := range []string{s, base64.StdEncoding.EncodeToString([]byte(s)), base64.URLEncoding.EncodeToString([]byte(s))} {
			if i := strings.Index(text, form); i >= 0 {
				t.Errorf("a secret is told: …%s…", text[max(0, i-200):min(len(text), i+len(form)+50)])
			}
		}
	}
	for _, word := range []string{"Bearer ey", "Basic ", "-----BEGIN"} {
		if strings.Contains(text, word) {
			t.Errorf("%q is told", word)
		}
	}
}

// TestCredentialsAreNotTold: neither where they are right nor where they are
// refused, at the most talkative log level, whatever goes wrong with them.
func TestCredentialsAreNotTold(t *testing.T) {
	t.Parallel()
	const user, password, signature = "robot-account", "correct-horse-battery-staple", "signature-of-a-storage-url"
	users := map[string]string{user: password}
	for name, ro := range map[string]testregistry.Options{
		"basic":   {Basic: &testregistry.BasicOptions{Users: users}},
		"token":   {Token: &testregistry.TokenOptions{Users: users}},
		"refused": {Basic: &testregistry.BasicOptions{Users: map[string]string{user: "another"}}},
		"no token for it": {Token: &testregistry.TokenOptions{Users: users, Allow: func(string, string, string) bool {
			return false
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, file := &lockedBuffer{}, filepath.Join(t.TempDir(), "config.json")
			r := start(t, testhouse.Options{Registry: ro}, service.Options{Memo: shortLived, Log: slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
				Deps: compile.Deps{DockerConfig: func(string) oci.CredentialSource {
					return credential.NewDocker(credential.DockerOptions{Path: file})
				}}}, policy("prod", ""))
			auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
			config := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, r.Registry.Host, auth)
			if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
				t.Fatal(err)
			}
			tag, _ := r.Signed("v", r.Signer)
			var answers []string
			ask := func() bool {
				a := r.validate("team", tag)
				it := r.gatekeeper(server.PathVerify, tag)[0]
				answers = append(answers, fmt.Sprintf("%+v %+v %s %s", a, a.Result, it.Value, it.Error))
				return a.Allowed
			}
			if got, want := ask(), name == "basic" || name == "token"; got != want {
				t.Errorf("allowed is %v: %s", got, answers)
			}
			for _, f := range []testregistry.Fault{{Kind: testregistry.Status, Status: 401}, {Kind: testregistry.Status, Status: 500}, {Kind: testregistry.Reset},
				{Kind: testregistry.Redirect, Value: "http://169.254.169.254/?sig=" + signature}, {Kind: testregistry.Redirect, Class: testregistry.Blob, Value: "http://127.0.0.1:1/blob?sig=" + signature},
				{Kind: testregistry.Redirect, Class: testregistry.Blob, Value: "http://u:" + signature + "@127.0.0.1:1/blob"}, {Kind: testregistry.Custom, Handler: echo{}}} {
				undo := r.Registry.Inject(f)
				ask()
				undo()
			}
			// A file that is broken is not quoted either.
			if err := os.WriteFile(file, []byte(strings.Replace(config, `"}`, `"`, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			ask()
			noSecret(t, r.told(log, answers...), password, user+":"+password, signature)
		})
	}
}

// echo is a registry that sends back what it was shown.
type echo struct{}

func (echo) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	shown := req.Header.Get("Authorization")
	w.Header().Set("Www-Authenticate", shown)
	w.Header().Set("Docker-Content-Digest", shown)
	w.WriteHeader(http.StatusForbidden)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":"DENIED","message":%q}]}`, shown)
}

// TestPEMsAreNotTold: a private key pasted where a certificate should be is named,
// and not quoted; nor are certificates.
func TestPEMsAreNotTold(t *testing.T) {
	t.Parallel()
	log := &lockedBuffer{}
	r := start(t, testhouse.Options{}, service.Options{Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}, policy("prod", ""))
	_, stranger := r.Signed("stranger", r.Stranger)
	a := r.validate("team", stranger)
	key := testhouse.Need(testca.KeyPEM(r.Signer.Leaf().Key))(t)
	r.write(config(key, policy("prod", "")))
	eventually(t, "the problem is told", func() bool {
		_, text := r.ready()
		return strings.Contains(text, "private key")
	})
	lines := strings.Split(strings.TrimSpace(string(key)), "\n")
	secrets := lines[1 : len(lines)-1]
	for _, c := range [][]byte{r.Signer.Root().PEM(), r.Stranger.Root().PEM()} {
		secrets = append(secrets, strings.Split(string(c), "\n")[2])
	}
	text := r.told(log, a.Result.Message)
	noSecret(t, text, secrets...)
	if !strings.Contains(log.String(), "last good one goes on serving") {
		t.Errorf("the log: %s", log.String())
	}
}
