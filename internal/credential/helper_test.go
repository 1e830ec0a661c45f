package credential

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

// TestMain puts the helpers of testdata into the path.
func TestMain(m *testing.M) {
	bin, err := filepath.Abs("testdata/bin")
	if err == nil {
		err = os.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	}
	if err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestHelpers(t *testing.T) {
	t.Parallel()
	plain := `"auths":{"registry.example":{"auth":"` + auth("file-user", "pw") + `"},"other.example":{"auth":"` + auth("other-user", "pw") + `"}}`
	for _, c := range []struct {
		name, config, host string
		want               oci.Credential
	}{
		{"for the host", `{"credHelpers":{"registry.example":"test-good"}}`, "registry.example", oci.Credential{Username: "helper-user", Password: "helper-secret"}},
		{"for another host", `{"credHelpers":{"elsewhere.example":"test-good"}}`, "registry.example", oci.Credential{}},
		{"identity token", `{"credHelpers":{"token.example":"test-good"}}`, "token.example", oci.Credential{RefreshToken: "helper-identity"}},
		{"Docker Hub is asked for by docker's name", `{"credHelpers":{"docker.io":"test-good"}}`, "docker.io", oci.Credential{Username: "hub-user", Password: "hub-secret"}},
		{"Docker Hub by its index", `{"credHelpers":{"https://index.docker.io/v1/":"test-good"}}`, "docker.io", oci.Credential{Username: "hub-user", Password: "hub-secret"}},
		{"the store for all", `{"credsStore":"test-good"}`, "registry.example", oci.Credential{Username: "helper-user", Password: "helper-secret"}},
		{"the host's own before the store", `{"credsStore":"test-fails","credHelpers":{"registry.example":"test-good"}}`, "registry.example", oci.Credential{Username: "helper-user", Password: "helper-secret"}},
		{"the store before the file", `{"credsStore":"test-good",` + plain + `}`, "registry.example", oci.Credential{Username: "helper-user", Password: "helper-secret"}},
		{"the file where the store knows nothing", `{"credsStore":"test-good",` + plain + `}`, "other.example", oci.Credential{Username: "other-user", Password: "pw"}},
		{"not the file where the host's own knows nothing", `{"credHelpers":{"other.example":"test-good"},` + plain + `}`, "other.example", oci.Credential{}},
		{"nothing known", `{"credsStore":"test-good"}`, "unknown.example", oci.Credential{}},
		{"a child is left behind", `{"credsStore":"test-leaves-child"}`, "registry.example", oci.Credential{Username: "quick", Password: "quick-secret"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := NewDocker(DockerOptions{Path: write(t, c.config)}).Credential(t.Context(), c.host, "x")
			if err != nil || got != c.want {
				t.Errorf("%+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestHelpersFail(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		helper, says string
		is           error
	}{
		{"test-fails", "the credential helper docker-credential-test-fails failed for registry.example (exit status 3): see what it says to 'echo registry.example | docker-credential-test-fails get'", nil},
		{"test-hangs", "the credential helper docker-credential-test-hangs did not answer in time for registry.example", boltseal.ErrUnavailable},
		{"test-babbles", "wrote more than", nil},
		{"test-not-json", "did not answer in JSON for registry.example", nil},
	} {
		t.Run(c.helper, func(t *testing.T) {
			t.Parallel()
			o := DockerOptions{Path: write(t, `{"credHelpers":{"registry.example":"`+c.helper+`"}}`)}
			if c.is != nil {
				o.HelperTimeout = 100 * time.Millisecond // waits: this one never answers, however fast it begins
			}
			got, err := NewDocker(o).Credential(t.Context(), "registry.example", "x")
			switch {
			case err == nil || got != (oci.Credential{}):
				t.Fatalf("%+v, %v", got, err)
			case !strings.Contains(err.Error(), c.says), errors.Is(err, boltseal.ErrUnavailable) != (c.is != nil):
				t.Errorf("%v, want %q", err, c.says)
			case strings.Contains(err.Error(), "secret"), strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error holds what the helper wrote: %v", err)
			}
		})
	}
}

// TestStderrIsDropped: what a helper writes beside its answer goes nowhere.
func TestStderrIsDropped(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stderr
	os.Stderr = w
	_, err = NewDocker(DockerOptions{Path: write(t, `{"credsStore":"test-good"}`)}).Credential(t.Context(), "registry.example", "x")
	os.Stderr = old
	w.Close()
	var b [64]byte
	if n, _ := r.Read(b[:]); err != nil || n > 0 {
		t.Errorf("%v; on standard error: %q", err, b[:n])
	}
}

// asked counts how often the helper was run.
func asked(t *testing.T, log string) int {
	t.Helper()
	b, err := os.ReadFile(log)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

// TestHelperIsAskedOnce: by many at once, and then again only when its answer
// has grown old or the configuration has changed.
func TestHelperIsAskedOnce(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("HELPER_LOG", log)
	now := time.Now()
	path := write(t, `{"credsStore":"test-good"}`)
	d := NewDocker(DockerOptions{Path: path, Clock: func() time.Time { return now }})
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if c, err := d.Credential(t.Context(), "registry.example", "x"); err != nil || c.Password != "helper-secret" {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
	wg.Wait()
	steps := []struct {
		name   string
		before func()
		want   int
	}{
		{"first", func() {}, 1},
		{"kept", func() { now = now.Add(keepFor - time.Second) }, 1},
		{"grown old", func() { now = now.Add(time.Second) }, 2},
		{"configuration changed", func() {
			if err := os.WriteFile(path, []byte(`{"credsStore":"test-good", "auths":{}}`), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 3},
	}
	for _, s := range steps {
		s.before()
		userOf(t, d, "registry.example", "x")
		if n := asked(t, log); n != s.want {
			t.Errorf("%s: asked %d times, want %d", s.name, n, s.want)
		}
	}
}

// TestRefusedAnswerIsDropped: a helper is asked again where its answer was refused,
// and not where somebody was refused with another one.
func TestRefusedAnswerIsDropped(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("HELPER_LOG", log)
	d := NewDocker(DockerOptions{Path: write(t, `{"credHelpers":{"registry.example":"test-good"}}`)})
	d.Invalidate("registry.example", "x", oci.Credential{Username: "x"}) // nothing is kept yet
	get := func(want int) oci.Credential {
		t.Helper()
		c, err := d.Credential(t.Context(), "registry.example", "x")
		if err != nil || c.Password != "helper-secret" {
			t.Errorf("%+v, %v", c, err)
		}
		if n := asked(t, log); n != want {
			t.Errorf("asked %d times, want %d", n, want)
		}
		return c
	}
	c := get(1)
	d.Invalidate("registry.example", "x", oci.Credential{Username: "helper-user", Password: "older"})
	d.Invalidate("other.example", "x", c)
	get(1)
	d.Invalidate("registry.example", "x", c)
	get(2)
}

// TestFailureIsKeptBriefly: many images of a registry do not each wait for a
// helper that fails.
func TestFailureIsKeptBriefly(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	t.Setenv("HELPER_LOG", log)
	now := time.Now()
	d := NewDocker(DockerOptions{Path: write(t, `{"credsStore":"test-fails"}`), Clock: func() time.Time { return now }})
	for _, want := range []int{1, 1, 2} {
		if _, err := d.Credential(t.Context(), "registry.example", "x"); err == nil {
			t.Fatal("no error")
		}
		if n := asked(t, log); n != want {
			t.Errorf("asked %d times, want %d", n, want)
		}
		if want == 1 && asked(t, log) == 1 {
			now = now.Add(keepFailureFor / 2)
		}
	}
}

// TestHelperThatWaits: it holds up nobody else, a caller that leaves does not
// end it for the others, and it is run once for all of them.
func TestHelperThatWaits(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HELPER_DIR", dir)
	d := NewDocker(DockerOptions{HelperTimeout: time.Minute,
		Path: write(t, `{"credHelpers":{"slow.example":"test-waits"},"auths":{"quick.example":{"auth":"`+auth("q", "p")+`"}}}`)})
	first, leave := context.WithCancel(t.Context())
	left, stayed := make(chan error, 1), make(chan oci.Credential, 1)
	go func() {
		_, err := d.Credential(first, "slow.example", "x")
		left <- err
	}()
	testwait.Until(t, "the helper begins", func() bool { return asked(t, filepath.Join(dir, "started")) > 0 })
	go func() {
		c, err := d.Credential(t.Context(), "slow.example", "x")
		if err != nil {
			t.Error(err)
		}
		stayed <- c
	}()
	if got := userOf(t, d, "quick.example", "x"); got != "q" {
		t.Errorf("user %q", got)
	}
	leave()
	if err := <-left; !errors.Is(err, context.Canceled) {
		t.Errorf("the one that left: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c := <-stayed; c.Username != "late" {
		t.Errorf("the one that stayed: %+v", c)
	}
	if n := asked(t, filepath.Join(dir, "started")); n != 1 {
		t.Errorf("run %d times", n)
	}
}
