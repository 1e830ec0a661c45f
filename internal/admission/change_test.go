package admission_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/test/weight"
)

func TestDecodeChange(t *testing.T) {
	t.Parallel()
	review := func(rest string) string {
		return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u",` + rest + `}}`
	}
	for _, c := range []struct{ body, operation, object string }{
		{review(`"kind":{"group":"g","kind":"K"},"operation":"CREATE","object":{"a":1},"oldObject":null`), "CREATE", `{"a":1}`},
		{review(`"operation":"UPDATE","object":{"a":1},"oldObject":{"b":1}`), "UPDATE", `{"a":1}`},
		{review(`"operation":"DELETE","object":null,"oldObject":{"b":1}`), "DELETE", `{"b":1}`},
	} {
		got, err := admission.DecodeChange([]byte(c.body))
		if err != nil || got.UID != "u" || got.Operation != c.operation || string(got.Object) != c.object {
			t.Errorf("%s: %+v, %v", c.body, got, err)
		}
	}
	for body, uid := range map[string]string{
		review(`"operation":"CONNECT","object":{}`):                      "u",
		review(`"operation":"DELETE","object":{}`):                       "u",
		review(`"operation":"CREATE","object":[]`):                       "u",
		strings.Replace(review(`"operation":"CREATE"`), "/v1", "/v2", 1): "u",
		`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`:  "",
		"{": "", "": "", "null": "", strings.Repeat(" ", admission.MaxBytes+1): "",
	} {
		got, err := admission.DecodeChange([]byte(body))
		if err == nil || got.UID != uid {
			t.Errorf("%.100s: %+v, %v", body, got, err)
		}
	}
}

// TestChangesOfManyValues: what costs much more to read than its bytes is not read.
func TestChangesOfManyValues(t *testing.T) {
	t.Parallel()
	for n, ok := range map[int]bool{admission.MaxTokens - 10: true, admission.MaxTokens: false, 300_000: false} {
		body := `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","kind":{"group":"g","kind":"K"},"operation":"CREATE","object":{"a":[1` + strings.Repeat(",1", n) + `]}}}`
		c, err := admission.DecodeChange([]byte(body))
		if (err == nil) != ok || !ok && !errors.Is(err, admission.ErrLimit) || c.UID != "u" || c.Group != "g" || c.Kind != "K" {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// FuzzDecodeChange: what is taken has a uid to be answered by, and an object, and costs no more than some times its bytes.
func FuzzDecodeChange(f *testing.F) {
	const head = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u",`
	f.Add([]byte(head + `"operation":"CREATE","object":{"a":1}}}`))
	f.Add([]byte(head + `"operation":"DELETE","kind":{"group":"boltseal.dev","kind":"ImageIntegrityPolicy"},"oldObject":{"a":[` + strings.Repeat("{},", 300) + `{}]}}}`))
	f.Add([]byte(`{"request":{"uid":"u"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var c admission.Change
		var err error
		weight.Bound{Floor: 64 << 10, Times: 64}.Check(t, len(body), func() { c, err = admission.DecodeChange(body) })
		if err == nil && (c.UID == "" || len(c.Object) == 0 || c.Object[0] != '{') {
			t.Fatalf("%+v", c)
		}
	})
}
