package service_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestRefusalsToGatekeeper: whatever is refused is a ProviderResponse that says why.
// Gatekeeper reads the body at any status, and shows what it cannot read as "invalid
// character".
func TestRefusalsToGatekeeper(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{})
	for _, path := range []string{server.PathVerify, server.PathMutate} {
		for name, c := range map[string]struct {
			method string
			body   []byte
			status int
			words  string
		}{
			"too large":       {http.MethodPost, bytes.Repeat([]byte("a"), externaldata.MaxBytes+1), http.StatusRequestEntityTooLarge, "more than"},
			"not asked right": {http.MethodGet, nil, http.StatusMethodNotAllowed, "ask with POST"},
			"not JSON":        {http.MethodPost, []byte("{"), http.StatusOK, "ProviderRequest"},
			"nothing":         {http.MethodPost, nil, http.StatusOK, "ProviderRequest"},
		} {
			req, err := http.NewRequestWithContext(t.Context(), c.method, r.base+path, bytes.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			var got struct {
				Kind     string
				Response struct{ SystemError string }
			}
			err = json.NewDecoder(resp.Body).Decode(&got)
			resp.Body.Close()
			if err != nil || resp.StatusCode != c.status || got.Kind != "ProviderResponse" || !strings.Contains(got.Response.SystemError, c.words) ||
				resp.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s, %s: HTTP %d, %s, %+v, %v", path, name, resp.StatusCode, resp.Header.Get("Content-Type"), got, err)
			}
		}
	}
}
