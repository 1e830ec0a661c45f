package service_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// overBoth runs a test over plain HTTP/1.1 and over TLS with HTTP/2.
func overBoth(t *testing.T, f func(t *testing.T, o service.Options)) {
	for name, tls := range map[string]bool{"http": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, service.Options{SelfSigned: tls})
		})
	}
}

// TestReviewsThatCannotBeRead: each is denied, or refused where nobody knows what
// to answer to; and the next one is answered as ever.
func TestReviewsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	overBoth(t, func(t *testing.T, o service.Options) {
		r := start(t, testhouse.Options{}, o, policy("prod", ""))
		tag, _ := r.Signed("v", r.Signer)
		good := string(reviewOf(pod("team", tag)))
		change := func(old, new string) string {
			if !strings.Contains(good, old) {
				t.Fatalf("no %s in %s", old, good)
			}
			return strings.Replace(good, old, new, 1)
		}
		many := make([]string, admission.MaxImages+1)
		for i := range many {
			many[i] = tag
		}
		const refused, denied = 400, 200
		for name, tt := range map[string]struct {
			body   string
			status int
			says   string
		}{
			"null":                   {"null", refused, "not an AdmissionReview"},
			"an array":               {"[]", refused, ""},
			"truncated":              {good[:len(good)-40], denied, "could not read"},
			"truncated early":        {good[:30], refused, ""},
			"no uid":                 {change(`"uid":"uid-1",`, ``), refused, "uid"},
			"an empty uid":           {change(`"uid":"uid-1"`, `"uid":""`), refused, "uid"},
			"a uid of another type":  {change(`"uid":"uid-1"`, `"uid":7`), refused, ""},
			"a uid without end":      {change(`"uid":"uid-1"`, `"uid":"`+strings.Repeat("u", 10_000)+`"`), refused, "uid"},
			"two uids":               {change(`"uid":"uid-1"`, `"uid":"uid-1","uid":"uid-2"`), denied, "duplicate"},
			"no request":             {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, refused, "uid"},
			"another kind":           {change(`"AdmissionReview"`, `"TokenReview"`), denied, "TokenReview"},
			"an older version":       {change("admission.k8s.io/v1", "admission.k8s.io/v1beta1"), denied, "v1beta1"},
			"no version":             {change(`"apiVersion":"admission.k8s.io/v1"`, `"apiVersion":""`), denied, "apiVersion"},
			"no operation":           {change(`"CREATE"`, `""`), denied, "operation"},
			"another operation":      {change(`"CREATE"`, `"PATCH"`), denied, "operation"},
			"no object":              {change(`"object":{`, `"else":{`), denied, "request.object"},
			"object is null":         {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"kind":"Pod"},"operation":"CREATE","object":null}}`, denied, "request.object"},
			"object is text":         {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"kind":"Pod"},"operation":"CREATE","object":"{}"}}`, denied, "request.object"},
			"an image twice":         {change(`"image":"`, `"image":"a","image":"`), denied, "duplicate"},
			"containers are text":    {change(`"containers":[`, `"initContainers":"x","containers":[`), denied, "initContainers"},
			"too many containers":    {string(reviewOf(pod("team", many...))), denied, "more than 1000"},
			"nested without end":     {change(`"metadata":{`, `"metadata":{"x":`+strings.Repeat("[", 20_000)+strings.Repeat("]", 20_000)+`,`), denied, ""},
			"not UTF-8":              {change(`"image":"`, "\"image\":\"\xff\xfe"), denied, "UTF-8"},
			"something behind it":    {good + good, denied, ""},
			"an image of 10 kB":      {change(tag, "host/"+strings.Repeat("a", 10_000)+":v"), denied, "not an image reference"},
			"an image with a zero":   {change(tag, `host/a\u0000b:v`), denied, "not an image reference"},
			"an image in upper case": {change(tag, "host/A:v"), denied, "not an image reference"},
			"no image":               {change(`"image":"`+tag+`"`, `"image":""`), denied, "not an image reference"},
			"a signed tag, one more": {change(tag, tag+"@sha256:0"), denied, "not an image reference"},
		} {
			status, b := r.post(server.PathValidate, []byte(tt.body))
			var rv admissionv1.AdmissionReview
			switch {
			case status != tt.status || !bytes.Contains(b, []byte(tt.says)) || len(b) > 4<<10:
				t.Errorf("%s: HTTP %d: %.600s", name, status, b)
			case status == 200 && (json.Unmarshal(b, &rv) != nil || rv.Response == nil || rv.Response.Allowed || rv.Response.UID == "" || rv.Response.Result.Message == ""):
				t.Errorf("%s: %s", name, b)
			}
		}
		// What Boltseal does not judge goes by, and says so.
		for _, kind := range []string{"Gateway", "ConfigMap", "PodTemplateList"} {
			q := pod("team", tag)
			q.Kind.Kind = kind
			if a := r.review(server.PathValidate, q); !a.Allowed || len(a.Warnings) != 1 || !strings.Contains(a.Warnings[0], "does not read the kind "+kind) {
				t.Errorf("%s: %+v", kind, a)
			}
		}
		if a := r.validate("a-namespace-that-nobody-knows", tag); !a.Allowed {
			t.Errorf("a namespace that nobody knows: %+v", a)
		}
		if !r.validate("team", tag).Allowed {
			t.Error("not answered as ever")
		}
	})
}

