package externaldata_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"

	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// response is Gatekeeper's own shape (frameworks/constraint, externaldata.ProviderResponse).
type response struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Response   struct {
		Idempotent bool `json:"idempotent"`
		Items      []struct {
			Key   string `json:"key"`
			Value any    `json:"value"`
			Error string `json:"error"`
		} `json:"items"`
		SystemError string `json:"systemError"`
	} `json:"response"`
}

func decode(t testing.TB, b []byte) response {
	t.Helper()
	var r response
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return r
}

func request(version string, keys ...string) []byte {
	b, _ := json.Marshal(map[string]any{"apiVersion": version, "kind": "ProviderRequest", "request": map[string]any{"keys": keys}})
	return b
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, v := range []string{externaldata.V1Beta1, externaldata.V1Alpha1} {
		q, err := externaldata.Decode(request(v, "a", "b", "a"))
		if err != nil || q.APIVersion != v || !slices.Equal(q.Keys, []string{"a", "b", "a"}) {
			t.Errorf("%s: %+v, %v", v, q, err)
		}
	}
	if q, err := externaldata.Decode(request(externaldata.V1Beta1)); err != nil || len(q.Keys) != 0 {
		t.Errorf("no keys: %+v, %v", q, err)
	}
	many := make([]string, externaldata.MaxKeys)
	for i := range many {
		many[i] = fmt.Sprint("k", i)
	}
	if q, err := externaldata.Decode(request(externaldata.V1Beta1, many...)); err != nil || len(q.Keys) != externaldata.MaxKeys {
		t.Errorf("%d keys: %v", len(q.Keys), err)
	}
	good := string(request(externaldata.V1Alpha1, "a"))
	for name, body := range map[string]string{
		"nothing": "", "null": "null", "truncated": good[:20], "a list": "[]", "another kind": strings.Replace(good, "ProviderRequest", "Pod", 1),
		"another version": strings.Replace(good, "v1alpha1", "v2", 1), "no request": `{"apiVersion":"externaldata.gatekeeper.sh/v1alpha1","kind":"ProviderRequest"}`,
		"keys are numbers": strings.Replace(good, `"a"`, `1`, 1), "keys are an object": strings.Replace(good, `["a"]`, `{"a":"b"}`, 1), "keys end early": good[:len(good)-4], "keys twice": strings.Replace(good, `"keys":`, `"keys":[],"keys":`, 1),
		"too many keys": string(request(externaldata.V1Beta1, append(many, "one more")...)), "too large": good + strings.Repeat(" ", externaldata.MaxBytes),
	} {
		q, err := externaldata.Decode([]byte(body))
		if !errors.Is(err, externaldata.ErrMalformed) && !errors.Is(err, externaldata.ErrLimit) {
			t.Errorf("%s: %+v, %v", name, q, err)
			continue
		}
		r := decode(t, externaldata.AppendSystemError(nil, q.APIVersion, err.Error()))
		if r.Response.SystemError == "" || r.Kind != "ProviderResponse" || !strings.HasPrefix(r.APIVersion, "externaldata.gatekeeper.sh/") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if q, _ := externaldata.Decode([]byte(strings.Replace(good, "ProviderRequest", "Pod", 1))); q.APIVersion != externaldata.V1Alpha1 {
		t.Error("a bad request is answered in another version than it was asked in")
	}
}

func TestParseKey(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]externaldata.Key{
		"nginx": {Image: "nginx"}, "[team]nginx:1": {Namespace: "team", Image: "nginx:1"}, "[]nginx": {Image: "nginx"}, "": {},
		"[a]b]c": {Namespace: "a", Image: "b]c"},
	} {
		if got, err := externaldata.ParseKey(key); err != nil || got != want {
			t.Errorf("%q: %+v, %v", key, got, err)
		}
	}
	if _, err := externaldata.ParseKey("[team"); err == nil {
		t.Error("a bracket that is left open")
	}
}

