package kube

import (
	"context"
	"errors"
	"log/slog"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/kube/onewatch"
)

// Objects reads single Secrets, ConfigMaps and ServiceAccounts, and needs no right to any other.
type Objects struct {
	// Client is the way to the API server. Required.
	Client client.WithWatch
	// Log receives what an operator should know. Nil discards it.
	Log *slog.Logger
}

var _ keys.Objects = Objects{}

// Get returns an object's data.
func (o Objects) Get(ctx context.Context, kind, namespace, name string) (map[string][]byte, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	if kind == keys.KindSecret {
		var s corev1.Secret
		if err := o.Client.Get(ctx, key, &s); err != nil {
			return nil, failure(kind, namespace, name, err)
		}
		return s.Data, nil
	}
	var m corev1.ConfigMap
	if err := o.Client.Get(ctx, key, &m); err != nil {
		return nil, failure(kind, namespace, name, err)
	}
	out := make(map[string][]byte, len(m.Data)+len(m.BinaryData))
	maps.Copy(out, m.BinaryData)
	for k, v := range m.Data {
		out[k] = []byte(v)
	}
	return out, nil
}

// PullSecrets returns the names of a ServiceAccount's imagePullSecrets.
func (o Objects) PullSecrets(ctx context.Context, namespace, serviceAccount string) ([]string, error) {
	var a corev1.ServiceAccount
	if err := o.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: serviceAccount}, &a); err != nil {
		return nil, failure("ServiceAccount", namespace, serviceAccount, err)
	}
	var names []string
	for _, r := range a.ImagePullSecrets {
		names = append(names, r.Name)
	}
	return names, nil
}

func failure(kind, namespace, name string, err error) error {
	e := &keys.Error{Op: "read " + kind, Target: namespace + "/" + name, Host: "the API server", Err: boltseal.ErrUnavailable}
	var st apierrors.APIStatus
	if !errors.As(err, &st) {
		return keys.NoAnswer(e.Op, e.Target, e.Host, err)
	}
	e.Status = int(st.Status().Code)
	e.Err = keys.Sentinel(e.Status)
	if apierrors.IsForbidden(err) {
		e.Remedy = "give Boltseal's ServiceAccount the verbs get, list and watch on this object (a Role with resourceNames)"
	}
	return e
}

// Watch calls changed when the object may be another, until ctx ends. It is told of
// the object's metadata only; what it holds is read when it has changed.
func (o Objects) Watch(ctx context.Context, kind, namespace, name string, changed func()) {
	object, list := &metav1.PartialObjectMetadata{}, &metav1.PartialObjectMetadataList{}
	object.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: kind})
	list.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: kind + "List"})
	version := ""
	onewatch.Run(ctx, onewatch.Options{Client: o.Client, Object: object, List: list, Namespace: namespace, Name: name, Log: o.Log,
		Changed: func(u client.Object) {
			now := "gone"
			if u != nil {
				now = string(u.GetUID()) + "/" + u.GetResourceVersion()
			}
			if now != version {
				version = now
				changed()
			}
		}})
}
