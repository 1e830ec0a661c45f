package keys

import (
	"context"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/base/strict"
)

// SecretRef names one entry of a Kubernetes Secret.
type SecretRef struct {
	// Name is that of the Secret.
	Name string `json:"name"`
	// Namespace is needed in a cluster-wide resource; elsewhere it is the resource's.
	Namespace string `json:"namespace"`
	// Key is the entry in it.
	Key string `json:"key"`
}

// Check finds what is wrong with a reference from a resource of a namespace; "" =
// cluster-wide.
func (r SecretRef) Check(namespace string, fail func(field, message string)) {
	CheckObject(namespace, r.Namespace, r.Name, fail)
	if r.Key == "" || len(validation.IsConfigMapKey(r.Key)) > 0 {
		fail("key", fmt.Sprintf("%s is no entry of a Secret", strict.Label(r.Key)))
	}
}

// CheckObject finds what is wrong with the namespace and the name of an object that
// a resource of a namespace names; "" = cluster-wide.
func CheckObject(namespace, of, name string, fail func(field, message string)) {
	switch {
	case name == "":
		fail("name", "it is missing")
	case len(validation.IsDNS1123Subdomain(name)) > 0:
		fail("name", fmt.Sprintf("%s is no name to Kubernetes: lower-case letters, digits, - and . only", strict.Label(name)))
	}
	switch {
	case namespace == "" && of == "":
		fail("namespace", "it is missing: a cluster-wide provider says which namespace it means")
	case namespace != "" && of != "" && of != namespace:
		fail("namespace", fmt.Sprintf("a provider of namespace %s reads only there: leave namespace out", namespace))
	case of != "" && len(validation.IsDNS1123Label(of)) > 0:
		fail("namespace", fmt.Sprintf("%s is no name to Kubernetes: lower-case letters, digits and - only", strict.Label(of)))
	}
}

// Read returns the entry without blanks around it. namespace is that of the
// resource. Errors wrap sentinels of the root package, and hold nothing of it.
func (r SecretRef) Read(ctx context.Context, objects Objects, namespace string) (string, error) {
	value, _, err := r.ReadAll(ctx, objects, namespace)
	return value, err
}

// ReadAll is Read, with all entries of the Secret beside.
func (r SecretRef) ReadAll(ctx context.Context, objects Objects, namespace string) (value string, all map[string][]byte, err error) {
	if objects == nil {
		return "", nil, NoCluster(KindSecret, r.Name)
	}
	if namespace == "" {
		namespace = r.Namespace
	}
	data, err := objects.Get(ctx, KindSecret, namespace, r.Name)
	if err != nil {
		return "", nil, err
	}
	value = strings.TrimSpace(string(data[r.Key]))
	if value == "" {
		return "", nil, &Error{Op: "read entry " + r.Key, Target: "of Secret " + namespace + "/" + r.Name, Err: boltseal.ErrNotFound}
	}
	return value, data, nil
}

// NoCluster says that an object cannot be read, since there is no cluster.
func NoCluster(kind, name string) error {
	return &Error{Op: "read " + kind, Target: name, Detail: "there is no cluster to read it from: the configuration is in files", Err: boltseal.ErrConfiguration}
}
