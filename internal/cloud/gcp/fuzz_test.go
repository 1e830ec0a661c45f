package gcp

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/test/weight"
)

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// FuzzAnswer: what Google's services answer costs no more than its size to read, right
// or wrong; an error is short, on one line, and asks for no longer wait than there is.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		`{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}`, `{"error":{"code":403,"status":"PERMISSION_DENIED","message":"no","details":[{"reason":"SERVICE_DISABLED","retryDelay":"3.5s"}]}}`,
		`{"error":"invalid_grant","error_description":"x"}`, `{"error":{"details":[` + strings.Repeat("{},", 99) + `{}]}}`, `{"error":[[[[]]]]}`, ``,
	} {
		f.Add([]byte(body), 200)
		f.Add([]byte(body), 403)
	}
	f.Fuzz(func(t *testing.T, b []byte, status int) {
		by := &http.Client{Transport: answering(func(r *http.Request) *http.Response {
			return &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {"9"}}, ContentLength: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b)), Request: r}
		})}
		if status >= 300 && status < 400 {
			by.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		}
		weight.Bound{Floor: 64 << 10, Times: 96}.Check(t, len(b), func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://sts.googleapis.com/v1/token", nil)
			if err != nil {
				t.Fatal(err)
			}
			var into struct {
				Token string `json:"access_token"`
			}
			err = Do(by, time.Now, req, Op, "", &into)
			if err == nil && status != http.StatusOK || err != nil && (len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "\r\n")) {
				t.Errorf("%d: %v", status, err)
			}
		})
	})
}
