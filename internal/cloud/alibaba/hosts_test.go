package alibaba_test

import (
	"errors"
	"net/http"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/alibaba"
	"github.com/boltseal/boltseal/internal/credential"
)

// TestHosts: the registry's own hosts, in their forms.
func TestHosts(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	s := h.source(t, alibaba.Options{})
	for _, at := range []string{
		host, "acme-registry-vpc.cn-hangzhou.cr.aliyuncs.com", "acme-corp-registry.cn-hangzhou.cr.aliyuncs.com", "acme-registry.distributed.cn-hangzhou.cr.aliyuncs.com",
		"registry.cn-hangzhou.aliyuncs.com", "registry-vpc.cn-hangzhou.aliyuncs.com", "registry-intl-vpc.cn-hangzhou.aliyuncs.com", "registry.cn-hangzhou.cr.aliyuncs.com",
	} {
		if _, err := h.get(t, s, at); err != nil {
			t.Errorf("%s: %v", at, err)
		}
	}
}

// TestLookalikes: no role is taken on, and no user asked for, for a host that is not
// the registry's.
func TestLookalikes(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	lookalikes := []string{
		host + ".evil.example", "acme-registry.cn-hangzhou.cr.aliyuncs.com.", "ACME-registry.cn-hangzhou.cr.aliyuncs.com", host + ":443", "user@" + host, "evil.example/" + host,
		"acme-registry.cn-hangzhou.craliyuncs.com", "acme-registry.cn-hangzhou.cr.evilaliyuncs.com", "acme-registry.oss-cn-hangzhou.aliyuncs.com", "registry.oss-cn-hangzhou.aliyuncs.com",
		"acme-registry.cn-hangzhou.aliyuncs.com", "acme-registry.oss-cn-hangzhou.cr.aliyuncs.com", "x.acme-registry.cn-hangzhou.cr.aliyuncs.com", "-registry.cn-hangzhou.cr.aliyuncs.com",
		"evil.cn-hangzhou.cr.aliyuncs.com", "acmeregistry.cn-hangzhou.cr.aliyuncs.com", "acme-registry.cn-hangzhou.fc.aliyuncs.com", "aliyuncs.com", "cr.aliyuncs.com", "acme-registry.cn.cr.aliyuncs.com",
		"acme-registry.cn-hangzhou.cr.аliyuncs.com", "xn--acme-registry.cn-hangzhou.cr.aliyuncs.com", "acme-registry.cn-hangzhou.cr.aliyuncs.com\n", "docker.io", "", "100.100.100.200",
		"acme-registry-.cn-hangzhou.cr.aliyuncs.com", "acme-registry.cn-hangzhou-.cr.aliyuncs.com", "acme-registry.cn-a-b-c-d-e.cr.aliyuncs.com",
	}
	for _, at := range lookalikes {
		h.Serve(at, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked", r.Host) }))
	}
	for _, o := range []alibaba.Options{{}, {Endpoints: []string{"*.cn-hangzhou.cr.aliyuncs.com"}}} {
		s := h.source(t, o)
		for _, at := range lookalikes {
			if _, err := h.get(t, s, at); !errors.Is(err, credential.ErrNotForHost) {
				t.Errorf("%q: %v", at, err)
			}
		}
	}
	// Endpoints narrow.
	for _, e := range []string{"other-registry.cn-hangzhou.cr.aliyuncs.com", "*.cn-beijing.cr.aliyuncs.com"} {
		if _, err := h.get(t, h.source(t, alibaba.Options{Endpoints: []string{e}}), host); !errors.Is(err, credential.ErrNotForHost) {
			t.Errorf("%s: %v", e, err)
		}
	}
	if n := h.asked(""); n != 0 {
		t.Errorf("%d requests", n)
	}
	if _, err := h.get(t, h.source(t, alibaba.Options{Endpoints: []string{"*.cn-hangzhou.cr.aliyuncs.com"}}), host); err != nil {
		t.Error(err)
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	in := func(name, id string) []alibaba.Instance {
		return []alibaba.Instance{{InstanceName: name, InstanceID: id}}
	}
	for _, c := range []struct {
		o     alibaba.Options
		field string
	}{
		{alibaba.Options{}, ""},
		{alibaba.Options{DefaultInstanceID: instance, Instances: in("acme", instance), Endpoints: []string{host}, Authentication: alibaba.RRSA, RoleARN: roleARN, OIDCProviderARN: providerARN, TokenFile: "/token"}, ""},
		{alibaba.Options{Authentication: alibaba.InstanceRole, RoleName: "nodes"}, ""},
		{alibaba.Options{DefaultInstanceID: "acme"}, "defaultInstanceId"},
		{alibaba.Options{Instances: in("", instance)}, "acrInstancesConfig[0].instanceName"},
		{alibaba.Options{Instances: in("acme", "")}, "acrInstancesConfig[0].instanceId"},
		{alibaba.Options{Instances: append(in("acme", instance), in("acme", instance)...)}, "acrInstancesConfig[1].instanceName"},
		{alibaba.Options{Instances: make([]alibaba.Instance, 1000)}, "acrInstancesConfig"},
		{alibaba.Options{Endpoints: []string{"*"}}, "endpoints[0]"},
		{alibaba.Options{Endpoints: []string{"*.evil.example"}}, "endpoints[0]"},
		{alibaba.Options{Authentication: "rsra"}, "authentication"},
		{alibaba.Options{RoleName: "nodes"}, "roleName"},
		{alibaba.Options{Authentication: alibaba.InstanceRole, RoleARN: roleARN}, "roleARN"},
		{alibaba.Options{Authentication: alibaba.InstanceRole, TokenFile: "/token"}, "tokenFile"},
		{alibaba.Options{RoleARN: "boltseal"}, "roleARN"},
		{alibaba.Options{OIDCProviderARN: "boltseal"}, "oidcProviderARN"},
		{alibaba.Options{Authentication: alibaba.InstanceRole, RoleName: "../x"}, "roleName"},
	} {
		_, err := alibaba.New(c.o)
		ps := c.o.Check()
		if c.field == "" && (err != nil || len(ps) > 0) || c.field != "" && (!errors.Is(err, boltseal.ErrConfiguration) || len(ps) != 1 || ps[0].Field != c.field) {
			t.Errorf("%+v: %v, %+v", c.o, err, ps)
		}
	}
}