// TestKubeSystemIsLetThroughWhereItIsKnown: an object that cannot be read is let
// into kube-system too, for the API server says that it goes there; where the
// review itself cannot be read, nothing says where.
func TestKubeSystemIsLetThroughWhereItIsKnown(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{Exempt: []string{"boltseal-system"}}, policy("prod", ""))
	unsigned, _ := r.Signed("unsigned")
	for namespace, exempt := range map[string]bool{"kube-system": true, "boltseal-system": true, "kube-systems": false, "team": false} {
		good := string(reviewOf(pod(namespace, unsigned)))
		for name, tt := range map[string]struct {
			old, new string
			known    bool
		}{
			"as it is":                 {"", "", true},
			"no object":                {`"object":{`, `"else":{`, true},
			"containers are text":      {`"containers":[`, `"initContainers":"x","containers":[`, true},
			"another operation":        {`"CREATE"`, `"PATCH"`, true},
			"another version":          {"admission.k8s.io/v1", "admission.k8s.io/v2", false},
			"another kind of question": {`"AdmissionReview"`, `"Else"`, false},
			"two namespaces":           {`"namespace":`, `"namespace":"kube-system","namespace":`, false},
			"two namespaces, reversed": {`"operation":`, `"namespace":"kube-system","operation":`, false},
			"something behind it":      {good, good + "{}", false},
		} {
			_, b := r.post(server.PathValidate, []byte(strings.Replace(good, tt.old, tt.new, 1)))
			if got, want := strings.Contains(string(b), `"allowed":true`), exempt && tt.known; got != want {
				t.Errorf("%s, %s: allowed is %v: %s", namespace, name, got, b)
			}
		}
	}
}

