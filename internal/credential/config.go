package credential

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/oci"
)

// dockerHubServer is how `docker login` writes Docker Hub.
const dockerHubServer = "https://index.docker.io/v1/"

// config is what matters in a docker configuration file (docker/cli,
// config.json: auths, credHelpers, credsStore).
type config struct {
	auths   map[string][]authEntry // by canonical host; the one to prefer first
	helpers map[string]string      // by canonical host
	store   string                 // the helper for all other hosts, "" for none
}

// authEntry is one entry of auths, not yet decoded: one that is broken must not
// stand in the way of the others.
type authEntry struct {
	key  string // as it stands in the file
	path string // of the repositories that it is for, "" for all
	raw  json.RawMessage
}

// parseConfig reads a docker configuration. Errors never hold what is in it.
func parseConfig(b []byte) (*config, error) {
	var doc struct {
		Auths       map[string]json.RawMessage `json:"auths"`
		CredHelpers map[string]string          `json:"credHelpers"`
		CredsStore  string                     `json:"credsStore"`
	}
	if len(bytes.TrimSpace(b)) > 0 {
		if err := json.Unmarshal(b, &doc); err != nil {
			return nil, describe(err, b)
		}
	}
	c := &config{auths: map[string][]authEntry{}, helpers: map[string]string{}, store: doc.CredsStore}
	for key, raw := range doc.Auths {
		host, path := canonical(key)
		c.auths[host] = append(c.auths[host], authEntry{key, path, raw})
	}
	for host, entries := range c.auths {
		slices.SortFunc(entries, func(a, b authEntry) int {
			return cmp.Or(cmp.Compare(len(b.path), len(a.path)), preferred(host, a.key, b.key))
		})
	}
	chosen := map[string]string{}
	for key, helper := range doc.CredHelpers {
		host, _ := canonical(key)
		if old, taken := chosen[host]; !taken || preferred(host, key, old) < 0 {
			chosen[host], c.helpers[host] = key, helper
		}
	}
	return c, nil
}

// preferred orders two names of one registry: the one docker writes first, then
// by their letters, so that the choice is the same each time.
func preferred(host, a, b string) int {
	own := func(key string) int {
		if key == serverName(host) {
			return 0
		}
		return 1
	}
	return cmp.Or(own(a)-own(b), strings.Compare(a, b))
}

// describe tells where a JSON text breaks, without quoting it.
func describe(err error, b []byte) error {
	var syntax *json.SyntaxError
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("line %d is not JSON", 1+bytes.Count(b[:min(int(syntax.Offset), len(b))], []byte("\n")))
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Errorf("its field %.100q is not of the right type", wrong.Field)
	}
	return errors.New("it is not a JSON object")
}

// canonical takes a name in a docker configuration apart: host:port,
// https://host/v1/, or host/path as podman writes it.
func canonical(key string) (host, path string) {
	rest := strings.TrimPrefix(strings.TrimPrefix(key, "http://"), "https://")
	host, path, _ = strings.Cut(rest, "/")
	host = strings.ToLower(host)
	if h, ok := strings.CutSuffix(host, ":443"); ok {
		host = h
	}
	switch host {
	case "index.docker.io", "registry-1.docker.io":
		host = boltseal.DockerHub
	}
	path = strings.Trim(path, "/")
	if path == "v1" || path == "v2" { // of the API, in the form of old versions
		path = ""
	}
	return host, path
}

// serverName is what docker calls a registry towards its credential helpers.
func serverName(host string) string {
	if host == boltseal.DockerHub {
		return dockerHubServer
	}
	return host
}

// helper returns the name of the credential helper for a host, "" for none, and
// whether it is for this host alone.
func (c *config) helper(host string) (name string, own bool) {
	host, _ = canonical(host)
	if h := c.helpers[host]; h != "" {
		return h, true
	}
	return c.store, false
}

// credential returns what the file itself holds for a repository: of several
// entries the one with the longest path.
func (c *config) credential(host, repository string) (oci.Credential, error) {
	host, _ = canonical(host)
	for _, e := range c.auths[host] {
		if rest, ok := strings.CutPrefix(repository, e.path); ok && (e.path == "" || rest == "" || rest[0] == '/') {
			return e.decode()
		}
	}
	return oci.Credential{}, nil
}

func (e authEntry) decode() (oci.Credential, error) {
	var doc struct {
		Auth          string `json:"auth"` // base64 of user:password
		Username      string `json:"username"`
		Password      string `json:"password"`
		IdentityToken string `json:"identitytoken"`
		RegistryToken string `json:"registrytoken"`
	}
	broken := func(what string) (oci.Credential, error) {
		return oci.Credential{}, fmt.Errorf("auths: %.100q: %s; log in to that registry again", e.key, what)
	}
	if err := json.Unmarshal(e.raw, &doc); err != nil {
		return broken(describe(err, e.raw).Error())
	}
	cred := oci.Credential{Username: doc.Username, Password: doc.Password, RefreshToken: doc.IdentityToken, AccessToken: doc.RegistryToken}
	if doc.Auth != "" {
		b, err := base64.StdEncoding.DecodeString(doc.Auth)
		if err != nil {
			return broken("its auth is not base64")
		}
		user, password, ok := strings.Cut(string(b), ":")
		if !ok {
			return broken("its auth is not the base64 of USER:PASSWORD")
		}
		// Old versions of docker padded the password with NUL bytes.
		cred.Username, cred.Password = user, strings.Trim(password, "\x00")
	}
	if cred.Username == tokenUser {
		cred.Username, cred.Password, cred.RefreshToken = "", "", cmp.Or(cred.RefreshToken, cred.Password)
	}
	return cred, nil
}
