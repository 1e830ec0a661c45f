package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content/oci"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/demo"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"boltseal": func() {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(Main(ctx, frame.Env{Args: os.Args[1:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
			Version: "v1.2.3", Commit: "0123456789abcdef"}))
	}})
}

// TestScripts runs testdata/script/*.txtar. Each finds
//
//	$HOST     the demo's registry, with images demo/app:TAG
//	$DIGEST   the digest of demo/app:signed
//	$CONFIG   a configuration that trusts its release team
//	$LAYOUT   an OCI layout with the images signed and index under their tags
//	$STRANGER PEM of a certificate that signed nothing here
//	$DOWN     an address at which nobody listens
func TestScripts(t *testing.T) {
	d, err := demo.Start(demo.Options{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	layout := filepath.Join(t.TempDir(), "layout")
	copyToLayout(t, d.Image("index"), layout)
	digest := copyToLayout(t, d.Image("signed"), layout)
	stranger := filepath.Join(t.TempDir(), "stranger.pem")
	write(t, stranger, testca.Test(t, testca.Options{}).Root().PEM())
	key, err := testca.GenerateKey(testca.P256, nil)
	if err != nil {
		t.Fatal(err)
	}
	private, err := testca.KeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			config := filepath.Join(env.WorkDir, "verify-config.yaml")
			env.Setenv("HOST", d.Host)
			env.Setenv("DIGEST", digest)
			env.Setenv("CONFIG", config)
			env.Setenv("LAYOUT", layout)
			env.Setenv("STRANGER", stranger)
			env.Setenv("PRIVATE_KEY", base64.StdEncoding.EncodeToString(private))
			env.Setenv("DOWN", "127.0.0.1:1")
			env.Setenv("HOME", env.WorkDir) // no docker configuration but the script's own
			return os.WriteFile(config, d.Config, 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"edit": edit, "await": await, "ask": ask, "narrow": narrow,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

func copyToLayout(t *testing.T, image, dir string) (digest string) {
	t.Helper()
	name, tag, _ := strings.Cut(strings.TrimPrefix(image, "127.0.0.1:"), ":")
	repo, err := remote.NewRepository("127.0.0.1:" + name)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	to, err := oci.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := oras.ExtendedCopy(t.Context(), repo, tag, to, tag, oras.DefaultExtendedCopyOptions)
	if err != nil {
		t.Fatal(err)
	}
	return desc.Digest.String()
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// edit FILE OLD NEW replaces text, which must be there; \n in NEW is a new line.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: edit FILE OLD NEW")
	}
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not contain %q", args[0], args[1])
	}
	out := strings.ReplaceAll(text, args[1], strings.ReplaceAll(args[2], `\n`, "\n"))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(out), 0o600))
}

// await FILE TEXT waits until a file that a program in the background writes to
// contains the text.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: await FILE TEXT")
	}
	// waits: for what another process does; only a hang reaches the deadline
	for deadline := time.Now().Add(testwait.Patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if b, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && bytes.Contains(b, []byte(args[1])) {
			return
		}
	}
	ts.Fatalf("%s never contains %q", args[0], args[1])
}

// ask FILE PATH IMAGE asks the server whose log FILE is as Gatekeeper would, and
// prints the answer into the file answer. With ! the request must fail.
func ask(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: ask LOG PATH IMAGE")
	}
	_, rest, ok := strings.Cut(ts.ReadFile(args[0]), `"provider and webhook" address=`)
	if !ok {
		ts.Fatalf("%s names no address", args[0])
	}
	address, _, _ := strings.Cut(rest, " ")
	body := fmt.Sprintf(`{"apiVersion":"externaldata.gatekeeper.sh/v1beta1","kind":"ProviderRequest","request":{"keys":[%q]}}`, args[2])
	resp, err := http.Post("http://"+address+args[1], "application/json", strings.NewReader(body))
	if neg {
		if err == nil {
			resp.Body.Close()
			ts.Fatalf("it answers")
		}
		return
	}
	ts.Check(err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs("answer"), b, 0o600))
}

// narrow FILE checks that no line is wider than a terminal.
func narrow(ts *testscript.TestScript, neg bool, args []string) {
	for _, name := range args {
		for _, line := range strings.Split(ts.ReadFile(name), "\n") {
			if n := len([]rune(line)); n > 90 {
				ts.Fatalf("%s: %d columns: %s", name, n, line)
			}
		}
	}
}
