package migrate

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/api/config/v1beta1"
)

// pageSize bounds one answer of the API server, in objects.
const pageSize = 500

// Cluster reads all that Check wants to know from a cluster: every kind of Ratify's
// group, in the version that Boltseal reads where there is one, and Gatekeeper's Providers and ConstraintTemplates.
func Cluster(ctx context.Context, config *rest.Config) ([]Document, error) {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	found, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	groups, err := found.ServerGroups()
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's kinds: %w", err)
	}
	var out []Document
	for _, g := range groups.Groups {
		if !slices.Contains([]string{v1beta1.GroupVersion.Group, groupRatify2, groupProvider, groupTemplate}, g.Name) {
			continue
		}
		read := map[string]bool{}
		for _, version := range groupVersions(g) {
			gv := schema.GroupVersion{Group: g.Name, Version: version}
			resources, err := found.ServerResourcesForGroupVersion(gv.String())
			if err != nil {
				return nil, fmt.Errorf("reading the cluster's kinds of %s: %w", gv, err)
			}
			for _, r := range resources.APIResources {
				if read[r.Name] || !slices.Contains(r.Verbs, "list") {
					continue
				}
				read[r.Name] = true
				if out, err = listObjects(ctx, client, gv.WithResource(r.Name), out); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}

// groupVersions are those of a group: the one that Boltseal reads first, then the one that
// the cluster prefers.
func groupVersions(g metav1.APIGroup) []string {
	out := []string{g.PreferredVersion.Version}
	for _, v := range g.Versions {
		switch {
		case v.Version == g.PreferredVersion.Version:
		case v.GroupVersion == v1beta1.GroupVersion.String():
			out = slices.Insert(out, 0, v.Version)
		default:
			out = append(out, v.Version)
		}
	}
	return out
}

// listObjects appends all objects of a kind.
func listObjects(ctx context.Context, client dynamic.Interface, r schema.GroupVersionResource, out []Document) ([]Document, error) {
	for o := (metav1.ListOptions{Limit: pageSize}); ; {
		page, err := client.Resource(r).List(ctx, o)
		if apierrors.IsNotFound(err) { // it went away meanwhile
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading the cluster's %s.%s: %w", r.Resource, r.Group, err)
		}
		for i := range page.Items {
			data, err := json.Marshal(page.Items[i].Object)
			if err != nil {
				return nil, err
			}
			out = append(out, Document{Data: data})
		}
		if o.Continue = page.GetContinue(); o.Continue == "" {
			return out, nil
		}
	}
}
