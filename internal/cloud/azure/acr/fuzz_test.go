package acr

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzExchange: what is read of an answer is a token that can stand in a header and
// ends at a time there is; what cannot be read is told without the answer.
func FuzzExchange(f *testing.F) {
	claims := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	jwt := claims(`{"alg":"RS256"}`) + "." + claims(`{"exp":1900000000,"aud":"acme.azurecr.io"}`) + "." + claims("signature")
	f.Add([]byte(`{"refresh_token":"` + jwt + `"}`))
	f.Add([]byte(`{"refresh_token":"` + jwt + `","refresh_token":"x"}`))
	f.Add([]byte(`{"refresh_token":"` + claims(`{}`) + "." + claims(`{"exp":1e300}`) + ".c2ln\"}"))
	f.Add([]byte(`{"refresh_token":"a.b.c"}`))
	f.Add([]byte(`{"errors":[{"code":"UNAUTHORIZED"}]}`))
	f.Add([]byte(``))
	s, err := New(Options{Provider: "azureWorkloadIdentity", Endpoints: []string{"acme.azurecr.io"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: 64 << 10, Times: 48}.Check(t, len(b), func() { _, _, _ = parseExchange(b) })
		weight.Bound{Floor: 64 << 10, Times: 48}.Check(t, len(b), func() { _ = s.refused("acme.azurecr.io", &http.Response{StatusCode: http.StatusUnauthorized}, b) })
		token, until, err := parseExchange(b)
		if err != nil {
			if token != "" && !until.IsZero() {
				t.Fatal("a token beside an error")
			}
			if text := string(b); len(text) >= 12 && strings.Contains(err.Error(), text) {
				t.Fatalf("%v holds the answer", err)
			}
			return
		}
		if strings.Count(token, ".") != 2 || strings.ContainsAny(token, " \r\n\x00\",") || len(token) > maxToken {
			t.Fatalf("%q", token)
		}
		if until.Before(time.Unix(1, 0)) || until.Year() > 9999+1 {
			t.Fatal(until)
		}
	})
}
