package doctor

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// TestClouds: providers of AWS and Google are asked live: what they have is told,
// and when they refuse it is told who did and which rights are missing.
func TestClouds(t *testing.T) {
	t.Parallel()
	const (
		arn  = "arn:aws:acm-pca:eu-central-1:111122223333:certificate-authority/11111111-2222-3333-4444-555555555555"
		pool = "projects/acme/locations/europe-west3/caPools/release"
	)
	cloud := testcloud.Start(t, nil)
	issuer := testcloud.NewIssuer(t, "https://oidc.example")
	aws := cloud.KMS("eu-central-1", issuer, "role", "subject")
	google := cloud.GoogleKMS(issuer, "audience", "subject", "")
	root := string(testca.Test(t, testca.Options{}).Root().PEM())
	aws.Authority(arn, testcloud.PrivateCA{Certificate: root})
	google.Authority(pool+"/certificateAuthorities/root", testcloud.GoogleAuthority{PEM: []string{root}})
	id, secret, token := aws.AccessKey(time.Hour)
	env := map[string]string{"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": token}
	o := Options{Keys: keys.Env{Transport: cloud.Transport(), Getenv: func(n string) string { return env[n] }}}
	for _, c := range []struct {
		spec   string
		forbid func(bool)
		says   string
	}{
		{"type: awskms, parameters: {region: eu-central-1, certificateAuthorities: [{arn: '" + arn + "'}]}", aws.Forbid, "acm-pca:DescribeCertificateAuthority"},
		{"type: gcpkms, parameters: {certificateAuthorities: [{name: " + pool + "}]}", google.Forbid, "roles/privateca.auditor"},
	} {
		check := func() []Finding {
			text := "apiVersion: config.ratify.deislabs.io/v1beta1\nkind: KeyManagementProvider\nmetadata: {name: roots}\nspec: {" + c.spec + "}\n"
			return Files(t.Context(), []compile.Source{{Name: "f", Data: []byte(text)}}, deps(), o)
		}
		if fs := check(); !strings.Contains(fmt.Sprint(fs), "1 certificate, good until") {
			t.Errorf("%s: %+v", c.spec, fs)
		}
		c.forbid(true)
		fs := check()
		if text := fmt.Sprint(fs); Worst(fs) != Problem || !strings.Contains(text, c.says) || strings.Contains(text, secret) || strings.Contains(text, token) {
			t.Errorf("%s: %+v", c.spec, fs)
		}
	}
}
