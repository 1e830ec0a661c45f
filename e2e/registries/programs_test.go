package registries

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// program is a program of Debian's, from the environment or the PATH. Without it the
// test is skipped.
func program(t testing.TB, variable, name string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s here; $%s can name one", name, variable)
	}
	return path
}

// run runs a server that listens on a socket file until the test ends, and returns
// what hands requests on to it.
func run(t testing.TB, socket string, command ...string) http.Handler {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	must(t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cancel(); <-ended })
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // waits: it polls; only a hang reaches the deadline
		c, err := dial(ctx, "", "")
		if err == nil {
			c.Close()
			break
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("%s: %v\n%s", command[0], err, log.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %v", command[0], err)
		}
	}
	to := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "socket"})
	to.Transport = &http.Transport{DialContext: dial, DisableCompression: true}
	return to
}

// socketDir is a directory whose path is short enough for a socket.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "boltseal")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Debian's docker-registry is distribution 2: without a referrers API.
func TestDebiansRegistry(t *testing.T) {
	t.Parallel()
	path := program(t, "BOLTSEAL_TEST_DOCKER_REGISTRY", "docker-registry")
	dir := socketDir(t)
	config, socket := filepath.Join(dir, "config.yml"), filepath.Join(dir, "s")
	must(t, os.WriteFile(config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {net: unix, addr: %s, secret: only-for-upload-states}\n", dir, socket), 0o600))
	p := serve(t, guarded(run(t, socket, path, "serve", config)), nil)
	h := testhouse.New(t, testhouse.Options{})
	push := p.pusher(t)
	push.image(t, "signed", h.Signer)
	push.image(t, "foreign", h.Stranger)
	push.image(t, "unsigned")
	for tag, want := range map[string]boltseal.Cause{"signed": "", "foreign": boltseal.CauseUntrustedSigner, "unsigned": boltseal.CauseNothingSigned, "absent": boltseal.CauseImageNotFound} {
		r := verify(t, h, p, p.roots, right, p.host+"/"+repository+":"+tag)
		if allowed := r.Decision == boltseal.Allow; allowed != (want == "") || !allowed && (r.Decision != boltseal.Deny || r.Reason.Cause != want) {
			t.Errorf("%s: %v because of %+v", tag, r.Decision, r.Reason)
		}
	}
}

// nginx as a registry of files, as they are and packed, and as a cache before a
// registry.
func TestNginx(t *testing.T) {
	t.Parallel()
	path := program(t, "BOLTSEAL_TEST_NGINX", "nginx")
	h := testhouse.New(t, testhouse.Options{Registry: testregistry.Options{NoReferrersAPI: true}})
	signed, foreign, unsigned := h.Registry.PushImage(repository, "signed", 0), h.Registry.PushImage(repository, "foreign", 0), h.Registry.PushImage(repository, "unsigned", 0)
	signatures := []ocispec.Descriptor{h.Registry.Sign(repository, signed, h.Signer, testca.SignOptions{}), h.Registry.Sign(repository, foreign, h.Stranger, testca.SignOptions{})}
	for name, server := range map[string]string{
		"files":        "root %[1]s/www;",
		"packed files": "root %[1]s/packed; gzip_static always;",
		"a cache":      "location / { proxy_pass " + h.Registry.URL + "; proxy_cache all; proxy_cache_valid any 10m; proxy_cache_key $uri$is_args$args; }",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := socketDir(t)
			files(t, h.Registry, filepath.Join(dir, "www"), filepath.Join(dir, "packed"), []ocispec.Descriptor{signed, foreign, unsigned}, signatures)
			if name != "a cache" {
				server = fmt.Sprintf(server, dir)
			}
			config, socket := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "s")
			must(t, os.WriteFile(config, fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log stderr error;
events {}
http {
  access_log off; default_type application/octet-stream;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  proxy_cache_path %[1]s/cache keys_zone=all:1m;
  server { listen unix:%[2]s; %[3]s }
}
`, dir, socket, server), 0o600))
			p := serve(t, run(t, socket, path, "-c", config, "-p", dir, "-e", "stderr"), nil)
			for range 2 {
				for tag, want := range map[string]boltseal.Cause{"signed": "", "foreign": boltseal.CauseUntrustedSigner, "unsigned": boltseal.CauseNothingSigned, "absent": boltseal.CauseImageNotFound} {
					r := verify(t, h, p, p.roots, nil, p.host+"/"+repository+":"+tag)
					if allowed := r.Decision == boltseal.Allow; allowed != (want == "") || !allowed && (r.Decision != boltseal.Deny || r.Reason.Cause != want) {
						t.Errorf("%s: %v because of %+v", tag, r.Decision, r.Reason)
					}
				}
			}
		})
	}
}

// files copies a registry's content to files under the names that clients ask for.
func files(t testing.TB, r *testregistry.Registry, plain, packed string, images, signatures []ocispec.Descriptor) {
	t.Helper()
	base := "/v2/" + repository + "/"
	copyOf := func(name string) []byte {
		resp, err := r.Client().Get(r.URL + base + name)
		must(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		must(t, err)
		if resp.StatusCode != http.StatusOK {
			return nil
		}
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(b)
		must(t, w.Close())
		for path, content := range map[string][]byte{filepath.Join(plain, base+name): b, filepath.Join(packed, base+name+".gz"): z.Bytes()} {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, content, 0o644))
		}
		return b
	}
	for _, tag := range []string{"signed", "foreign", "unsigned"} {
		copyOf("manifests/" + tag)
	}
	for _, d := range images {
		copyOf("manifests/" + string(d.Digest))
		copyOf("manifests/" + testregistry.ReferrersTag(d.Digest))
	}
	for _, d := range signatures {
		m, err := boltseal.ParseArtifactManifest(d.MediaType, copyOf("manifests/"+string(d.Digest)))
		must(t, err)
		for _, l := range m.Layers {
			copyOf("blobs/" + string(l.Digest))
		}
	}
}
