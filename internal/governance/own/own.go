// Package own registers the cluster that is its own hub.
package own

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

// DefaultRetry is how soon a hub that did not answer, or does not know the kind yet, is asked again.
const DefaultRetry = 5 * time.Second

// Options make a Registrar.
type Options struct {
	// Config is the way to the API server. Required.
	Config *rest.Config
	// Name of the cluster. Required.
	Name string
	// Retry is how soon to ask again after a failure. 0 means DefaultRetry.
	Retry time.Duration
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
}

// Registrar makes the one Cluster, at the scope /, where there is none of its name.
// One that is there stays as its owner wrote it.
type Registrar struct {
	o        Options
	clusters dynamic.ResourceInterface
}

// Rules are the rights that it needs. A right to create cannot be bound to a name.
func Rules(name string) []rbacv1.PolicyRule {
	group := []string{v1alpha1.GroupVersion.Group}
	return []rbacv1.PolicyRule{
		{APIGroups: group, Resources: []string{"clusters"}, Verbs: []string{"get"}, ResourceNames: []string{name}},
		{APIGroups: group, Resources: []string{"clusters"}, Verbs: []string{"create"}},
	}
}

// New makes a Registrar. It does not talk to the cluster yet.
func New(o Options) (*Registrar, error) {
	if o.Config == nil || o.Name == "" {
		return nil, errors.New("own: Options.Config and Options.Name are required")
	}
	if o.Retry <= 0 {
		o.Retry = DefaultRetry
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d, err := dynamic.NewForConfig(o.Config)
	if err != nil {
		return nil, fmt.Errorf("own: %w", err)
	}
	return &Registrar{o, d.Resource(v1alpha1.GroupVersion.WithResource("clusters"))}, nil
}

// Metrics are none.
func (r *Registrar) Metrics() []prometheus.Collector { return nil }

// Run registers the cluster, and then waits until ctx ends. A cluster that does not
// know the kind is left alone until it does.
func (r *Registrar) Run(ctx context.Context) error {
	said := ""
	for {
		err := r.register(ctx)
		if err == nil {
			<-ctx.Done()
			return nil
		}
		if text := err.Error(); text != said && ctx.Err() == nil && !apierrors.IsNotFound(err) {
			r.o.Log.Warn("this cluster could not be registered with itself as the hub, and that is tried again", "error", text)
			said = text
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(r.o.Retry):
		}
	}
}

func (r *Registrar) register(ctx context.Context) error {
	_, err := r.clusters.Get(ctx, r.o.Name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	c := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{"scope": "/"}}}
	c.SetAPIVersion(v1alpha1.GroupVersion.String())
	c.SetKind(v1alpha1.KindCluster)
	c.SetName(r.o.Name)
	if _, err = r.clusters.Create(ctx, c, metav1.CreateOptions{FieldManager: "boltseal"}); apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err == nil {
		r.o.Log.Info("this cluster is its own hub; it is registered as a Cluster at the scope /", "cluster", r.o.Name)
	}
	return err
}
