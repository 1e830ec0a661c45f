package oci

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/boltseal/boltseal"
)

func TestKindOf(t *testing.T) {
	t.Parallel()
	for kind, addresses := range map[addressKind]string{
		publicAddress: "8.8.8.8 1.1.1.1 100.63.255.255 100.128.0.0 172.15.0.1 172.32.0.1 168.63.129.15 2606:4700::1111 64:ff9b::808:808 2002:808:808::1",
		privateAddress: "127.0.0.1 127.255.255.254 ::1 10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fc00::1 fd12:3456::1 fec0::1 " +
			"::ffff:10.0.0.1 64:ff9b::a00:1 64:ff9b:1::a00:1 2002:a00:1::1 ::10.0.0.1",
		internalAddress: "169.254.169.254 169.254.0.1 fe80::1 fe80::1%eth0 fd00:ec2::254 fd20:ce::254 100.100.100.200 168.63.129.16 192.0.0.192 " +
			"0.0.0.0 0.1.2.3 :: 224.0.0.1 255.255.255.255 ff02::1 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe 64:ff9b:1::a9fe:a9fe 2002:a9fe:a9fe::1 ::169.254.169.254",
	} {
		for _, a := range strings.Fields(addresses) {
			if got := kindOf(netip.MustParseAddr(a)); got != kind {
				t.Errorf("%s: %d, want %d", a, got, kind)
			}
		}
	}
}

func TestEndsInNumber(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"2852039166": true, "0xa9fea9fe": true, "0XA9": true, "169.254.43518": true, "169.254.169.254.": true, "a.b.0x1": true,
		"registry.example": false, "a1": false, "1a.example": false, "": false, ".": false, "x0x1": false,
	} {
		if got := endsInNumber(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestLookUpKind(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]addressKind{
		"10.1.2.3:5000": privateAddress, "[fd12::1]:443": privateAddress, "[::1]": privateAddress, "8.8.8.8": publicAddress,
		"localhost:5000": privateAddress, "169.254.169.254": internalAddress,
	} {
		if got, ok := lookUpKind(t.Context(), address); got != want || !ok {
			t.Errorf("%s: %d, %v", address, got, ok)
		}
	}
	// What was not found is not remembered.
	h := &host{address: "localhost"}
	if h.addressKind(t.Context()) != privateAddress || h.kind.Load() != 1+int32(privateAddress) {
		t.Errorf("kind %d", h.kind.Load())
	}
	h = &host{address: "no name at all"}
	if h.addressKind(t.Context()) != publicAddress || h.kind.Load() != 0 {
		t.Errorf("kind %d", h.kind.Load())
	}
}

// A registry of the public network does not lead into the private one. The
// registry here is on loopback, so it is declared to be a public one.
func TestPublicRegistryLeadsInside(t *testing.T) {
	t.Parallel()
	inside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the inside was reached") }))
	t.Cleanup(inside.Close)
	byName := strings.Replace(inside.URL, "127.0.0.1", "localhost", 1)
	for name, answer := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, inside.URL, http.StatusTemporaryRedirect)
		},
		"redirect/name": func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, byName, http.StatusTemporaryRedirect)
		},
		"realm/name": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+byName+`"`)
			w.WriteHeader(401)
		},
	} {
		s := httptest.NewServer(answer)
		t.Cleanup(s.Close)
		r, err := NewRegistry(Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.Close)
		at := strings.TrimPrefix(s.URL, "http://")
		r.hosts.get(at).kind.Store(1 + int32(publicAddress))
		_, err = r.Resolve(t.Context(), boltseal.Reference{Registry: at, Repository: "a/b", Tag: "v1"})
		if !errors.Is(err, boltseal.ErrRefused) || !strings.Contains(err.Error(), "a private address") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	var table hostTable
	table.init(Options{Hosts: map[string]HostOptions{"plain.example": {PlainHTTP: true}, "127.0.0.1:1": {}}}.withDefaults())
	for name, want := range map[string]string{
		"docker.io": "https://registry-1.docker.io", "registry.example": "https://registry.example", "plain.example": "http://plain.example",
		"localhost": "http://localhost", "a.localhost:5000": "http://a.localhost:5000", "127.0.0.2:5000": "http://127.0.0.2:5000",
		"[::1]:5000": "http://[::1]:5000", "127.0.0.1:1": "https://127.0.0.1:1", "localhost.example": "https://localhost.example",
	} {
		if h := table.get(name); h.scheme+"://"+h.address != want {
			t.Errorf("%s: %s://%s, want %s", name, h.scheme, h.address, want)
		}
	}
}