func TestResponse(t *testing.T) {
	t.Parallel()
	items := []externaldata.Item{
		{Key: `a"\` + "\n\x00é", Value: []byte(`{"isSuccess":true}`)},
		{Key: "b", Error: `it "fails"` + "\x01"}, {Key: "not UTF-8 \xff", Value: externaldata.EncodeString("v\xff")},
	}
	r := decode(t, externaldata.AppendResponse(nil, externaldata.V1Alpha1, true, items))
	if r.APIVersion != externaldata.V1Alpha1 || r.Kind != "ProviderResponse" || !r.Response.Idempotent || len(r.Response.Items) != 3 ||
		r.Response.Items[0].Key != items[0].Key || r.Response.Items[1].Error != items[1].Error || r.Response.Items[1].Value != nil {
		t.Errorf("%+v", r)
	}
	r = decode(t, externaldata.AppendResponse(nil, externaldata.V1Beta1, false, []externaldata.Item{{Key: "a"}, {Key: "b", Value: []byte("1")}}))
	if r.Response.Items[0].Error == "" || r.Response.Items[0].Value != nil || r.Response.Items[1].Value != 1.0 {
		t.Errorf("a key without an answer: %+v", r)
	}
	if r := decode(t, externaldata.AppendResponse(nil, externaldata.V1Beta1, false, nil)); r.Response.Items == nil || r.Response.Idempotent {
		t.Errorf("no items: %+v", r)
	}
}

// FuzzFast: what the fast path reads, the strict decoder reads alike.
func FuzzFast(f *testing.F) {
	f.Add(request(externaldata.V1Beta1, "a", "[n]b"))
	f.Add([]byte(`{"request":{"keys":[]},"kind":"ProviderRequest" , "apiVersion":"x"}`))
	f.Add([]byte(`{"kind":"a","kind":"b","request":{"keys":["a"]}}`))
	f.Add([]byte(`{"kind":"a","apiVersion":"b","request":{"keys":["a"],"keys":["b"]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		weight.Bound{Floor: 16 << 10, Times: 32}.Check(t, len(body), func() { _, _, _, _ = externaldata.Fast(body) })
		version, kind, keys, ok := externaldata.Fast(body)
		if !ok {
			return
		}
		var w struct {
			APIVersion string `json:"apiVersion"`
			Kind       string `json:"kind"`
			Request    struct {
				Keys []string `json:"keys"`
			} `json:"request"`
		}
		if err := jsonv2.Unmarshal(body, &w, jsonv2.RejectUnknownMembers(true)); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if w.APIVersion != version || w.Kind != kind || !slices.Equal(w.Request.Keys, keys) {
			t.Errorf("%q: %+v, fast: %q %q %q", body, w, version, kind, keys)
		}
	})
}

func FuzzDecode(f *testing.F) {
	f.Add(request(externaldata.V1Beta1, "a", "[n]b"))
	f.Add(request(externaldata.V1Alpha1))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"apiVersion":"externaldata.gatekeeper.sh/v1beta1","kind":"ProviderRequest","request":{"keys":["\ud800"]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		weight.Bound{Floor: 64 << 10, Times: 32}.Check(t, len(body), func() { _, _ = externaldata.Decode(body) })
		q, err := externaldata.Decode(body)
		if err != nil {
			decode(t, externaldata.AppendSystemError(nil, q.APIVersion, err.Error()))
			return
		}
		items := make([]externaldata.Item, len(q.Keys))
		for i, k := range q.Keys {
			items[i] = externaldata.Item{Key: k, Error: "x"}
			if parsed, err := externaldata.ParseKey(k); err == nil {
				items[i].Error, items[i].Value = "", externaldata.EncodeString(parsed.Image)
			}
		}
		r := decode(t, externaldata.AppendResponse(nil, q.APIVersion, false, items))
		if len(r.Response.Items) != len(q.Keys) {
			t.Fatalf("%d keys, %d answers", len(q.Keys), len(r.Response.Items))
		}
		for i, k := range q.Keys {
			if r.Response.Items[i].Key != k {
				t.Errorf("asked %q, answered %q", k, r.Response.Items[i].Key)
			}
		}
	})
}

// TestLongLists: a list that is refused for its length costs little, in either
// way of reading. It runs alone, for it looks at all memory.
func TestLongLists(t *testing.T) {
	for _, one := range []string{`"",`, `"\u0061",`} {
		body := []byte(`{"request":{"keys":[` + strings.Repeat(one, (externaldata.MaxBytes-200)/len(one)) + `"a"]},"apiVersion":"externaldata.gatekeeper.sh/v1alpha1","kind":"ProviderRequest"}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		q, err := externaldata.Decode(body)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, externaldata.ErrLimit) || q.APIVersion != externaldata.V1Alpha1 || len(q.Keys) != 0 {
			t.Errorf("%s: %+v, %v", one, q, err)
		}
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 12<<20 {
			t.Errorf("%s: %d bytes cost %d MiB of memory", one, len(body), spent>>20)
		}
	}
}

func BenchmarkFiftyKeys(b *testing.B) {
	keys := make([]string, 50)
	for i := range keys {
		keys[i] = fmt.Sprintf("registry.example/team/app%d@sha256:%064d", i, i)
	}
	body := request(externaldata.V1Beta1, keys...)
	value := []byte(`{"version":"0.2.0","isSuccess":true,` + strings.Repeat(`"padding":"0123456789",`, 40) + `"verifierReports":[]}`)
	b.Run("boltseal", func(b *testing.B) {
		var room []byte // the server uses it again, too
		b.ReportAllocs()
		for b.Loop() {
			q, err := externaldata.Decode(body)
			if err != nil {
				b.Fatal(err)
			}
			items := make([]externaldata.Item, len(q.Keys))
			for i, k := range q.Keys {
				items[i] = externaldata.Item{Key: k, Value: value}
			}
			room = externaldata.AppendResponse(room[:0], q.APIVersion, false, items)
		}
	})
	b.Run("bare", func(b *testing.B) { // what a handler does that decodes and answers the same bytes
		answer := externaldata.AppendResponse(nil, externaldata.V1Beta1, false, []externaldata.Item{{Key: "a", Value: bytes.Repeat(value, 50)}})
		b.ReportAllocs()
		for b.Loop() {
			var q struct {
				APIVersion, Kind string
				Request          struct{ Keys []string }
			}
			if err := json.Unmarshal(body, &q); err != nil {
				b.Fatal(err)
			}
			_, _ = io.Discard.Write(answer)
		}
	})
}
