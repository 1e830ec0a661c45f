package controller

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/internal/compile"
)

// readPage is how many resources are listed at a time.
const readPage = 500

// Read reads all resources of a cluster once, for who looks at a cluster from
// outside. Kinds that the cluster does not have have no resources.
func Read(ctx context.Context, config *rest.Config) ([]compile.Entry, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	var entries []compile.Entry
	for _, gvk := range Kinds() {
		resource, _ := meta.UnsafeGuessKindToResource(gvk) // all our kinds have regular plurals
		for o := (metav1.ListOptions{Limit: readPage}); ; {
			list, err := client.Resource(resource).List(ctx, o)
			if apierrors.IsNotFound(err) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("reading the cluster's resources of kind %s: %w", gvk.Kind, err)
			}
			for i := range list.Items {
				data, err := json.Marshal(list.Items[i].Object)
				if err != nil {
					return nil, fmt.Errorf("%s: %w", keyOf(&list.Items[i]), err)
				}
				entries = append(entries, compile.Entry{Current: compile.DecodeObject(data)})
			}
			if o.Continue = list.GetContinue(); o.Continue == "" {
				break
			}
		}
	}
	return entries, nil
}
