package googlesdk

import (
	"context"
	"errors"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/api/cloudkms/v1"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"
	"google.golang.org/api/privateca/v1"

	gcpkms "github.com/boltseal/boltseal/internal/cloud/gcp/kms"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

const (
	pool = "projects/acme/locations/europe-west3/caPools/release"
	key  = "projects/acme/locations/europe-west3/keyRings/signing/cryptoKeys/release"
)

// bearer signs in by the metadata server, with a token that was fetched by hand.
type bearer struct {
	next  http.RoundTripper
	token string
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if b.token != "" {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.next.RoundTrip(r)
}

type house struct {
	cloud  *testcloud.Cloud
	google *testcloud.GoogleKMS
	chain  *testca.Chain
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{cloud: testcloud.Start(t, nil), chain: testca.Test(t, testca.Options{Intermediates: []testca.Spec{{}}})}
	h.google = h.cloud.GoogleKMS(testcloud.NewIssuer(t, "https://oidc.example"), "//iam.googleapis.com/x", "me", "")
	h.google.PageSize = 2
	for n, state := range []string{"", "ENABLED", "DISABLED", "DESTROYED", "ENABLED", "ENABLED"} {
		if n > 0 {
			h.google.Version(key, n, testcloud.GoogleVersion{State: state, Public: h.chain.Leaf().PublicKey})
		}
	}
	for _, n := range []string{"a", "b", "c"} {
		h.google.Authority(pool+"/certificateAuthorities/"+n, testcloud.GoogleAuthority{PEM: []string{string(h.chain.Certs[1].PEM()), string(h.chain.Root().PEM())}})
	}
	return h
}

// services are the SDK's, signed in or not.
func (h *house) services(t *testing.T, signedIn bool) (*cloudkms.Service, *privateca.Service) {
	t.Helper()
	token := ""
	if signedIn {
		req, err := http.NewRequest(http.MethodGet, "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Metadata-Flavor", "Google")
		resp, err := h.cloud.Transport().RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		token = h.cloud.Secrets()[0]
	}
	c := option.WithHTTPClient(&http.Client{Transport: bearer{h.cloud.Transport(), token}})
	k, err := cloudkms.NewService(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	p, err := privateca.NewService(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return k, p
}

// TestOwnClientSeesWhatTheSDKSees: what the SDK reads from the services is what the
// provider makes of them.
func TestOwnClientSeesWhatTheSDKSees(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	k, p := h.services(t, true)
	v, err := gcpkms.Parameters{CertificateAuthorities: []gcpkms.Authority{{Name: pool}}, Keys: []gcpkms.Key{{Name: key, VersionHistoryLimit: 3}}}.Open(
		keys.Env{Transport: h.cloud.Transport(), Getenv: func(string) string { return "" }}, "")
	if err != nil {
		t.Fatal(err)
	}
	groups, err := v.Fetch(t.Context())
	if err != nil || groups[0].Err != nil || groups[1].Err != nil {
		t.Fatalf("%+v %v", groups, err)
	}
	versions := k.Projects.Locations.KeyRings.CryptoKeys.CryptoKeyVersions
	seen := map[string]*cloudkms.CryptoKeyVersion{}
	if err := versions.List(key).Pages(t.Context(), func(page *cloudkms.ListCryptoKeyVersionsResponse) error {
		for _, x := range page.CryptoKeyVersions {
			seen[x.Name[strings.LastIndexByte(x.Name, '/')+1:]] = x
		}
		return nil
	}); err != nil || len(seen) != 5 {
		t.Fatalf("%v %v", seen, err)
	}
	for _, it := range groups[1].Items {
		x := seen[it.Version]
		if x == nil || (x.State == "ENABLED") != (it.Use != keys.Disabled) {
			t.Errorf("%+v, the SDK has %+v", it, x)
			continue
		}
		if at, err := time.Parse(time.RFC3339Nano, x.CreateTime); err != nil || !at.Equal(it.Created) {
			t.Errorf("%v, the SDK has %s", it.Created, x.CreateTime)
		}
		pub, err := versions.GetPublicKey(x.Name).Context(t.Context()).Do()
		var refused *googleapi.Error
		if it.Use == keys.Disabled {
			if !errors.As(err, &refused) || refused.Code != 400 {
				t.Errorf("%s: %v", x.Name, err)
			}
			continue
		}
		if err != nil || pub.PemCrc32c == 0 || pub.Algorithm != x.Algorithm || pub.Name != x.Name || !strings.Contains(pub.Pem, "PUBLIC KEY") || it.Key == nil {
			t.Errorf("%+v %v", pub, err)
		}
	}
	var names []string
	if err := p.Projects.Locations.CaPools.CertificateAuthorities.List(pool).Pages(t.Context(), func(page *privateca.ListCertificateAuthoritiesResponse) error {
		for _, ca := range page.CertificateAuthorities {
			if len(ca.PemCaCertificates) != 2 || ca.State != "ENABLED" {
				t.Errorf("%+v", ca)
			}
			names = append(names, ca.Name[strings.LastIndexByte(ca.Name, '/')+1:])
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var ours []string
	for _, it := range groups[0].Items {
		if !slices.Contains(ours, it.Name) {
			ours = append(ours, it.Name)
		}
	}
	if !slices.Equal(names, ours) {
		t.Errorf("the SDK has %q, we have %q", names, ours)
	}
}

// TestRefused: the fakes say no in the way that the SDK understands.
func TestRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	code := func(want int, status string, err error) {
		t.Helper()
		var e *googleapi.Error
		if !errors.As(err, &e) || e.Code != want || !strings.Contains(e.Body, strconv.Quote(status)) {
			t.Errorf("%v, want %d %s", err, want, status)
		}
	}
	ask := func(k *cloudkms.Service, name string) error {
		_, err := k.Projects.Locations.KeyRings.CryptoKeys.CryptoKeyVersions.Get(name).Context(context.WithoutCancel(t.Context())).Do()
		return err
	}
	nobody, _ := h.services(t, false)
	code(401, "UNAUTHENTICATED", ask(nobody, key+"/cryptoKeyVersions/1"))
	k, p := h.services(t, true)
	code(404, "NOT_FOUND", ask(k, key+"/cryptoKeyVersions/9"))
	code(404, "NOT_FOUND", ask(k, key+"2/cryptoKeyVersions/1"))
	_, err := p.Projects.Locations.CaPools.CertificateAuthorities.Get(pool + "/certificateAuthorities/z").Do()
	code(404, "NOT_FOUND", err)
	_, err = p.Projects.Locations.CaPools.CertificateAuthorities.List(pool).PageToken("elsewhere").Do()
	code(400, "INVALID_ARGUMENT", err)
	h.google.Forbid(true)
	code(403, "PERMISSION_DENIED", ask(k, key+"/cryptoKeyVersions/1"))
	h.google.Forbid(false)
	h.google.Revoke()
	code(401, "UNAUTHENTICATED", ask(k, key+"/cryptoKeyVersions/1"))
}

// TestReal asks Google by the SDK, where the environment names a key.
func TestReal(t *testing.T) {
	t.Parallel()
	name := os.Getenv("BOLTSEAL_TEST_GCP_KEY")
	if name == "" {
		t.Skip("BOLTSEAL_TEST_GCP_KEY names no key")
	}
	k, err := cloudkms.NewService(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if l, err := k.Projects.Locations.KeyRings.CryptoKeys.CryptoKeyVersions.List(name).Do(); err != nil || len(l.CryptoKeyVersions) == 0 {
		t.Errorf("%+v %v", l, err)
	}
}
