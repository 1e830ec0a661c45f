package credential

import (
	"encoding/json"
	"errors"

	"github.com/boltseal/boltseal/oci"
)

// Auths are the credentials that a Secret of Kubernetes holds for registries.
type Auths struct{ c *config }

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
		return nil, errors.New("it has credHelpers or credsStore, which would run a program: a Secret may hold auths only")
	}
	return &Auths{c}, nil
}

// Credential returns that of the longest path of repositories which fits, the zero
// one where there is none for the host.
func (a *Auths) Credential(host, repository string) (oci.Credential, error) {
	return a.c.credential(host, repository)
}
