package vault_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/vault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/keys/kube"
)

// TestANamespacesVaultLeadsNotToMetadata: the address of a provider of a namespace is its
// author's choice, and leads Boltseal to no metadata service, by number, by name, by a
// name that leads there, or by a proxy. A provider of the cluster may name what it likes.
func TestANamespacesVaultLeadsNotToMetadata(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	inside := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	inside.Config.ConnState = func(net.Conn, http.ConnState) { reached.Add(1) }
	t.Cleanup(inside.Close)
	var proxied atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		proxied.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(proxy.Close)
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	fetch := func(namespace, address string, transport *http.Transport) error {
		objects := kube.Objects{Client: fake.NewClientBuilder().WithObjects(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "vault"},
			Data: map[string][]byte{"token": []byte("t"), vault.EntryAddress: []byte(address)}}).Build()}
		ref := &keys.SecretRef{Name: "vault", Key: "token"}
		if namespace == "" {
			ref.Namespace = "team"
		}
		p, err := (vault.Parameters{Address: address, Auth: vault.Auth{Method: vault.MethodToken, TokenRef: ref}, KV: []vault.KV{{Path: "a"}}}).Open(keys.Env{Transport: transport, Objects: objects}, namespace)
		if err != nil {
			t.Fatal(err)
		}
		groups, err := p.Fetch(t.Context())
		if err != nil || len(groups) != 1 {
			t.Fatalf("%+v, %v", groups, err)
		}
		return groups[0].Err
	}
	// Whatever is dialled answers, as if it were there.
	dialling := func() *http.Transport {
		return &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, inside.Listener.Addr().String())
		}}
	}
	for _, address := range []string{"https://169.254.169.254", "https://[fd00:ec2::254]", "https://metadata.google.internal", "https://METADATA.google.internal.", "https://2852039166", "https://0xa9fea9fe", "https://[::ffff:169.254.169.254]:8200", "https://168.63.129.16"} {
		if err := fetch("team", address, dialling()); !errors.Is(err, boltseal.ErrRefused) || reached.Load() != 0 {
			t.Errorf("%s: %v, %d connections", address, err, reached.Load())
		}
		if err := fetch("team", address, &http.Transport{Proxy: http.ProxyURL(at), DisableKeepAlives: true}); !errors.Is(err, boltseal.ErrRefused) || proxied.Load() != 0 {
			t.Errorf("%s, by a proxy: %v, %d questions", address, err, proxied.Load())
		}
	}
	named := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) {
		us, them := net.Pipe()
		_ = them.Close()
		return elsewhere{us}, nil
	}}
	if err := fetch("team", "https://vault.example", named); !errors.Is(err, boltseal.ErrRefused) {
		t.Errorf("a name that leads there: %v", err)
	}
	if err := fetch("", "https://169.254.169.254", dialling()); errors.Is(err, boltseal.ErrRefused) || reached.Load() == 0 {
		t.Errorf("of the cluster: %v", err)
	}
	if err := fetch("team", "https://vault.example", dialling()); errors.Is(err, boltseal.ErrRefused) {
		t.Errorf("a private address: %v", err)
	}
}

// elsewhere is a connection that a name has led to.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(169, 254, 169, 254), Port: 443}
}
