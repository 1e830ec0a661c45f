package compile_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/boltseal/boltseal/internal/keys"
	keyskube "github.com/boltseal/boltseal/internal/keys/kube"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

const (
	slots   = 3 // certificates that each provider has: the first, the middle, the last
	signers = 5 // of whom each signed one image
)

// sources is a place for certificates of each type of provider, whose slots are set one
// by one, and a refresher that asks when it is told to.
type sources struct {
	t      *testing.T
	reg    *testregistry.Registry
	chains []*testca.Chain
	names  []string // of the providers
	// set puts a chain into a slot of a provider; nil takes out what is there.
	set       map[string]func(slot int, c *testca.Chain)
	docs      map[string]string
	refresher *keys.Refresher

	mu      sync.Mutex
	running map[string]*onDemand // by Want.ID
}

// onDemand has a provider asked again when a test says so.
type onDemand struct {
	keys.Parameters
	again, fetched chan struct{}
}

type onDemandProvider struct {
	keys.Provider
	d *onDemand
}

func (d *onDemand) Open(env keys.Env, namespace string) (keys.Provider, error) {
	p, err := d.Parameters.Open(env, namespace)
	return onDemandProvider{p, d}, err
}

func (p onDemandProvider) Watch(ctx context.Context, changed func()) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.d.again:
			changed()
		}
	}
}

func (p onDemandProvider) Fetch(ctx context.Context) ([]keys.Group, error) {
	g, err := p.Provider.Fetch(ctx)
	select {
	case p.d.fetched <- struct{}{}:
	case <-ctx.Done():
	}
	return g, err
}

func newSources(t *testing.T) *sources {
	t.Helper()
	s := &sources{t: t, reg: testregistry.New(t, testregistry.Options{}), set: map[string]func(int, *testca.Chain){}, docs: map[string]string{}, running: map[string]*onDemand{}}
	for i := range signers {
		c := testca.Must(testca.NewSelfSigned(testca.Options{Clock: clock}))
		s.chains = append(s.chains, c)
		s.reg.Sign(repo, s.reg.PushImage(repo, fmt.Sprint("by", i), 0), c, testca.SignOptions{SigningTime: now})
	}
	cloud := testcloud.Start(t, nil)
	env := map[string]string{}
	issuer := testcloud.NewIssuer(t, "https://oidc.example/cluster")
	token := func(audience string) string {
		return s.file("token-"+filepath.Base(audience), issuer.Token(testcloud.Claims{Subject: "boltseal", Audience: audience, Expires: time.Now().Add(time.Hour).Unix()}))
	}
	cluster := fake.NewClientBuilder().WithScheme(coreScheme(t)).WithObjects(
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "roots"}},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "roots"}}).Build()

	s.azure(cloud, env, issuer, token)
	s.aws(cloud, env, issuer, token)
	s.google(cloud, issuer)
	s.vault(cloud)
	s.files()
	s.objects(cluster)
	slices.Sort(s.names)
	s.refresher = keys.NewRefresher(keys.Options{Env: keys.Env{Transport: cloud.Transport(), Getenv: func(n string) string { return env[n] }, Objects: keyskube.Objects{Client: cluster}}})
	t.Cleanup(s.refresher.Close)
	return s
}

func coreScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}

// file writes a file, and returns its path.
func (s *sources) file(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *sources) dir() string {
	if s.docs["dir"] == "" {
		s.docs["dir"] = s.t.TempDir()
	}
	return s.docs["dir"]
}

// add makes a provider known.
func (s *sources) add(name, kind, parameters string, set func(slot int, c *testca.Chain)) {
	s.names = append(s.names, name)
	s.docs[name], s.set[name] = fetchedDoc(name, kind, parameters), set
}

func pemOf(c *testca.Chain) string {
	if c == nil {
		return ""
	}
	return string(c.Root().PEM())
}

func (s *sources) azure(cloud *testcloud.Cloud, env map[string]string, issuer *testcloud.Issuer, token func(string) string) {
	const tenant, id = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000c"
	entra := cloud.Entra(s.t, testcloud.EntraPublic)
	vault := entra.KeyVault("acme.vault.azure.net", tenant)
	entra.Add(tenant, id, testcloud.App{Federated: []testcloud.Federated{{Issuer: issuer, Subject: "boltseal"}}})
	vault.Grant(id, testcloud.CertificatesGet, testcloud.CertificatesList, testcloud.SecretsGet)
	env["AZURE_TENANT_ID"], env["AZURE_CLIENT_ID"], env["AZURE_FEDERATED_TOKEN_FILE"] = tenant, id, token(testcloud.FederatedAudience)
	// Versions of one certificate, of which the newest two that are enabled count.
	ids := map[int]string{}
	s.add("akv-versions", "azurekeyvault", "vaultURI: https://acme.vault.azure.net/, certificates: [{name: signing, versionHistoryLimit: 2}]", func(slot int, c *testca.Chain) {
		if c != nil {
			ids[slot] = vault.Add("signing", testcloud.Version{Chain: c.X509()})
			return
		}
		vault.Change("signing", ids[slot], func(v *testcloud.Version) { v.Disabled = !v.Disabled })
	})
	s.add("akv", "azurekeyvault", "vaultURI: https://acme.vault.azure.net/, certificates: [{name: c0}, {name: c1}, {name: c2}]", func(slot int, c *testca.Chain) {
		name := fmt.Sprint("c", slot)
		if c == nil {
			vault.Delete(name)
			return
		}
		vault.Add(name, testcloud.Version{Chain: c.X509()})
	})
}

