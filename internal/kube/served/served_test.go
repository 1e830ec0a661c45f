package served_test

import (
	"context"
	"errors"
	"maps"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/internal/kube/served"
)

type says struct {
	list []metav1.APIResource
	err  error
}

func (s says) ServerResourcesForGroupVersionWithContext(context.Context, string) (*metav1.APIResourceList, error) {
	return &metav1.APIResourceList{APIResources: s.list}, s.err
}

func TestKinds(t *testing.T) {
	t.Parallel()
	gv := schema.GroupVersion{Group: "boltseal.dev", Version: "v1alpha1"}
	broken := errors.New("503")
	for name, tt := range map[string]struct {
		says says
		want map[string]bool
		err  error
	}{
		"served": {says{list: []metav1.APIResource{{Name: "a", Kind: "A", Verbs: []string{"create", "delete", "list"}}, {Name: "a/status", Kind: "B", Verbs: []string{"get"}},
			{Name: "c", Kind: "C", Verbs: []string{"list"}}}}, map[string]bool{"A": true, "C": true}, nil},
		"on its way out":  {says{list: []metav1.APIResource{{Name: "a", Kind: "A", Verbs: []string{"delete", "deletecollection", "get", "list", "watch"}}}}, map[string]bool{"A": false}, nil},
		"no such version": {says{err: apierrors.NewNotFound(schema.GroupResource{}, "")}, map[string]bool{}, nil},
		"not known":       {says{err: broken}, nil, broken},
	} {
		got, err := served.Kinds(t.Context(), tt.says, gv)
		if !maps.Equal(got, tt.want) || !errors.Is(err, tt.err) || (got == nil) != (tt.err != nil) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}
