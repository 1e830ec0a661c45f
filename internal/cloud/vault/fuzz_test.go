package vault

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/test/weight"
)

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// FuzzAnswer: what Vault answers costs no more than its size to read, whatever was
// asked for and whether it is right; nothing comes from nowhere.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"data":{"data":{"certs":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"},"metadata":{"version":1,"created_time":"2026-01-02T15:04:05Z"}}}`,
		`{"data":{"versions":{"1":{"created_time":"x"},"2":{"destroyed":true}}}}`, `{"data":{"keys":["a","b"]}}`, `{"data":{"certificate":"x","ca_chain":["y"]}}`,
		`{"data":{"type":"rsa-2048","keys":{"1":{"public_key":"x"}},"latest_version":1}}`, `{"errors":["permission denied"]}`, `{"errors":[` + strings.Repeat(`"",`, 99) + `""]}`,
		`{"data":{"keys":{` + strings.Repeat(`"1":{},`, 99) + `"1":{}}}}`, ``,
	} {
		f.Add([]byte(body), true)
		f.Add([]byte(body), false)
	}
	token := filepath.Join(f.TempDir(), "token")
	if err := os.WriteFile(token, []byte("s.token"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, good bool) {
		status := http.StatusForbidden
		if good {
			status = http.StatusOK
		}
		asked := 0
		env := keys.Env{Transport: answering(func(r *http.Request) *http.Response {
			asked++
			return &http.Response{StatusCode: status, Header: http.Header{}, ContentLength: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b)), Request: r}
		})}.Complete()
		p := Parameters{Address: "http://127.0.0.1:1", Auth: Auth{Method: MethodToken, TokenFile: token},
			KV: []KV{{Path: "a", Field: "certs", VersionHistoryLimit: 3}, {Path: "b", Engine: 1}}, PKI: []PKI{{}}, Transit: []Transit{{Name: "k", VersionHistoryLimit: 3}}}
		provider, err := p.Open(env, "")
		if err != nil {
			t.Fatal(err)
		}
		asked = 0
		_, _ = provider.Fetch(t.Context())
		weight.Bound{Floor: 1 << 20, Times: 128 * max(asked, 1)}.Check(t, len(b), func() {
			groups, err := provider.Fetch(t.Context())
			for _, g := range groups {
				if !good && g.Err == nil && err == nil && len(g.Items) > 0 {
					t.Errorf("%s: %d items from nowhere", g.Name, len(g.Items))
				}
			}
		})
	})
}