func (s *sources) aws(cloud *testcloud.Cloud, env map[string]string, issuer *testcloud.Issuer, token func(string) string) {
	const role = "arn:aws:iam::111122223333:role/boltseal"
	kms := cloud.KMS("eu-central-1", issuer, role, "boltseal")
	env["AWS_ROLE_ARN"], env["AWS_WEB_IDENTITY_TOKEN_FILE"] = role, token("sts.amazonaws.com")
	arn := func(slot int) string {
		return fmt.Sprintf("arn:aws:acm-pca:eu-central-1:111122223333:certificate-authority/11111111-2222-3333-4444-55555555555%d", slot)
	}
	s.add("aws", "awskms", fmt.Sprintf("region: eu-central-1, certificateAuthorities: [{arn: %q}, {arn: %q}, {arn: %q}]", arn(0), arn(1), arn(2)), func(slot int, c *testca.Chain) {
		ca := testcloud.PrivateCA{Certificate: pemOf(c)}
		if c == nil {
			ca.Status = "DELETED"
		}
		kms.Authority(arn(slot), ca)
	})
}

func (s *sources) google(cloud *testcloud.Cloud, issuer *testcloud.Issuer) {
	const pool = "projects/acme/locations/europe-west3/caPools/release/certificateAuthorities/c"
	google := cloud.GoogleKMS(issuer, "//iam.googleapis.com/x", "boltseal", "boltseal@acme.iam.gserviceaccount.com")
	s.add("google", "gcpkms", fmt.Sprintf("certificateAuthorities: [{name: %[1]s0}, {name: %[1]s1}, {name: %[1]s2}]", pool), func(slot int, c *testca.Chain) {
		ca := testcloud.GoogleAuthority{PEM: []string{pemOf(c)}}
		if c == nil {
			ca.State, ca.PEM = "DELETED", []string{pemOf(s.chains[0])}
		}
		google.Authority(fmt.Sprint(pool, slot), ca)
	})
}

func (s *sources) vault(cloud *testcloud.Cloud) {
	vault := cloud.Vault("vault.example")
	token := s.file("vault", vault.Token(time.Hour, "secret/"))
	s.add("vault", "vault", "address: https://vault.example, auth: {method: token, tokenFile: "+token+"}, kv: [{path: c0}, {path: c1}, {path: c2}]", func(slot int, c *testca.Chain) {
		vault.KV2(fmt.Sprint("c", slot), testcloud.KVVersion{Data: map[string]string{"certificate": pemOf(c)}, Deleted: c == nil})
	})
}

func (s *sources) files() {
	path := func(slot int) string { return filepath.Join(s.dir(), fmt.Sprint("c", slot, ".pem")) }
	s.add("file", "file", fmt.Sprintf("paths: [%s, %s, %s]", path(0), path(1), path(2)), func(slot int, c *testca.Chain) {
		if c == nil { // for the moment, so that what was there stays
			_ = os.Remove(path(slot))
			return
		}
		s.file(filepath.Base(path(slot)), pemOf(c))
	})
}

func (s *sources) objects(cluster client.Client) {
	ctx := s.t.Context()
	must := func(err error) {
		if err != nil {
			s.t.Error(err)
		}
	}
	at := client.ObjectKey{Namespace: "team", Name: "roots"}
	s.add("team/secret", "secret", "name: roots, keys: [c0, c1, c2]", func(slot int, c *testca.Chain) {
		var o corev1.Secret
		must(cluster.Get(ctx, at, &o))
		if o.Data == nil {
			o.Data = map[string][]byte{}
		}
		if o.Data[fmt.Sprint("c", slot)] = []byte(pemOf(c)); c == nil {
			o.Data[fmt.Sprint("c", slot)] = []byte("garbage")
		}
		must(cluster.Update(ctx, &o))
	})
	s.add("configmap", "configmap", "name: roots, namespace: team, keys: [c0, c1, c2]", func(slot int, c *testca.Chain) {
		var o corev1.ConfigMap
		must(cluster.Get(ctx, at, &o))
		if o.Data == nil {
			o.Data = map[string]string{}
		}
		if o.Data[fmt.Sprint("c", slot)] = pemOf(c); c == nil {
			delete(o.Data, fmt.Sprint("c", slot))
		}
		must(cluster.Update(ctx, &o))
	})
}

// want is a Want of a resource, asked when the test says so.
func (s *sources) want(w keys.Want) keys.Want {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.running[w.ID]
	if d == nil {
		d = &onDemand{w.Parameters, make(chan struct{}), make(chan struct{})}
		s.running[w.ID] = d
	}
	w.Parameters, w.Interval = d, 0
	return w
}

// ask asks all providers for what they have now, those that are new for the first time.
func (s *sources) ask(wants []keys.Want) {
	s.t.Helper()
	known := map[string]bool{}
	s.mu.Lock()
	for id := range s.running {
		known[id] = true
	}
	s.mu.Unlock()
	for i := range wants {
		wants[i] = s.want(wants[i])
	}
	s.refresher.Use(wants)
	hang := time.After(2 * time.Minute)
	wait := func(c chan struct{}, what string) {
		select {
		case <-c:
		case <-hang:
			s.t.Fatal("a hang: " + what)
		}
	}
	for _, w := range wants {
		d := w.Parameters.(*onDemand)
		// An answer counts once the next one comes in.
		rounds := 2
		if !known[w.ID] {
			wait(d.fetched, "the first answer")
			rounds = 1
		}
		for range rounds {
			select {
			case d.again <- struct{}{}:
			case <-hang:
				s.t.Fatal("a hang: nobody watches")
			}
			wait(d.fetched, "an answer")
		}
	}
}
