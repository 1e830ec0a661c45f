package alibaba

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzHost: a host that is taken apart is one of Alibaba Cloud's registry, and put
// together again it is the host; its region makes no other host than a service's.
func FuzzHost(f *testing.F) {
	for _, host := range []string{
		"acme-registry.cn-hangzhou.cr.aliyuncs.com", "acme-registry-vpc.cn-hangzhou.cr.aliyuncs.com", "registry.cn-hangzhou.aliyuncs.com", "acme-registry.distributed.cn-hangzhou.cr.aliyuncs.com",
		"acme-registry.oss-cn-hangzhou.aliyuncs.com", "acme-registry.cn-hangzhou.cr.aliyuncs.com.evil.example", "registry-registry.cn-hangzhou.cr.aliyuncs.com", "a-registry-intl-vpc-internal.us-west-1.cr.aliyuncs.com",
	} {
		f.Add(host)
	}
	f.Fuzz(func(t *testing.T, host string) {
		p, ok := parseHost(host)
		if !ok {
			return
		}
		before, found := strings.CutSuffix(host, suffix)
		if !found || host != strings.ToLower(host) || strings.ContainsAny(host, ":/@?#%\\ ") {
			t.Fatalf("%q", host)
		}
		before = strings.TrimSuffix(before, ".cr")
		first, found := strings.CutSuffix(before, "."+p.region)
		if !found || strings.Contains(p.region, ".") || p.region[2] != '-' {
			t.Fatalf("%q: region %q", host, p.region)
		}
		first = strings.TrimSuffix(first, ".distributed")
		if strings.Contains(first, ".") || !strings.Contains(first, "registry") || !strings.HasPrefix(first, p.instance) {
			t.Fatalf("%q: instance %q", host, p.instance)
		}
		if p.instance != "" && !strings.HasSuffix(host, ".cr.aliyuncs.com") {
			t.Fatalf("%q: an instance outside cr.aliyuncs.com", host)
		}
	})
}

// FuzzAuthorization: what is read of an answer can stand in a header; what cannot be
// read is told without the answer's secrets.
func FuzzAuthorization(f *testing.F) {
	f.Add([]byte(`{"TempUsername":"cr_temp_user","AuthorizationToken":"secret-secret-secret","ExpireTime":1900000000000,"IsSuccess":true,"Code":"success"}`))
	f.Add([]byte(`{"TempUsername":"a:b","AuthorizationToken":"x","ExpireTime":1}`))
	f.Add([]byte(`{"TempUsername":"a","AuthorizationToken":"x\r\n","ExpireTime":-1}`))
	f.Add([]byte(`{"IsSuccess":false,"Code":"X"}`))
	f.Add([]byte(`{"ExpireTime":1e99}`))
	f.Add([]byte(``))
	var answer []byte
	status := http.StatusOK
	s, err := New(Options{DefaultInstanceID: "cri-kmsiwlxxdcvaduwb", Transport: answering(func(*http.Request) *http.Response {
		return &http.Response{StatusCode: status, Header: http.Header{}, ContentLength: int64(len(answer)), Body: io.NopCloser(bytes.NewReader(answer))}
	})})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		answer = b
		for _, status = range []int{http.StatusOK, http.StatusBadRequest} {
			weight.Bound{Floor: 64 << 10, Times: 24}.Check(t, len(b), func() {
				_, _ = s.authorize(t.Context(), place{region: "cn-hangzhou"}, "cri-kmsiwlxxdcvaduwb", session{})
			})
		}
		c, err := parseAuthorization(b)
		if err != nil {
			if c.Username != "" || c.Password != "" || len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\r\n") {
				t.Fatalf("%v", err)
			}
			return
		}
		if c.Username == "" || c.Password == "" || strings.ContainsAny(c.Username, ":\r\n") || strings.ContainsAny(c.Password, "\r\n") || c.Expires.Unix() < 0 || c.Expires.Year() > 10000 {
			t.Fatalf("%+v", c.Expires)
		}
	})
}

type answering func(*http.Request) *http.Response

func (f answering) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }
