package compile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/cloud/azure/keyvault"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// BenchmarkWhileProvidersRefresh verifies an image again and again, in turns while
// nothing is fetched and while 100 providers fetch from a vault each second, and
// reports both sides and their ratio.
func BenchmarkWhileProvidersRefresh(b *testing.B) {
	const (
		providers = 100
		turn      = 200 // verifications
		tenant    = "00000000-0000-4000-8000-00000000000a"
		client    = "00000000-0000-4000-8000-00000000000c"
		host      = "acme.vault.azure.net"
		subject   = "system:serviceaccount:boltseal-system:boltseal"
	)
	cloud := testcloud.Start(b, nil)
	entra, issuer := cloud.Entra(b, testcloud.EntraPublic), testcloud.NewIssuer(b, "https://oidc.example/cluster")
	entra.Add(tenant, client, testcloud.App{Federated: []testcloud.Federated{{Issuer: issuer, Subject: subject}}})
	vault := entra.KeyVault(host, tenant)
	vault.Grant(client, testcloud.CertificatesGet, testcloud.SecretsGet)
	token := filepath.Join(b.TempDir(), "token")
	claims := testcloud.Claims{Subject: subject, Audience: testcloud.FederatedAudience, Expires: time.Now().Add(time.Hour).Unix()}
	if err := os.WriteFile(token, []byte(issuer.Token(claims)), 0o600); err != nil {
		b.Fatal(err)
	}
	env := map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_FEDERATED_TOKEN_FILE": token}
	w := newWorld(b, testregistry.Options{})
	var wants []keys.Want
	for i := range providers {
		name := fmt.Sprintf("signing-%d", i)
		vault.Add(name, testcloud.Version{Chain: w.a.X509()})
		wants = append(wants, keys.Want{ID: name, Resource: "KeyManagementProvider " + name, Interval: time.Second,
			Parameters: keyvault.Parameters{VaultURI: "https://" + host + "/", Certificates: []keyvault.Entry{{Name: name}}}})
	}
	r := keys.NewRefresher(keys.Options{Env: keys.Env{Transport: cloud.Transport(), Getenv: func(n string) string { return env[n] }}})
	defer r.Close()
	d := deps()
	d.Keys = func(keys.Want) keys.State { return content(w.a) }
	c, err := build(fetchedDoc("akv", "azurekeyvault", "vaultURI: https://"+host+"/, certificates: [{name: signing-0}]")+verifier("v", "akv")+store("s", ""), d)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	took := map[bool][]time.Duration{}
	verify := func() time.Duration {
		start := time.Now()
		if got := w.verify(b, c, "", "a"); got.Decision != boltseal.Allow {
			b.Fatalf("%+v", got)
		}
		return time.Since(start)
	}
	for range turn {
		verify() // connections are open, chains are known
	}
	var busy time.Duration
	fetches := 0
	for b.Loop() {
		for _, refreshing := range []bool{false, true} {
			if refreshing {
				r.Use(wants)
				r.Wait(b.Context()) // they are signed in, and go on by themselves
			} else {
				r.Use(nil)
			}
			asked := len(cloud.Requests(host))
			// A turn is longer than an interval.
			for start := time.Now(); ; {
				for range turn {
					took[refreshing] = append(took[refreshing], verify())
				}
				if d := time.Since(start); d > 2*time.Second { // waits: the length of a turn of a benchmark
					if refreshing {
						busy, fetches = busy+d, fetches+len(cloud.Requests(host))-asked
					}
					break
				}
			}
		}
	}
	at := func(refreshing bool, percent int) float64 {
		s := took[refreshing]
		slices.Sort(s)
		return float64(s[min(len(s)*percent/100, len(s)-1)].Microseconds())
	}
	for _, p := range []int{50, 99} {
		alone, beside := at(false, p), at(true, p)
		b.ReportMetric(alone, fmt.Sprintf("p%d-alone-µs", p))
		b.ReportMetric(beside, fmt.Sprintf("p%d-beside-µs", p))
		b.ReportMetric(beside/alone, fmt.Sprintf("p%d-ratio", p))
	}
	b.ReportMetric(float64(fetches)/busy.Seconds(), "fetches/s")
}
