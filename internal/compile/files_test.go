package compile_test

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

func put(t testing.TB, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAuthoritiesInFilesAreReadAgain: those of a Store's TLS are the ones that are in
// its file now, for new connections and for those that were kept alive, without an edit
// of the Store; while the file cannot be read, they are as they were.
func TestAuthoritiesInFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{TLS: true})
	other := chain(t).Root().PEM()
	for name, parameters := range map[string]string{"of all registries": "caFile: %[2]s", "of one registry": "registries: [{host: %[1]q, caFile: %[2]s}]"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "ca.crt")
			parameters := fmt.Sprintf(parameters, w.reg.Host, file)
			if name == "of all registries" { // whose loopback hosts are spoken to without TLS
				parameters += fmt.Sprintf(", registries: [{host: %q}]", w.reg.Host)
			}
			k := newKube(t)
			k.apply(kmp("roots", w.pemA) + store("s", parameters) + verifier("v", "roots"))
			var last *compile.Compiled
			look := func(what string, want boltseal.Decision, serving compile.Serving) {
				t.Helper()
				c, standing := k.compile()
				st := standing[compile.Key{Kind: "Store", Name: "s"}]
				if r := w.verify(t, c, "", "a"); r.Decision != want || st.Serving != serving || (serving == compile.ServingCurrent) != st.OK() {
					t.Errorf("%s: %s %+v\n%s", what, r.Decision, r.Reason, tell(standing))
				}
				last = c
			}
			files := compile.NewCluster(k.o, entriesOf(k)).Files()
			if len(files) != 1 || files[0] != file {
				t.Errorf("%q are to be watched", files)
			}
			look("no file", boltseal.Deny, compile.ServingStandIn)
			put(t, file, other)
			look("yesterday's", boltseal.Unknown, compile.ServingCurrent)
			put(t, file, w.reg.CAPEM())
			look("today's", boltseal.Allow, compile.ServingCurrent)
			was := last.EngineFor("")
			k.apply(kmp("unused", w.pemA))
			if look("an edit elsewhere", boltseal.Allow, compile.ServingCurrent); last.EngineFor("") != was {
				t.Error("the same file made another engine")
			}
			put(t, file, []byte("garbage"))
			look("while it is written", boltseal.Allow, compile.ServingLastGood)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			look("while it is not there", boltseal.Allow, compile.ServingLastGood)
			put(t, file, w.reg.CAPEM())
			look("it is there again", boltseal.Allow, compile.ServingCurrent)
			// The connection that was kept alive is to an authority that is trusted no more.
			put(t, file, other)
			look("taken out", boltseal.Unknown, compile.ServingCurrent)
			put(t, file, append(bytes.Clone(other), w.reg.CAPEM()...))
			look("both", boltseal.Allow, compile.ServingCurrent)
		})
	}
}

// TestClientCertificatesAreReadAgain: a registry is shown the certificate that is in the
// file now.
func TestClientCertificatesAreReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	way := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: w.reg.Host})
	var wanted atomic.Pointer[testca.Chain]
	door := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, q *http.Request) {
		if c := wanted.Load(); !bytes.Equal(q.TLS.PeerCertificates[0].Raw, c.Leaf().Raw) {
			http.Error(rw, "that certificate has ended", http.StatusForbidden)
			return
		}
		way.ServeHTTP(rw, q)
	}))
	door.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12}
	door.StartTLS()
	t.Cleanup(door.Close)
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	put(t, ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: door.Certificate().Raw}))
	renew := func() {
		c := chain(t)
		put(t, cert, c.Leaf().PEM())
		put(t, key, testca.Must(testca.KeyPEM(c.Leaf().Key)))
		wanted.Store(c)
	}
	renew()
	host := strings.TrimPrefix(door.URL, "https://")
	k := newKube(t)
	k.apply(kmp("roots", w.pemA) + store("s", fmt.Sprintf("registries: [{host: %q, caFile: %s, clientCertFile: %s, clientKeyFile: %s}]", host, ca, cert, key)) + verifier("v", "roots"))
	if files := compile.NewCluster(k.o, entriesOf(k)).Files(); len(files) != 3 {
		t.Errorf("%q are to be watched", files)
	}
	for _, what := range []string{"the first", "renewed", "renewed again"} {
		c, standing := k.compile()
		if r, err := c.EngineFor("").Verify(t.Context(), host+"/"+repo+":a"); err != nil || r.Decision != boltseal.Allow {
			t.Errorf("%s: %s %+v %v\n%s", what, r.Decision, r.Reason, err, tell(standing))
		}
		renew()
	}
}

// TestCertificateFilesAreReadAgain: roots of trust in files are those that are there
// now, below folders too; what is the same makes no other engine.
func TestCertificateFilesAreReadAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a.pem"), w.pemA)
	k := newKube(t)
	k.apply(store("s", "") + strings.Replace(verifier("v"), "verificationCertStores: {certs: []}", "verificationCerts: ["+dir+"]", 1))
	look := func(what, want string) *boltseal.Engine {
		t.Helper()
		c, standing := k.compile()
		if got := w.trusts(t, c, ""); got != want {
			t.Errorf("%s: %q\n%s", what, got, tell(standing))
		}
		return c.EngineFor("")
	}
	first := look("one", "a both")
	k.apply(kmp("unused", w.pemA))
	if look("an edit elsewhere", "a both") != first {
		t.Error("the same files made another engine")
	}
	put(t, filepath.Join(dir, "b.pem"), w.pemB)
	look("another file", "a b both")
	if err := os.Remove(filepath.Join(dir, "a.pem")); err != nil {
		t.Fatal(err)
	}
	look("the first is gone", "b both")
}
