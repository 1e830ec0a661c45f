package oci

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzHeaders: what headers say of an image is a descriptor or nothing, waits are
// bounded, and reading them costs no more than their size.
func FuzzHeaders(f *testing.F) {
	const other = "sha256:1111111111111111111111111111111111111111111111111111111111111111"
	for _, s := range [][5]string{
		{`</v2/a/b/referrers/x?n=1>; rel="next"`, `Bearer realm="https://auth.example/token",service="s"`, string(someSubject), "30", ocispec.MediaTypeImageManifest},
		{`<>`, `Basic`, ` "` + strings.ToUpper(other) + `"`, "Mon, 02 Jan 2126 15:04:05 GMT", "text/html; charset=utf-8"},
		{strings.Repeat(`<a>; rel="a b c", `, 50), strings.Repeat(`Negotiate, `, 50), "sha512:00", "99999999999999999999", ";"},
	} {
		f.Add(s[0], s[1], s[2], s[3], s[4], int64(7))
	}
	r, err := NewRegistry(Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(r.Close)
	now := time.Unix(1700000000, 0)
	f.Fuzz(func(t *testing.T, link, challenged, stated, retry, media string, length int64) {
		resp := &http.Response{ContentLength: length, Header: http.Header{"Link": {link}, "Www-Authenticate": {challenged}, "Docker-Content-Digest": {stated},
			"Retry-After": {retry}, "Content-Type": {media}}}
		size := len(link) + len(challenged) + len(stated) + len(retry) + len(media)
		read := func() {
			_, _ = nextLink(resp.Header)
			_, _ = parseChallenges(resp.Header.Values("WWW-Authenticate"))
			_, _ = r.headDescriptor(resp, "")
			_, _ = r.headDescriptor(resp, someSubject)
			_ = retryAfter(resp, now)
			_ = isHTML(resp)
		}
		weight.Bound{Floor: 16 << 10, Times: 24}.Check(t, size, read)
		for _, want := range []digest.Digest{"", someSubject} {
			d, complete := r.headDescriptor(resp, want)
			if complete && (boltseal.ValidateDescriptor(d) != nil || want != "" && d.Digest != want || d.Size != length || !strings.Contains(strings.ToLower(stated), string(d.Digest)) && want == "") {
				t.Errorf("%+v, asked for %q", d, want)
			}
			if got, err := statedDigest(resp, want); err == nil && got != "" && boltseal.ValidateDigest(got) != nil {
				t.Errorf("%q is stated", got)
			}
		}
		if d := retryAfter(resp, now); d < 0 || d > maxRetryAfter {
			t.Errorf("%q: wait for %v", retry, d)
		}
	})
}

// FuzzTokenAnswer: what is read of a token server's answer is a token that can stand in
// a header, for a while; what cannot be read is told without it. It costs no more
// than the answer's size.
func FuzzTokenAnswer(f *testing.F) {
	for _, s := range []string{`{"token":"abc","expires_in":300,"issued_at":"2026-01-02T15:04:05Z"}`, `{"access_token":"abc","expires_in":"1h"}`, `{"token":"a\r\nb"}`,
		`{"token":"abc","expires_in":1e300,"issued_at":-1}`, `[` + strings.Repeat(`{},`, 99) + `{}]`, `{"errors":[{"code":"DENIED","message":"no"}]}`, `{"error":{"a":[[[[]]]]},"error_description":"x"}`, ``} {
		f.Add([]byte(s), 200)
		f.Add([]byte(s), 401)
	}
	now := time.Unix(1700000000, 0)
	tokens := newTokens(Options{Clock: func() time.Time { return now }}.withDefaults())
	f.Fuzz(func(t *testing.T, b []byte, status int) {
		fail := func(status int, err error) error { return &boltseal.StoreError{Op: "token", Status: status, Err: err} }
		read := func() (tokenEntry, error) {
			resp := &http.Response{StatusCode: status, Header: http.Header{}, ContentLength: int64(len(b)), Body: io.NopCloser(bytes.NewReader(b))}
			return tokens.granted(resp, fail, nil)
		}
		weight.Bound{Floor: 64 << 10, Times: 32}.Check(t, len(b), func() { _, _ = read() })
		e, err := read()
		switch {
		case err != nil:
			if e != (tokenEntry{}) || len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "\r\n") || status == http.StatusOK && len(b) > 20 && strings.Contains(err.Error(), string(b)) {
				t.Errorf("%+v, %v", e, err)
			}
		case status != http.StatusOK || e.token == "" || strings.ContainsAny(e.token, "\r\n") || e.until.Before(now) || e.until.After(now.Add(maxTokenLife)):
			t.Errorf("%+v", e)
		}
	})
}
