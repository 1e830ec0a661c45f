package credential

import (
	"cmp"
	"encoding/json"
	"errors"
	"path"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/oci"
)

// Auths are the credentials that a Secret of Kubernetes holds for registries.
type Auths struct {
	c *config
	// globs are the hosts with * among the entries, the longest first.
	globs []string
}

// ParseAuths reads .dockerconfigjson, or with legacy .dockercfg, which has the entries
// of auths alone (Kubernetes, "Docker config Secrets"). What would run a program is
// refused. Errors hold nothing of what is in it.
func ParseAuths(b []byte, legacy bool) (*Auths, error) {
	if legacy {
		var auths map[string]json.RawMessage
		if err := json.Unmarshal(b, &auths); err != nil {
			return nil, describe(err, b)
		}
		var err error
		if b, err = json.Marshal(map[string]any{"auths": auths}); err != nil {
			return nil, err
		}
	}
	c, err := parseConfig(b)
	if err != nil {
		return nil, err
	}
	if len(c.helpers) > 0 || c.store != "" {
		return nil, errors.New("it has credHelpers or credsStore, which would run a program: a Secret may contain auths only")
	}
	a := &Auths{c: c}
	for host := range c.auths {
		if strings.Contains(host, "*") {
			a.globs = append(a.globs, host)
		}
	}
	slices.SortFunc(a.globs, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	return a, nil
}

// Credential returns that of the longest path of repositories which fits, the zero
// one where there is none for the host. An entry for the host itself counts before
// those with *, which stands for any part of one label (Kubernetes, "Images":
// interpretation of config.json).
func (a *Auths) Credential(host, repository string) (oci.Credential, error) {
	c, err := a.c.credential(host, repository)
	if err != nil || !c.Anonymous() {
		return c, err
	}
	host, _ = canonical(host)
	for _, g := range a.globs {
		if globs(g, host) {
			if c, err = a.c.credential(g, repository); err != nil || !c.Anonymous() {
				return c, err
			}
		}
	}
	return oci.Credential{}, nil
}

// globs matches a host label by label, so that no * reaches over a dot. A port must
// be the same.
func globs(pattern, host string) bool {
	pattern, port, ported := strings.Cut(pattern, ":")
	name, at, _ := strings.Cut(host, ":")
	want, have := strings.Split(pattern, "."), strings.Split(name, ".")
	if len(want) != len(have) || ported && port != at || !ported && at != "" {
		return false
	}
	for i, w := range want {
		if ok, err := path.Match(w, have[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
