package credential_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/oci"
)

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func docker(t *testing.T, config string) (*credential.Docker, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	write(t, path, config)
	return credential.NewDocker(credential.DockerOptions{Path: path}), path
}

func TestAuths(t *testing.T) {
	t.Parallel()
	d, _ := docker(t, `{"auths":{
		"reg.example":{"auth":"`+basic("u", "p:with:colons")+`"},
		"reg.example:5000":{"auth":"`+basic("other", "q")+`"},
		"https://index.docker.io/v1/":{"auth":"`+basic("hub", "h")+`"},
		"token.example":{"identitytoken":"refresh"}, "access.example":{"registrytoken":"access"}}}`)
	for host, want := range map[string]oci.Credential{
		"reg.example":           {Username: "u", Password: "p:with:colons"},
		"reg.example:5000":      {Username: "other", Password: "q"},
		"docker.io":             {Username: "hub", Password: "h"},
		"token.example":         {RefreshToken: "refresh"},
		"access.example":        {AccessToken: "access"},
		"evil.reg.example":      {},
		"reg.example.evil.test": {},
		"unknown.example":       {},
	} {
		got, err := d.Credential(t.Context(), host, "a/b")
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", host, got, err, want)
		}
	}
}

func TestTheFileIsReadAnew(t *testing.T) {
	t.Parallel()
	d, path := docker(t, `{"auths":{"reg.example":{"auth":"`+basic("u", "old")+`"}}}`)
	if c, err := d.Credential(t.Context(), "reg.example", ""); err != nil || c.Password != "old" {
		t.Fatal(c, err)
	}
	write(t, path, `{"auths":{"reg.example":{"auth":"`+basic("u", "brand new")+`"}}}`)
	if c, err := d.Credential(t.Context(), "reg.example", ""); err != nil || c.Password != "brand new" {
		t.Errorf("after a change: %+v, %v", c, err)
	}
}

func TestWhereTheFileIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, user := range map[string]string{"docker/config.json": "docker", "home/.docker/config.json": "home", "auth.json": "podman"} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, `{"auths":{"reg.example":{"auth":"`+basic(user, "p")+`"}}}`)
	}
	for want, env := range map[string]map[string]string{
		"docker": {"DOCKER_CONFIG": dir + "/docker", "HOME": dir + "/home"},
		"home":   {"HOME": dir + "/home", "REGISTRY_AUTH_FILE": dir + "/auth.json"},
		"podman": {"HOME": dir + "/nobody", "REGISTRY_AUTH_FILE": dir + "/auth.json"},
		"":       {"HOME": dir + "/nobody"},
	} {
		d := credential.NewDocker(credential.DockerOptions{Getenv: func(k string) string { return env[k] }})
		if c, err := d.Credential(t.Context(), "reg.example", ""); err != nil || c.Username != want {
			t.Errorf("%v: %+v, %v; want %q", env, c, err, want)
		}
	}
}

const secret = "s3cr3t-value"

func TestErrorsTellNoSecret(t *testing.T) {
	t.Parallel()
	missing := credential.NewDocker(credential.DockerOptions{Path: filepath.Join(t.TempDir(), "none.json")})
	if _, err := missing.Credential(t.Context(), "reg.example", ""); err == nil {
		t.Error("a file that was named is not there, and nobody is told")
	}
	for name, text := range map[string]string{
		"no JSON": `{"auths": ` + secret, "not base64": `{"auths":{"reg.example":{"auth":"!!` + secret + `"}}}`,
		"no colon":  `{"auths":{"reg.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte(secret)) + `"}}}`,
		"too large": `{"auths":{}}` + strings.Repeat(" ", 5<<20),
	} {
		d, path := docker(t, text)
		c, err := d.Credential(t.Context(), "reg.example", "")
		if err == nil || c != (oci.Credential{}) {
			t.Errorf("%s: %+v, %v", name, c, err)
			continue
		}
		if strings.Contains(err.Error(), secret) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// helper puts a credential helper of that name on the PATH.
func helper(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "docker-credential-"+name), "#!/bin/sh\n"+script)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestHelpers(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	helper(t, "good", `echo x >> `+count+`
read host
case $host in
reg.example) echo '{"ServerURL":"reg.example","Username":"u","Secret":"p"}';;
token.example) echo '{"Username":"<token>","Secret":"refresh"}';;
https://index.docker.io/v1/) echo '{"Username":"hub","Secret":"h"}';;
*) echo "credentials not found in native keychain"; exit 1;;
esac`)
	d, _ := docker(t, `{"credsStore":"good"}`)
	for host, want := range map[string]oci.Credential{
		"reg.example": {Username: "u", Password: "p"}, "token.example": {RefreshToken: "refresh"}, "docker.io": {Username: "hub", Password: "h"}, "unknown.example": {},
	} {
		if got, err := d.Credential(t.Context(), host, ""); err != nil || got != want {
			t.Errorf("%s: %+v, %v", host, got, err)
		}
	}
	before, _ := os.ReadFile(count)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { _, _ = d.Credential(t.Context(), "reg.example", "") })
	}
	wg.Wait()
	if after, _ := os.ReadFile(count); len(after) != len(before) {
		t.Errorf("the helper ran %d times more for what it has answered", (len(after)-len(before))/2)
	}
	only, _ := docker(t, `{"credHelpers":{"reg.example":"good"}}`)
	if c, err := only.Credential(t.Context(), "reg.example", ""); err != nil || c.Username != "u" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := only.Credential(t.Context(), "token.example", ""); err != nil || c != (oci.Credential{}) {
		t.Errorf("a helper was asked that is not this registry's: %+v, %v", c, err)
	}
}

func TestBadHelpers(t *testing.T) {
	helper(t, "loud", `echo "`+secret+`" >&2; echo "`+secret+`"; exit 1`)
	d, _ := docker(t, `{"credsStore":"loud"}`)
	if c, err := d.Credential(t.Context(), "reg.example", ""); err == nil || c != (oci.Credential{}) || strings.Contains(err.Error(), secret) {
		t.Errorf("%+v, %v", c, err)
	}
	missing, _ := docker(t, `{"credsStore":"is-not-there"}`)
	if _, err := missing.Credential(t.Context(), "reg.example", ""); err == nil {
		t.Error("a helper that is not there")
	}
}

func TestAHelperThatHangs(t *testing.T) {
	helper(t, "hangs", `read host; if [ "$host" = slow.example ]; then exec sleep 2; fi; echo '{"Username":"u","Secret":"p"}'`)
	d, _ := docker(t, `{"credsStore":"hangs"}`)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	done := make(chan error)
	go func() {
		_, err := d.Credential(ctx, "slow.example", "")
		done <- err
	}()
	if c, err := d.Credential(t.Context(), "reg.example", ""); err != nil || c.Username != "u" {
		t.Errorf("another registry waits for the helper that hangs: %+v, %v", c, err)
	}
	if err := <-done; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(fmt.Sprint(err), "slow.example") {
		t.Errorf("%v", err)
	}
}