// TestProviderRequestsThatCannotBeRead: the answer is a system error in a version
// that its reader knows, and every key of the others has an answer of its own.
func TestProviderRequestsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	overBoth(t, func(t *testing.T, o service.Options) {
		r := start(t, testhouse.Options{}, o)
		tag, _ := r.Signed("v", r.Signer)
		request := func(version, keys string) string {
			return `{"apiVersion":"externaldata.gatekeeper.sh/` + version + `","kind":"ProviderRequest","request":{"keys":` + keys + `}}`
		}
		good := request("v1beta1", `["`+tag+`"]`)
		for name, tt := range map[string]struct{ body, says string }{
			"null":                   {"null", "v1beta1"},
			"nothing":                {"", "v1beta1"},
			"truncated":              {good[:len(good)-3], "v1beta1"},
			"another kind":           {strings.Replace(good, "ProviderRequest", "ProviderResponse", 1), "ProviderResponse"},
			"another version":        {request("v2", `["a"]`), `apiVersion \"externaldata.gatekeeper.sh/v2\"`},
			"no request":             {`{"apiVersion":"externaldata.gatekeeper.sh/v1alpha1","kind":"ProviderRequest"}`, "v1alpha1"},
			"keys are no texts":      {request("v1beta1", `[1,2]`), "v1beta1"},
			"keys are an object":     {request("v1beta1", `{"a":"b"}`), "v1beta1"},
			"keys twice":             {strings.Replace(good, `"keys":`, `"keys":["x"],"keys":`, 1), "duplicate"},
			"one key too many":       {request("v1beta1", `[`+strings.Repeat(`"a",`, externaldata.MaxKeys)+`"a"]`), "more than 10000 keys"},
			"millions of keys":       {request("v1beta1", `[`+strings.Repeat(`"",`, 1_300_000)+`""]`), "more than 10000 keys"},
			"a key that is not UTF8": {request("v1beta1", "[\"\xff\"]"), "UTF-8"},
			"nested without end":     {request("v1beta1", strings.Repeat("[", 20_000)), "v1beta1"},
			"something behind it":    {good + good, "v1beta1"},
		} {
			for _, path := range []string{server.PathVerify, server.PathMutate} {
				status, b := r.post(path, []byte(tt.body))
				if status != 200 || !json.Valid(b) || !bytes.Contains(b, []byte(`"systemError":"`)) || !bytes.Contains(b, []byte(tt.says)) || len(b) > 1000 {
					t.Errorf("%s: HTTP %d: %.600s", name, status, b)
				}
			}
		}
		if items := r.gatekeeper(server.PathVerify); len(items) != 0 {
			t.Errorf("no keys: %+v", items)
		}
		long := "host/" + strings.Repeat("a", 10_000) + ":v"
		odd := []string{"", "[", "[]", "[team]", "]", "[a]b]c", "host/A:v", "host/a\x00:v", "\u202e", long, tag, "[no-such-namespace]" + tag, " " + tag}
		for i, it := range r.gatekeeper(server.PathVerify, odd...) {
			if want := strings.HasSuffix(odd[i], tag) && odd[i][0] != ' '; it.trusted() != want || !want && it.Error == "" {
				t.Errorf("%.50q: %.300s %.300s", odd[i], it.Value, it.Error)
			}
			if len(it.Error) > 1000 {
				t.Errorf("%.50q: an error of %d bytes", odd[i], len(it.Error))
			}
		}
		// The largest request: 10,000 keys in 4 MiB.
		keys := make([]string, externaldata.MaxKeys)
		for i := range keys {
			keys[i] = fmt.Sprintf("%s %d", strings.Repeat("X", 405), i)
		}
		for i, it := range r.gatekeeper(server.PathVerify, keys...) {
			if it.Error == "" || it.trusted() {
				t.Fatalf("key %d: %+v", i, it)
			}
		}
		if !r.gatekeeper(server.PathVerify, tag)[0].trusted() {
			t.Error("not answered as ever")
		}
	})
}

// TestContentTypeIsNotLookedAt: Ratify does not either; what counts is what is in
// the body, and the answer says truly what it is.
func TestContentTypeIsNotLookedAt(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	_, pinned := r.Signed("v", r.Signer)
	body := reviewOf(pod("team", pinned))
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-8", "application/vnd.kubernetes.protobuf"} {
		req := testhouse.Need(http.NewRequestWithContext(t.Context(), http.MethodPost, r.base+server.PathValidate, bytes.NewReader(body)))(t)
		req.Header.Set("Content-Type", contentType)
		resp := testhouse.Need(r.client.Do(req))(t)
		b := testhouse.Need(io.ReadAll(resp.Body))(t)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" || !bytes.Contains(b, []byte(`"allowed":true`)) {
			t.Errorf("%q: HTTP %d, %q: %s", contentType, resp.StatusCode, resp.Header.Get("Content-Type"), b)
		}
	}
	protobuf, _ := (&corev1.Pod{}).Marshal()
	if status, b := r.post(server.PathValidate, append([]byte("k8s\x00"), protobuf...)); status != 400 {
		t.Errorf("protobuf: HTTP %d: %s", status, b)
	}
}

// TestAHundredAtOnce: one image, asked for in a hundred requests at once and
// several times in each, by tag and by digest, is verified once.
func TestAHundredAtOnce(t *testing.T) {
	t.Parallel()
	overBoth(t, func(t *testing.T, o service.Options) {
		r := start(t, testhouse.Options{Registry: testregistry.Options{Latency: 20 * time.Millisecond}}, o, policy("prod", ""))
		tag, pinned := r.Signed("v", r.Signer)
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				if i%2 == 0 {
					if !r.validate("team", tag, pinned, tag).Allowed {
						t.Error("denied")
					}
					return
				}
				for _, it := range r.gatekeeper(server.PathVerify, tag, pinned, "[team]"+tag, tag) {
					if !it.trusted() {
						t.Errorf("%s: %s %s", it.Key, it.Value, it.Error)
					}
				}
			})
		}
		wg.Wait()
		for class, want := range map[testregistry.Class]int{testregistry.Referrers: 1, testregistry.Blob: 1} {
			if got := r.Registry.Count(class); got != want {
				t.Errorf("%d requests of class %v", got, class)
			}
		}
		if got := r.metric("boltseal_verifications_total"); got != "1" {
			t.Errorf("%s verifications", got)
		}
	})
}
