// Package served asks an API server which kinds it serves, so that resources that went with their kind are told from those that were deleted.
package served

import (
	"context"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

const (
	// Lag is how long after its resources went an API server may take to say that their
	// definition is on its way out, too.
	Lag = 300 * time.Millisecond
	// timeout bounds a question.
	timeout = 10 * time.Second
)

// Discovery answers which resources a version has.
type Discovery interface {
	ServerResourcesForGroupVersionWithContext(ctx context.Context, groupVersion string) (*metav1.APIResourceList, error)
}

// Kinds are the kinds of a version that the API server serves, but for those whose
// definitions are on their way out: who deletes a CustomResourceDefinition deletes all
// its resources by the way. A version that is not there has none.
func Kinds(ctx context.Context, d Discovery, gv schema.GroupVersion) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	known := map[string]bool{}
	list, err := d.ServerResourcesForGroupVersionWithContext(ctx, gv.String())
	switch {
	case apierrors.IsNotFound(err):
		return known, nil
	case err != nil:
		return nil, err
	}
	for _, r := range list.APIResources {
		if !strings.Contains(r.Name, "/") {
			known[r.Kind] = !isEnding(r)
		}
	}
	return known, nil
}

// isEnding reports whether a resource's definition is being deleted: then its objects
// can be deleted, and none be created (Kubernetes, CustomResourceDefinition,
// condition Terminating).
func isEnding(r metav1.APIResource) bool {
	return slices.Contains(r.Verbs, "delete") && !slices.Contains(r.Verbs, "create")
}
