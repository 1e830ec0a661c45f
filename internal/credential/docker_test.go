package credential

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"oras.land/oras-go/v2/registry/remote/credentials"

	"github.com/boltseal/boltseal/oci"
)

func auth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// write puts a configuration into a file of its own.
func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func userOf(t *testing.T, d *Docker, host, repository string) string {
	t.Helper()
	c, err := d.Credential(t.Context(), host, repository)
	if err != nil {
		t.Fatal(err)
	}
	return c.Username
}

func TestAuths(t *testing.T) {
	t.Parallel()
	entry := func(user string) string { return fmt.Sprintf(`{"auth":%q}`, auth(user, "pw")) }
	for _, c := range []struct {
		name, auths, host, repository, want string
	}{
		{"host", `"ghcr.io":` + entry("a"), "ghcr.io", "x/y", "a"},
		{"another host", `"ghcr.io":` + entry("a"), "quay.io", "x/y", ""},
		{"a host that ends alike", `"ghcr.io":` + entry("a"), "evil-ghcr.io", "x/y", ""},
		{"a host that begins alike", `"ghcr.io":` + entry("a"), "ghcr.io.evil.example", "x/y", ""},
		{"a subdomain", `"example.com":` + entry("a"), "registry.example.com", "x/y", ""},
		{"port", `"reg:5000":` + entry("a"), "reg:5000", "x", "a"},
		{"another port", `"reg:5000":` + entry("a"), "reg:5001", "x", ""},
		{"port that https implies", `"reg.example:443":` + entry("a"), "reg.example", "x", "a"},
		{"upper case", `"GHCR.io":` + entry("a"), "ghcr.io", "x", "a"},
		{"URL", `"https://ghcr.io":` + entry("a"), "ghcr.io", "x", "a"},
		{"URL of API version 1", `"https://reg.example/v1/":` + entry("a"), "reg.example", "x", "a"},
		{"URL of API version 2", `"http://reg.example/v2/":` + entry("a"), "reg.example", "x", "a"},
		{"Docker Hub as docker writes it", `"https://index.docker.io/v1/":` + entry("a"), "docker.io", "library/nginx", "a"},
		{"Docker Hub by name", `"docker.io":` + entry("a"), "docker.io", "library/nginx", "a"},
		{"Docker Hub's index", `"index.docker.io":` + entry("a"), "docker.io", "library/nginx", "a"},
		{"Docker Hub's registry", `"registry-1.docker.io":` + entry("a"), "docker.io", "library/nginx", "a"},
		{"Docker Hub twice: docker's own spelling", `"docker.io":` + entry("a") + `,"https://index.docker.io/v1/":` + entry("b"), "docker.io", "library/nginx", "b"},
		{"a host twice: the plain one", `"https://ghcr.io":` + entry("a") + `,"ghcr.io":` + entry("b") + `,"http://ghcr.io":` + entry("c"), "ghcr.io", "x", "b"},
		{"a path", `"quay.io/team":` + entry("a"), "quay.io", "team/app", "a"},
		{"the path itself", `"quay.io/team/app":` + entry("a"), "quay.io", "team/app", "a"},
		{"not a path that begins alike", `"quay.io/team":` + entry("a"), "quay.io", "teams/app", ""},
		{"the longest path", `"quay.io":` + entry("a") + `,"quay.io/team":` + entry("b") + `,"quay.io/team/app":` + entry("c"), "quay.io", "team/app", "c"},
		{"the host below no path", `"quay.io":` + entry("a") + `,"quay.io/team":` + entry("b"), "quay.io", "other/app", "a"},
		{"a broken entry of another host", `"ghcr.io":` + entry("a") + `,"quay.io":{"auth":"!!!"}`, "ghcr.io", "x", "a"},
		{"none", ``, "ghcr.io", "x", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := NewDocker(DockerOptions{Path: write(t, `{"auths":{`+c.auths+`}}`)})
			if got := userOf(t, d, c.host, c.repository); got != c.want {
				t.Errorf("user %q, want %q", got, c.want)
			}
		})
	}
}

