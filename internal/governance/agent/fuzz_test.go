package agent

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzBundle: what a hub sends costs no more than its size to read, from the bytes to
// the bundle, and a panic of what reads it would end the agent.
func FuzzBundle(f *testing.F) {
	head := `{"apiVersion":"` + v1alpha1.GroupVersion.String() + `","kind":"ClusterBundle","metadata":{"name":"a"}`
	for _, s := range []string{
		head + `}`, head + `,"spec":{"demands":[{"name":"d","effect":"deny","parameters":{"a":{"b":[[[1]]]}}}]}}`, head + `,"spec":{"demands":[` + strings.Repeat("{},", 99) + `{}]}}`,
		head + `,"spec":{"demands":[{"objects":[{"kind":"ConfigMap"}]}],"exemptions":null}}`, head + `,"spec":{"a":` + strings.Repeat("[", 99) + strings.Repeat("]", 99) + `}}`,
		`{"kind":"List","items":[` + strings.Repeat(`{"kind":"x"},`, 9) + `{"kind":"x"}]}`, `{}`, `[`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: 128 << 10, Times: 256}.Check(t, len(b), func() {
			u := &unstructured.Unstructured{}
			if u.UnmarshalJSON(b) != nil {
				return
			}
			told := 0
			err := (&follower{tell: func(*v1alpha1.ClusterBundle) { told++ }}).read(u)
			if (err == nil) != (told == 1) {
				t.Errorf("told %d times, %v", told, err)
			}
		})
	})
}
