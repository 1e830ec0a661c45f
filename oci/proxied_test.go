package oci_test

import (
	"bufio"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/oci"
)

// TestAProxyIsSentToNoMetadata: what an image may not lead to without a proxy it may
// not with one, by number in whatever form and by name, and neither may a registry
// that a namespace names.
func TestAProxyIsSentToNoMetadata(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	asked := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			q, err := http.ReadRequest(bufio.NewReader(c))
			if err == nil {
				asked <- q.Method + " " + q.RequestURI
			}
			_ = c.Close()
		}
	}()
	proxy := http.ProxyURL(&url.URL{Scheme: "http", Host: l.Addr().String()})
	for _, c := range []struct {
		host           string
		named, guarded bool
		refused        bool
	}{
		{"169.254.169.254", false, false, true},
		{"169.254.169.254:80", false, false, true},
		{"168.63.129.16", false, false, true},
		{"100.100.100.200", false, false, true},
		{"[fd00:ec2::254]", false, false, true},
		{"[::ffff:169.254.169.254]:443", false, false, true},
		{"2852039166:443", false, false, true},
		{"0xa9.254.43518:443", false, false, true},
		{"metadata.google.internal", false, false, true},
		{"METADATA.google.internal:80", false, false, true},
		{"169.254.169.254", true, true, true},
		{"metadata.google.internal", true, true, true},
		{"169.254.169.254", true, false, false}, // an administrator's own word
		{"10.1.2.3:5000", false, false, false},
		{"registry.example", false, false, false},
	} {
		for _, plain := range []bool{false, true} {
			o := oci.Options{PlainHTTP: plain, GuardHosts: c.guarded, Limits: oci.Limits{Attempts: 1, Throttled: 1}, Proxy: proxy}
			if c.named {
				o.Hosts = map[string]oci.HostOptions{c.host: {PlainHTTP: plain}}
			}
			r, err := oci.NewRegistry(o)
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Resolve(t.Context(), boltseal.Reference{Registry: strings.ToLower(c.host), Repository: "latest/meta-data", Tag: "x"})
			got := ""
			select {
			case got = <-asked:
			default:
			}
			if (got == "") != c.refused || errors.Is(err, boltseal.ErrRefused) != c.refused {
				t.Errorf("%s (named %v, guarded %v, plain %v): the proxy was asked %q, %v", c.host, c.named, c.guarded, plain, got, err)
			}
		}
	}
}

// TestRegistriesThatANamespaceNamesAreGuarded without a proxy, too.
func TestRegistriesThatANamespaceNamesAreGuarded(t *testing.T) {
	t.Parallel()
	o := oci.Options{GuardHosts: true, Limits: oci.Limits{Attempts: 1, Throttled: 1}, Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		Hosts: map[string]oci.HostOptions{"169.254.169.254": {}}}
	r, err := oci.NewRegistry(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = r.Resolve(t.Context(), boltseal.Reference{Registry: "169.254.169.254", Repository: "a", Tag: "x"}); !errors.Is(err, boltseal.ErrRefused) {
		t.Error(err)
	}
}