func TestAuthForms(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, entry string
		want        oci.Credential
	}{
		{"auth", `{"auth":"` + auth("u", "p:with:colons") + `"}`, oci.Credential{Username: "u", Password: "p:with:colons"}},
		{"username and password", `{"username":"u","password":"p"}`, oci.Credential{Username: "u", Password: "p"}},
		{"auth wins", `{"username":"x","password":"y","auth":"` + auth("u", "p") + `"}`, oci.Credential{Username: "u", Password: "p"}},
		{"identity token", `{"auth":"` + auth("00000000-0000-0000-0000-000000000000", "") + `","identitytoken":"id"}`,
			oci.Credential{Username: "00000000-0000-0000-0000-000000000000", RefreshToken: "id"}},
		{"identity token as a password", `{"username":"<token>","password":"id"}`, oci.Credential{RefreshToken: "id"}},
		{"registry token", `{"registrytoken":"rt"}`, oci.Credential{AccessToken: "rt"}},
		{"padded", `{"auth":"` + auth("u", "p\x00\x00") + `"}`, oci.Credential{Username: "u", Password: "p"}},
		{"empty", `{}`, oci.Credential{}},
		{"null", `null`, oci.Credential{}},
		{"more fields", `{"auth":"` + auth("u", "p") + `","email":"u@example.com"}`, oci.Credential{Username: "u", Password: "p"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := NewDocker(DockerOptions{Path: write(t, `{"auths":{"r.example":`+c.entry+`}}`)})
			got, err := d.Credential(t.Context(), "r.example", "x")
			if err != nil || got != c.want {
				t.Errorf("%+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

// TestLikeOras holds what is read against what oras-go reads in the same file.
func TestLikeOras(t *testing.T) {
	t.Parallel()
	path := write(t, `{"auths":{
		"ghcr.io":{"auth":"`+auth("a", "1")+`"},
		"https://legacy.example/v1/":{"auth":"`+auth("b", "2")+`"},
		"https://index.docker.io/v1/":{"username":"c","password":"3"},
		"id.example:5000":{"auth":"`+auth("d", "4")+`","identitytoken":"tok"},
		"rt.example":{"registrytoken":"rt"},
		"empty.example":{}},
		"HttpHeaders":{"User-Agent":"x"},"currentContext":"default"}`)
	store, err := credentials.NewStore(path, credentials.StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	d := NewDocker(DockerOptions{Path: path})
	for _, host := range []string{"ghcr.io", "legacy.example", "docker.io", "id.example:5000", "id.example", "rt.example", "empty.example", "absent.example"} {
		theirs, err := store.Get(t.Context(), serverName(host))
		if err != nil {
			t.Fatal(err)
		}
		ours, err := d.Credential(t.Context(), host, "x/y")
		if err != nil {
			t.Fatal(err)
		}
		want := oci.Credential{Username: theirs.Username, Password: theirs.Password, RefreshToken: theirs.RefreshToken, AccessToken: theirs.AccessToken}
		if ours != want {
			t.Errorf("%s: %+v, oras-go reads %+v", host, ours, want)
		}
	}
}

func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	const secret = "hunter2-secret"
	for _, c := range []struct{ name, text, says string }{
		{"not JSON", "{\n  \"auths\": {\n    hunter2-secret", "line 3 is not JSON"},
		{"a list", `["hunter2-secret"]`, "it is not a JSON object"},
		{"auths is a text", `{"auths":"hunter2-secret"}`, `its field "auths" is not of the right type`},
		{"a helper is a number", `{"credHelpers":{"r.example":5}}`, `is not of the right type`},
		{"bad base64", `{"auths":{"r.example":{"auth":"!hunter2-secret!"}}}`, `auths: "r.example": its auth is not base64; log in to that registry again`},
		{"no colon", `{"auths":{"r.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte(secret)) + `"}}}`, "its auth is not the base64 of USER:PASSWORD"},
		{"auth is a number", `{"auths":{"r.example":{"auth":20262026}}}`, `its field "auth" is not of the right type`},
		{"entry is a text", `{"auths":{"r.example":"hunter2-secret"}}`, "it is not a JSON object"},
		{"helper is a path", `{"credHelpers":{"r.example":"../../bin/evil"}}`, `"../../bin/evil" is no name of a credential helper`},
		{"helper is not installed", `{"credHelpers":{"r.example":"test-no-such"}}`, "the credential helper docker-credential-test-no-such is not in $PATH"},
		{"too large", `{"auths":{}}` + strings.Repeat(" ", maxConfigSize), fmt.Sprintf("more than %d bytes", maxConfigSize)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := write(t, c.text)
			got, err := NewDocker(DockerOptions{Path: path}).Credential(t.Context(), "r.example", "x")
			if err == nil || got != (oci.Credential{}) {
				t.Fatalf("%+v, %v", got, err)
			}
			for _, want := range []string{c.says, path, "the docker configuration"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			for _, leak := range []string{secret, "20262026", base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(err.Error(), leak) {
					t.Errorf("the error holds what is in the file: %v", err)
				}
			}
		})
	}
}

func TestEmptyFiles(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", " \n", "{}", `{"auths":null}`, `{"auths":{},"credHelpers":{},"credsStore":""}`} {
		if got := userOf(t, NewDocker(DockerOptions{Path: write(t, text)}), "r.example", "x"); got != "" {
			t.Errorf("%q: user %q", text, got)
		}
	}
}

func TestMissingFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	missing := filepath.Join(dir, "config.json")
	if _, err := NewDocker(DockerOptions{Path: missing}).Credential(t.Context(), "r.example", "x"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("a file that was named and is missing: %v", err)
	}
	if _, err := NewDocker(DockerOptions{Path: dir}).Credential(t.Context(), "r.example", "x"); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("a directory: %v", err)
	}
	env := func(string) string { return dir }
	if got := userOf(t, NewDocker(DockerOptions{Getenv: env}), "r.example", "x"); got != "" {
		t.Errorf("the default file is missing: user %q", got)
	}
}

func TestUnreadableFile(t *testing.T) {
	t.Parallel()
	path := write(t, `{}`)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if f, err := os.Open(path); err == nil {
		f.Close()
		t.Skip("whoever runs this may read everything")
	}
	if _, err := NewDocker(DockerOptions{Path: path}).Credential(t.Context(), "r.example", "x"); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func TestDefaultPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{nil, ""},
		{map[string]string{"HOME": "/h"}, "/h/.docker/config.json"},
		{map[string]string{"HOME": "/h", "DOCKER_CONFIG": "/d"}, "/d/config.json"},
		{map[string]string{"HOME": "/h", "REGISTRY_AUTH_FILE": "/r/auth.json"}, "/r/auth.json"},
		{map[string]string{"DOCKER_CONFIG": "/d", "REGISTRY_AUTH_FILE": "/r/auth.json"}, "/d/config.json"},
	} {
		if got := defaultPath(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: %q, want %q", c.env, got, c.want)
		}
	}
}

// TestFileChanges: an edit counts at once, and so does a file that comes, goes,
// or is replaced by another of the same size and age.
func TestFileChanges(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	d := NewDocker(DockerOptions{Getenv: func(k string) string { return map[string]string{"DOCKER_CONFIG": dir}[k] }})
	old := time.Now().Add(-time.Hour)
	put := func(user string) {
		t.Helper()
		next := path + ".next"
		if err := os.WriteFile(next, []byte(`{"auths":{"r.example":{"username":"`+user+`","password":"p"}}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chtimes(next, old, old), os.Rename(next, path)); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want string) {
		t.Helper()
		if got := userOf(t, d, "r.example", "x"); got != want {
			t.Errorf("user %q, want %q", got, want)
		}
	}
	expect("")
	put("a")
	expect("a")
	expect("a")
	put("b")
	expect("b")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("")
	put("c")
	expect("c")
	// Written into the same file, whose time is put back.
	if err := errors.Join(os.WriteFile(path, []byte(`{"auths":{"r.example":{"username":"d","password":"p"}}}`), 0o600), os.Chtimes(path, old, old)); err != nil {
		t.Fatal(err)
	}
	expect("d")
}
