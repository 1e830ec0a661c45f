package compile

import (
	"errors"
	"net/http"
	"net/url"
	"slices"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
)

// noProxy says that a registry is reached directly, whatever the environment says.
const noProxy = "none"

// proxyFor reads the parameter proxy. The result is nil where it is not set.
func proxyFor(text string) (func(*http.Request) (*url.URL, error), error) {
	switch text {
	case "":
		return nil, nil
	case noProxy:
		return func(*http.Request) (*url.URL, error) { return nil, nil }, nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("it is no proxy: write http://HOST:PORT, https://HOST:PORT, socks5://HOST:PORT or none")
	case u.User != nil:
		return nil, errors.New("a user and a password do not belong into a resource: set HTTPS_PROXY of Boltseal's Pod from a Secret instead")
	case !slices.Contains([]string{"http", "https", "socks5"}, u.Scheme):
		return nil, errors.New(strict.Label(u.Scheme) + " is no way to a proxy: write http, https or socks5")
	}
	return http.ProxyURL(u), nil
}

// identities checks the parameter identities.
func (c *compiler) identities(r resource[v1beta1.StoreSpec], p orasParameters) {
	list, ok := r.node.Get("spec", "parameters", "identities")
	if ok && r.namespace != "" && len(p.Identities) > 0 {
		// The scope decides who is trusted: a namespace could otherwise give its
		// images the name of those that its administrators trust more people with.
		c.fail(r.problem("spec.parameters.identities", "a namespace does not say by which names its images are known: write it in a Store of the cluster"))
		return
	}
	seen := map[boltseal.Place]bool{}
	for i, n := range list.Items() {
		id := p.Identities[i]
		place, err := boltseal.ParsePlace(id.Place)
		switch {
		case err != nil:
			c.fail(r.own(n.At("place", "%s", trim(err))))
		case seen[place]:
			c.fail(r.own(n.At("place", "%s is listed twice", strict.Label(id.Place))))
		}
		seen[place] = true
		if _, err := boltseal.ParsePlace(id.As); err != nil {
			c.fail(r.own(n.At("as", "%s", trim(err))))
		}
	}
	if n := len(p.Identities); n > boltseal.MaxIdentities {
		c.fail(r.problem("spec.parameters.identities", "%d identities; the limit is %d", n, boltseal.MaxIdentities))
	}
}
