package googlesdk

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/compute/metadata"

	"github.com/boltseal/boltseal/internal/test/testcloud"
)

const (
	audience = "//iam.googleapis.com/projects/123456789012/locations/global/workloadIdentityPools/clusters/providers/prod"
	subject  = "system:serviceaccount:boltseal-system:boltseal"
	account  = "boltseal@acme.iam.gserviceaccount.com"
	scope    = "https://www.googleapis.com/auth/cloud-platform"
	registry = "europe-west1-docker.pkg.dev"
)

// pulls reports whether a registry takes a token.
func pulls(t *testing.T, c *testcloud.Cloud, token string) bool {
	t.Helper()
	at := url.URL{Scheme: "https", Host: registry, Path: "/v2/token", RawQuery: url.Values{"service": {registry}, "scope": {"repository:acme/images/app:pull"}}.Encode()}
	req, err := http.NewRequest(http.MethodGet, at.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("oauth2accesstoken", token)
	resp, err := c.Transport().RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// TestSDKSignsIn: Google's own libraries get tokens from the fakes, by a credential
// configuration and by the metadata server, and are refused what must be refused.
func TestSDKSignsIn(t *testing.T) {
	c := testcloud.Start(t, nil)
	issuer := testcloud.NewIssuer(t, "https://oidc.example/cluster")
	google := c.GoogleKMS(issuer, audience, subject, account)
	google.Registry(registry, nil)
	client := &http.Client{Transport: c.Transport()}
	signIn := func(claims testcloud.Claims) (string, error) {
		dir := t.TempDir()
		token := filepath.Join(dir, "token")
		b, err := json.Marshal(map[string]any{"type": "external_account", "audience": audience, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://sts.googleapis.com/v1/token",
			"service_account_impersonation_url": "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + account + ":generateAccessToken",
			"credential_source":                 map[string]any{"file": token}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(token, []byte(issuer.Token(claims)), 0o600); err != nil {
			t.Fatal(err)
		}
		creds, err := credentials.NewCredentialsFromJSON(credentials.ExternalAccount, b, &credentials.DetectOptions{Scopes: []string{scope}, Client: client})
		if err != nil {
			t.Fatal(err)
		}
		got, err := creds.Token(t.Context())
		if err != nil {
			return "", err
		}
		if left := time.Until(got.Expiry); left < 50*time.Minute || left > time.Hour {
			t.Errorf("it ends in %s", left)
		}
		return got.Value, nil
	}
	right := testcloud.Claims{Subject: subject, Audience: "https:" + audience, Expires: time.Now().Add(time.Hour).Unix()}
	token, err := signIn(right)
	if err != nil || !pulls(t, c, token) || pulls(t, c, token+"x") {
		t.Errorf("federated: %v", err)
	}
	for says, edit := range map[string]func(*testcloud.Claims){
		"invalid_grant":       func(c *testcloud.Claims) { c.Audience = "vault" },
		"unauthorized_client": func(c *testcloud.Claims) { c.Subject = "system:serviceaccount:default:default" },
	} {
		wrong := right
		edit(&wrong)
		if _, err := signIn(wrong); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}

	t.Setenv("GCE_METADATA_HOST", "metadata.google.internal")
	server := metadata.NewClient(client)
	text, err := server.GetWithContext(t.Context(), "instance/service-accounts/default/token?scopes="+url.QueryEscape(scope))
	var grant struct {
		Token string `json:"access_token"`
	}
	if err != nil || json.Unmarshal([]byte(text), &grant) != nil || !pulls(t, c, grant.Token) {
		t.Errorf("metadata server: %v", err)
	}
	if _, err := server.GetWithContext(t.Context(), "instance/service-accounts/default/token?scopes=https://www.googleapis.com/auth/drive"); err == nil {
		t.Error("a scope that the node has not")
	}
	google.Revoke()
	if pulls(t, c, token) || pulls(t, c, grant.Token) {
		t.Error("a token that was revoked is taken")
	}
}
