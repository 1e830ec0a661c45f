package compile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cloud/alibaba"
	"github.com/boltseal/boltseal/internal/cloud/aws"
	"github.com/boltseal/boltseal/internal/cloud/aws/ecr"
	"github.com/boltseal/boltseal/internal/cloud/azure/acr"
	"github.com/boltseal/boltseal/internal/cloud/gcp/artifactregistry"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/credential/disclosure"
	"github.com/boltseal/boltseal/internal/credential/kube"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/oci"
)

const dockerConfig = "dockerConfig"

// authProviders are the sources of credentials known here.
var authProviders = []string{dockerConfig, acr.WorkloadIdentity, acr.ManagedIdentity, ecr.Name, artifactregistry.Name, alibaba.Name, kube.Name, kube.PodName}

// maxAuthProviders bounds authProviders.
const maxAuthProviders = 16

// credentials reads authProvider and authProviders.
func (c *compiler) credentials(r resource[v1beta1.StoreSpec], p orasParameters) oci.CredentialSource {
	one, single := r.node.Get("spec", "parameters", "authProvider")
	list, several := r.node.Get("spec", "parameters", "authProviders")
	items := list.Items()
	switch {
	case single && several:
		c.fail(r.own(list.Problem("authProvider is set too: keep one of the two")))
		return nil
	case single:
		items = []strict.Node{one}
	case !several:
		if refusal := disclosure.Of(disclosure.Way{Namespace: r.namespace, Diverts: p.diverts()}, "Boltseal's own docker configuration"); refusal != nil {
			c.out.Warnings = append(c.out.Warnings, r.problem("spec.parameters."+refusal.Field, "its registries are read anonymously: %s", refusal.Why))
			return nil
		}
		return c.docker("")
	case len(items) == 0:
		c.fail(r.own(list.Problem("it names none: leave it out, or name one of %s", strings.Join(authProviders, ", "))))
		return nil
	case len(items) > maxAuthProviders:
		c.fail(r.own(list.Problem("%d of them, at most %d", len(items), maxAuthProviders)))
		return nil
	}
	var sources []credential.Named
	for i, n := range items {
		place := "authProvider"
		if several {
			place = fmt.Sprintf("authProviders[%d]", i)
		}
		if !n.IsMapping() {
			c.fail(r.own(n.Problem("must be a mapping with name, and is %s", n.What())))
			continue
		}
		name := n.Text("name")
		if source := c.authProvider(r, p, n, name); source != nil {
			sources = append(sources, credential.Named{Name: name, Place: place, Source: source})
		}
	}
	return credential.NewList(sources...)
}

// authProvider makes one source, nil where something is wrong with it.
func (c *compiler) authProvider(r resource[v1beta1.StoreSpec], p orasParameters, n strict.Node, name string) oci.CredentialSource {
	env := c.deps.Cloud
	if env.Clock == nil {
		env.Clock = c.deps.Clock
	}
	switch name {
	case dockerConfig:
		var a dockerConfigParameters
		if !c.lent(r, p, n, name, "configPath") || !c.decoded(r, n, &a) {
			return nil
		}
		return c.docker(a.ConfigPath)
	case acr.WorkloadIdentity, acr.ManagedIdentity:
		var a acrParameters
		if !c.lent(r, p, n, name, "tokenFile") || !c.decoded(r, n, &a) {
			return nil
		}
		o := acr.Options{Provider: name, ClientID: a.ClientID, TenantID: a.TenantID, Endpoints: a.Endpoints, TokenFile: a.TokenFile,
			Transport: env.Transport, Getenv: env.Getenv, Clock: env.Clock}
		return c.made(r, n, o.Check(), a, func() (oci.CredentialSource, error) { return acr.New(o) })
	case ecr.Name:
		var a ecrParameters
		if !c.lent(r, p, n, name, "tokenFile") || !c.decoded(r, n, &a) {
			return nil
		}
		o := ecr.Options{Endpoints: a.Endpoints, Accounts: a.Accounts, Identity: aws.Options{Authentication: a.Authentication, RoleARN: a.RoleARN, TokenFile: a.TokenFile},
			Transport: env.Transport, Getenv: env.Getenv, Clock: env.Clock}
		return c.made(r, n, o.Check(), a, func() (oci.CredentialSource, error) { return ecr.New(o) })
	case alibaba.Name:
		var a alibabaParameters
		if !c.lent(r, p, n, name, "tokenFile") || !c.decoded(r, n, &a) {
			return nil
		}
		o := alibaba.Options{DefaultInstanceID: a.DefaultInstanceID, Instances: a.Instances, Endpoints: a.Endpoints, Authentication: a.Authentication,
			RoleARN: a.RoleARN, OIDCProviderARN: a.OIDCProviderARN, TokenFile: a.TokenFile, RoleName: a.RoleName,
			Transport: env.Transport, Getenv: env.Getenv, Clock: env.Clock}
		return c.made(r, n, o.Check(), a, func() (oci.CredentialSource, error) { return alibaba.New(o) })
	case artifactregistry.Name:
		var a artifactRegistryParameters
		if !c.lent(r, p, n, name, "tokenFile") || !c.decoded(r, n, &a) {
			return nil
		}
		o := artifactregistry.Options{Endpoints: a.Endpoints, Transport: env.Transport, Getenv: env.Getenv, Clock: env.Clock}
		return c.made(r, n, o.Check(), a, func() (oci.CredentialSource, error) { return artifactregistry.New(o) })
	case kube.Name:
		var a secretsParameters
		if !c.shown(r, p, n, name) || !c.decoded(r, n, &a) {
			return nil
		}
		o := kube.Options{Secrets: a.Secrets, ServiceAccount: a.ServiceAccount, Namespace: r.namespace, Own: env.Namespace, Objects: env.Objects, Clock: env.Clock}
		return c.made(r, n, o.Check(), a, func() (oci.CredentialSource, error) { return kube.New(o) })
	case kube.PodName:
		var a podSecretsParameters
		if !c.shown(r, p, n, name) || !c.decoded(r, n, &a) {
			return nil
		}
		return kube.NoPod{}
	}
	c.fail(r.own(n.At("name", "%s", notKnown("auth provider", name, authProviders))))
	return nil
}

