package page_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/test/weight"
)

func TestQueriesAreReadBack(t *testing.T) {
	t.Parallel()
	for _, q := range []page.Query{{}, {Assignment: "a&b=c"}, {Cluster: "c"}, {Cluster: "c", Namespace: "n/ö"}, {Image: "registry.example/a@sha256:1"}, {Exemption: "e"}, {Change: "end/x"}} {
		if got, err := page.ParseQuery(q.Encode()); err != nil || got != q {
			t.Errorf("%+v: %+v, %v", q, got, err)
		}
	}
	for _, bad := range []string{"clusters=a", "cluster=a&cluster=b", "cluster=", "cluster=a&image=b", "namespace=a", "namespace=a&image=b", "assignment=a&cluster=b", "cluster=%zz", "a;b", "cluster=a&namespace=b&x=1", "image=" + strings.Repeat("a", 5000), "token=secret"} {
		if q, err := page.ParseQuery(bad); !errors.Is(err, page.ErrQuery) || q != (page.Query{}) {
			t.Errorf("%.40s: %+v, %v", bad, q, err)
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	f.Add("cluster=a&namespace=b")
	f.Add("image=registry.example%2Fa%40sha256%3A1")
	f.Fuzz(func(t *testing.T, raw string) {
		weight.Bound{Floor: 16 << 10, Times: 32}.Check(t, len(raw), func() { _, _ = page.ParseQuery(raw) })
		q, err := page.ParseQuery(raw)
		if err != nil {
			return
		}
		if again, err := page.ParseQuery(q.Encode()); len(q.Encode()) <= 4096 && (err != nil || again != q) {
			t.Errorf("%q: %+v, then %+v, %v", raw, q, again, err)
		}
	})
}
