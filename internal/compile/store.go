package compile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/oci"
)

var storeTypes = []string{"oras"}

const fieldScopes = "spec.parameters.scopes"

// store adds a Store to those of its namespace, or says all that is wrong with it.
func (c *compiler) store(r resource[v1beta1.StoreSpec]) {
	if r.spec.Name != storeTypes[0] {
		c.fail(unknown(r, "spec.name", "store", r.spec.Name, storeTypes))
		return
	}
	before, used := len(c.problems), len(c.files.used)
	c.noPlugin(r.problem, r.spec.Source)
	var p orasParameters
	if err := r.parameters(&p); err != nil {
		c.fail(err)
		return
	}
	o := oci.Options{PlainHTTP: p.UseHTTP, UserAgent: c.deps.UserAgent, Clock: c.deps.Clock, Hosts: map[string]oci.HostOptions{},
		GuardHosts: r.namespace != "", Room: c.deps.Room}
	var err error
	if o.RootCAs, err = c.files.rootCAs(p.CAFile, p.CACert); err != nil {
		c.failRead(r.problem("spec.parameters", "%v", err), err)
	}
	if o.Proxy, err = proxyFor(p.Proxy); err != nil {
		c.fail(r.problem("spec.parameters.proxy", "%v", err))
	}
	c.registries(r, p, o.Hosts)
	c.scopes(r, p.Scopes)
	c.identities(r, p)
	o.Credentials = c.credentials(r, p)
	c.ignored(r, p)
	read := c.files.state(used)
	if len(c.problems) > before {
		was := r.from.lastMade()
		if !c.lenient || was == nil {
			return
		}
		// The same text worked, so it is files: as they were until they can be read.
		c.problems, o, read = c.problems[:before], was.options, was.read
	}
	var reg *oci.Registry
	if r.from != nil {
		reg, err = r.from.registryOf(o, read) // it outlives the configuration, and closes it
	} else if reg, err = oci.NewRegistry(o); err == nil {
		c.out.closers = append(c.out.closers, reg.Close)
	}
	if err != nil {
		c.fail(r.problem("spec.parameters", "%s", trim(err)))
		return
	}
	clock, wrap := c.deps.Clock, c.deps.Wrap
	around := func(reg *oci.Registry, identity string) (store boltseal.Store, err error) {
		store = reg
		if len(p.Mirrors) > 0 {
			if store, err = oci.NewMirrors(oci.MirrorOptions{Store: reg, Mirrors: p.mirrors(), Clock: clock}); err != nil {
				return nil, err
			}
		}
		if wrap != nil {
			store = wrap(asked(r, read, identity), store)
		}
		return store, nil
	}
	store, err := around(reg, "")
	if err != nil {
		c.fail(r.problem("spec.parameters.mirrors", "%s", trim(err)))
		return
	}
	store = c.dependent(r, store, o.Credentials, func(identity string, credentials oci.CredentialSource) (boltseal.Store, error) {
		o := o
		o.Credentials = credentials
		reg, err := oci.NewRegistry(o)
		if err != nil {
			return nil, err
		}
		return around(reg, identity)
	})
	c.stores[r.namespace] = append(c.stores[r.namespace], boltseal.ScopedStore{Name: r.name, Scopes: p.Scopes, Store: store, Identities: p.identities()})
}

// asked names who is asked by a Store's settings and what was read of files, and in
// whose name: identity is that
// of a Pod's own credentials, or says that a stranger asks; "" for the namespace itself.
func asked(r resource[v1beta1.StoreSpec], read, identity string) string {
	sum := sha256.New()
	for _, part := range []string{r.String(), string(r.spec.Parameters.Raw), read, identity} {
		_, _ = fmt.Fprintf(sum, "%d\n%s", len(part), part)
	}
	return string(sum.Sum(nil))
}

// noPlugin refuses what says where a plugin's binary is.
func (c *compiler) noPlugin(problem func(field, format string, a ...any) strict.Problem, source *v1beta1.PluginSource) {
	if source != nil {
		c.fail(problem("spec.source", "plugins are not run; leave it out"))
	}
}

// ignored warns of what Ratify has and we need not, and of what cannot be meant.
func (c *compiler) ignored(r resource[v1beta1.StoreSpec], p orasParameters) {
	warn := func(field, why string) {
		c.out.Warnings = append(c.out.Warnings, r.problem("spec.parameters."+field, "it has no effect: %s", why))
	}
	if p.LocalCachePath != "" {
		warn("localCachePath", "nothing is kept on disk")
	}
	if p.CosignEnabled {
		warn("cosignEnabled", "cosign signatures are not known here")
	}
	if p.UseHTTP && p.CAFile != "" {
		warn("caFile", "useHttp speaks without TLS")
	}
	if p.UseHTTP && p.CACert != "" {
		warn("caCert", "useHttp speaks without TLS")
	}
}

// registries reads the settings of single registries into hosts.
func (c *compiler) registries(r resource[v1beta1.StoreSpec], p orasParameters, hosts map[string]oci.HostOptions) {
	list, _ := r.node.Get("spec", "parameters", "registries")
	for i, n := range list.Items() {
		reg := p.Registries[i]
		fail := func(field, format string, a ...any) { c.fail(r.own(n.At(field, format, a...))) }
		host, err := registryHost(reg.Host)
		if err != nil {
			fail("host", "%v", err)
			continue
		}
		if _, twice := hosts[host]; twice {
			fail("host", "%s is listed twice", host)
		}
		h := oci.HostOptions{PlainHTTP: reg.UseHTTP || p.UseHTTP && reg.CAFile == "" && reg.CACert == "", AuthRealms: reg.AuthRealms}
		if h.RootCAs, err = c.files.rootCAs(reg.CAFile, reg.CACert); err != nil {
			c.failRead(r.own(n.At("host", "%s: %v", host, err)), err)
		}
		if r.namespace != "" && reg.ClientKeyFile != "" {
			fail("clientKeyFile", "%s: it would name a key of Boltseal's own: only a Store of the cluster may", host)
		} else if h.Certificates, err = c.files.clientCertificates(reg); err != nil {
			c.failRead(r.own(n.At("host", "%s: %v", host, err)), err)
		}
		if h.Proxy, err = proxyFor(reg.Proxy); err != nil {
			fail("proxy", "%s: %v", host, err)
		}
		if reg.UseHTTP && (h.RootCAs != nil || h.Certificates != nil) {
			fail("useHttp", "%s: certificates are of no use without TLS: keep one of the two", host)
		}
		hosts[host] = h
	}
}

// registryHost is a registry's host in the form that image references are read in.
func registryHost(text string) (string, error) {
	if text == "" {
		return "", errors.New("it names no host")
	}
	ref, err := boltseal.ParseReference(text + "/host/of")
	if err != nil || ref.Repository != "host/of" {
		return "", fmt.Errorf("%s is no host as it is written in an image's name, such as ghcr.io or registry.example:5000", strict.Label(text))
	}
	return ref.Registry, nil
}

func (c *compiler) scopes(r resource[v1beta1.StoreSpec], scopes []string) {
	list, _ := r.node.Get(strings.Split(fieldScopes, ".")...)
	for i, n := range list.Items() {
		if err := new(boltseal.Scopes).Take(boltseal.ScopedStore{Name: r.name, Scopes: scopes[i : i+1]}); err != nil {
			c.fail(r.own(n.Problem("%s is no scope: write *, a host, *.domain or host/path", strict.Label(scopes[i]))))
		}
	}
}

// collide finds out whether the namespace's youngest Store serves what another
// one does, and then leaves it out.
func (c *compiler) collide(r resource[v1beta1.StoreSpec]) {
	stores := c.stores[r.namespace]
	if len(stores) == 0 || stores[len(stores)-1].Name != r.name {
		return
	}
	taken := c.taken[r.namespace]
	if taken == nil {
		taken = &boltseal.Scopes{}
		c.taken[r.namespace] = taken
	}
	if err := taken.Take(stores[len(stores)-1]); err != nil {
		c.fail(r.problem(fieldScopes, "%s: give one of them other scopes", trim(err)))
		c.stores[r.namespace] = stores[:len(stores)-1]
	}
}