// docker is the source of a docker configuration file, "" for the default one.
func (c *compiler) docker(path string) oci.CredentialSource {
	s, _ := c.deps.Sources.Get(dockerConfig+"\x00"+path, func() (oci.CredentialSource, error) { return c.deps.DockerConfig(path), nil })
	return s
}

// decoded reads an auth provider's parameters.
func (c *compiler) decoded(r resource[v1beta1.StoreSpec], n strict.Node, into any) bool {
	err := n.Decode(into)
	c.fail(r.owned(err))
	return err == nil
}

// made makes a source, or takes that of another Store with the same parameters;
// those of a namespace are its own.
func (c *compiler) made(r resource[v1beta1.StoreSpec], n strict.Node, problems []keys.Problem, parameters any, build func() (oci.CredentialSource, error)) oci.CredentialSource {
	for _, p := range problems {
		c.fail(r.own(at(n, p.Field, p.Message)))
	}
	if len(problems) > 0 {
		return nil
	}
	key, err := json.Marshal(parameters)
	if err == nil {
		var s oci.CredentialSource
		if s, err = c.deps.Sources.Get(r.namespace+"\x00"+string(key), build); err == nil {
			return s
		}
	}
	c.fail(r.own(n.Problem("%s", trim(err))))
	return nil
}

// at is a problem of a field such as endpoints[2], at the place of that item.
func at(n strict.Node, field, message string) strict.Problem {
	list, rest, ok := strings.Cut(field, "[")
	digits, rest, closed := strings.Cut(rest, "]")
	if i, err := strconv.Atoi(digits); ok && closed && err == nil && i >= 0 {
		if items, found := n.Get(list); found && i < len(items.Items()) {
			item := items.Items()[i]
			if rest == "" {
				return item.Problem("%s", message)
			}
			return item.At(strings.TrimPrefix(rest, "."), "%s", message)
		}
	}
	return n.At(field, "%s", message)
}

// lent reports whether a Store may use an identity of Boltseal's own. A namespace's
// may not, unless the cluster's administrator lets it, and never together with what
// decides who gets to see the credential; file is the parameter that names a file of
// Boltseal's.
func (c *compiler) lent(r resource[v1beta1.StoreSpec], p orasParameters, n strict.Node, name, file string) bool {
	if r.namespace == "" {
		return true
	}
	before := len(c.problems)
	if _, ok := n.Get(file); ok {
		c.fail(r.own(n.At(file, "it would name a file of Boltseal's own: only a Store of the cluster may")))
	}
	if name != dockerConfig && !slices.Contains(c.deps.LentTo, r.namespace) {
		c.fail(r.own(n.At("name", "%s is the identity of Boltseal itself, which namespace %s may not use: use a Store of the cluster, or have serve started with --lend-identity-to %s", name, r.namespace, r.namespace)))
	}
	c.disclosed(r, p, n, name+", the identity of Boltseal itself,")
	return len(c.problems) == before
}

// shown reports whether a Store may use its namespace's pull Secrets. They name the
// registries that they are for.
func (c *compiler) shown(r resource[v1beta1.StoreSpec], p orasParameters, n strict.Node, name string) bool {
	return c.disclosed(r, p, n, "what "+name+" reads of Secrets")
}

// disclosed reports whether a Store may show a credential, what in words.
func (c *compiler) disclosed(r resource[v1beta1.StoreSpec], p orasParameters, n strict.Node, what string) bool {
	refusal := disclosure.Of(disclosure.Way{Namespace: r.namespace, Diverts: p.diverts()}, what)
	if refusal != nil {
		c.fail(r.own(n.At("name", "%s: keep one of the two", refusal.Why)))
	}
	return refusal == nil
}

// diverts is the parameter by which a Store's credentials could reach somebody else
// than the registry of that name, "" where there is none. A proxy sees TLS only.
func (p orasParameters) diverts() string {
	switch {
	case p.UseHTTP:
		return "useHttp"
	case p.CAFile != "":
		return "caFile"
	case p.CACert != "":
		return "caCert"
	}
	for i, reg := range p.Registries {
		of := func(field string) string { return fmt.Sprintf("registries[%d].%s", i, field) }
		switch {
		case reg.UseHTTP:
			return of("useHttp")
		case reg.CAFile != "":
			return of("caFile")
		case reg.CACert != "":
			return of("caCert")
		case len(reg.AuthRealms) > 0:
			return of("authRealms")
		}
	}
	return ""
}
