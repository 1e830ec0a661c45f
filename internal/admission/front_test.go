package admission

import (
	"encoding/json"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/boltseal/boltseal/internal/test/weight"
)

func TestFrontUID(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 253)
	q := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: Version, Kind: "AdmissionReview"}, Request: &admissionv1.AdmissionRequest{
		UID: "705ab4f5-6393-11e8-b7cc-42010a800002", Name: long, Namespace: long, Kind: metav1.GroupVersionKind{Group: long, Version: long, Kind: long},
		Object: runtime.RawExtension{Raw: []byte(`{"request":{"uid":"another"},"uid":"a third"}`)}}}
	whole, err := json.Marshal(q)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		want := ""
		if n > strings.Index(string(whole), string(q.Request.UID))+len(q.Request.UID) {
			want = string(q.Request.UID)
		}
		if got := FrontUID(whole[:n]); got != want {
			t.Fatalf("of %s: %q", whole[:n], got)
		}
	}
	if i := strings.Index(string(whole), string(q.Request.UID)); i+maxUID > FrontBytes {
		t.Errorf("the uid begins at byte %d", i)
	}
	for _, text := range []string{"", "null", "[]", `{"request":null}`, `{"request":[]}`, `{"request":{"uid":7}}`, `{"request":{"uid":"` + strings.Repeat("u", maxUID+1) + `"}}`,
		`{"uid":"outside","request":{"object":{"uid":"inside"}}}`, `{"other":{"request":{"uid":"deeper"}}}`} {
		if got := FrontUID([]byte(text)); got != "" {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// FuzzFrontUID: what a whole review is answered by is what its beginning is, or
// nothing.
func FuzzFrontUID(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE"}}`), uint16(90))
	f.Add([]byte(`{"request":{"kind":{"uid":"x"},"uid":"y"}}`), uint16(1000))
	f.Fuzz(func(t *testing.T, body []byte, n uint16) {
		weight.Bound{Floor: 16 << 10, Times: 4}.Check(t, min(int(n), len(body)), func() { _ = FrontUID(body[:min(int(n), len(body))]) })
		q, _ := Decode(body)
		if got := FrontUID(body[:min(int(n), len(body))]); got != "" && q.UID != "" && got != q.UID {
			t.Errorf("%q, and of the whole %q", got, q.UID)
		}
	})
}
