// Package hubpage tests the compliance page at a hub: whom the program shows it to, by a real API server's word.
package hubpage

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/e2e/kit"
	"github.com/boltseal/boltseal/e2e/product"
)

var cluster *kit.Cluster

func TestMain(m *testing.M) { os.Exit(kit.Main(m.Run, kit.Options{Controllers: []string{}}, &cluster)) }

// people are accounts, and what they may list.
const people = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: stranger, namespace: default}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: half, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: boltseal-page-reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: half}
rules: [{apiGroups: [policy.boltseal.dev], resources: [clusters, policyassignments], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: half}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: half}
subjects: [{kind: ServiceAccount, name: half, namespace: default}]
---
apiVersion: policy.boltseal.dev/v1alpha1
kind: Cluster
metadata: {name: fra1}
spec: {scope: /emea}
`

// start runs the program as a hub with the page, and returns the page's address and its
// client. Its other port demands certificates of clients.
func start(t *testing.T) (string, *http.Client, *product.Server) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	binary, err := product.Build(ctx, cluster.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := product.Install(ctx, cluster, binary); err != nil {
		t.Fatal(err)
	}
	rights, err := product.Rights(ctx, "governance: {page: {enabled: true}}")
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Apply(ctx, rights, people); err != nil {
		t.Fatal(err)
	}
	ca, err := kit.NewCA("callers", nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := product.Start(ctx, cluster, binary, product.Options{ClientCA: ca.PEM(), Args: []string{"--page-listen", product.AnyPort}})
	if err != nil {
		t.Fatal(err)
	}
	at, err := product.Listening(ctx, s.Process, 0, "page")
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.CA)
	return "https://" + at["page"] + "/", &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, s
}

func token(t *testing.T, name string, audiences ...string) string {
	t.Helper()
	text, err := cluster.ServiceAccountToken(t.Context(), "default", name, audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestReadersByTheirOwnRights: the page is for whoever may list at the hub what it shows, and
// nobody else learns anything.
func TestReadersByTheirOwnRights(t *testing.T) {
	url, c, s := start(t)
	reader := token(t, "reader")
	for name, tt := range map[string]struct {
		token  string
		basic  bool
		status int
		words  string
	}{
		"nobody":                           {status: 401, words: "say who you are"},
		"no token of this cluster":         {token: "eyJhbGciOiJub25lIn0.e30.", status: 401, words: "say who you are"},
		"a token for somebody else":        {token: token(t, "reader", "vault"), status: 401, words: "say who you are"},
		"without rights":                   {token: token(t, "stranger"), status: 403, words: "list clusters of policy.boltseal.dev"},
		"with some of the rights":          {token: token(t, "half"), status: 403, words: "list policyexemptions of policy.boltseal.dev"},
		"a reader":                         {token: reader, status: 200, words: "fra1"},
		"a reader in a browser":            {token: reader, basic: true, status: 200, words: "fra1"},
		"a token for the page and no more": {token: token(t, "reader", "boltseal-page"), status: 200, words: "fra1"},
		"too long":                         {token: strings.Repeat("a", 9<<10), status: 401, words: "say who you are"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case tt.basic:
			req.SetBasicAuth("any", tt.token)
		case tt.token != "":
			req.Header.Set("Authorization", "Bearer "+tt.token)
		}
		resp, err := c.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.status || !strings.Contains(string(body), tt.words) || tt.status != 200 && strings.Contains(string(body), "fra1") {
			t.Errorf("%s: %d %v, want %d and %q: %.300s", name, resp.StatusCode, err, tt.status, tt.words, body)
		}
	}
	log, err := os.ReadFile(s.Process.LogFile())
	if err != nil || strings.Contains(string(log), reader) {
		t.Errorf("a token is in the log: %v", err)
	}
}
