package compile

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/oci"
)

// Key names a resource of a cluster.
type Key struct {
	Kind      string
	Namespace string // "" = cluster-wide
	Name      string
}

// String is the key as messages name it.
func (k Key) String() string {
	if k.Namespace != "" {
		return k.Kind + " " + k.Namespace + "/" + k.Name
	}
	return k.Kind + " " + k.Name
}

// Compare orders keys by kind, namespace and name.
func (k Key) Compare(o Key) int {
	return cmp.Or(strings.Compare(k.Kind, o.Kind), strings.Compare(k.Namespace, o.Namespace), strings.Compare(k.Name, o.Name))
}

// Resource is one version of a resource of a cluster, decoded. It keeps what was
// made of it, so that compiling again costs nothing for what has not changed. It
// is safe for concurrent use.
type Resource struct {
	key      Key
	created  time.Time
	doc      strict.Node
	problems strict.Problems // of decoding; set is then empty
	set      Set             // this resource alone
	// strict stands in for an ImageIntegrityPolicy that is not understood.
	strict *integrity.Policy

	mu        sync.Mutex
	read      bool
	provider  *providerSource
	sourceErr error
	registry  *madeRegistry
	listed    bool
	files     []string
	named     bool
	names     []string // of providers, in a Verifier
}

// object is what is read of a resource: the rest of the metadata is long, and
// status is ours.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string    `json:"name"`
		Namespace string    `json:"namespace,omitempty"`
		Created   time.Time `json:"creationTimestamp,omitzero"`
	} `json:"metadata"`
	Spec json.RawMessage `json:"spec,omitempty"`
}

// DecodeObject decodes a resource as the API server has it, in JSON, as strictly
// as Decode reads files. A resource that cannot be decoded is a Resource too: it
// stands in a cluster, and has problems.
func DecodeObject(data []byte) *Resource {
	r := &Resource{}
	var docs []strict.Node
	err := guarded(func() (err error) {
		docs, err = r.decode(data)
		return err
	})
	if err != nil {
		r.problems, r.set = collect(nil, err), Set{}
		if r.key.integrity() {
			r.strict = strictest(docs, r.key)
		}
	}
	return r
}

// guarded runs f, and makes a panic an error.
func guarded(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a fault in Boltseal, which deserves a report: %v", p)
		}
	}()
	return f()
}

func (r *Resource) decode(data []byte) ([]strict.Node, error) {
	var o object
	err := json.Unmarshal(data, &o)
	if o.Kind == v1beta1.KindCertificateStore {
		o.Metadata.Namespace = cmp.Or(o.Metadata.Namespace, defaultNamespace) // as kubectl does, for who decodes files so
	}
	r.key, r.created = Key{o.Kind, o.Metadata.Namespace, o.Metadata.Name}, o.Metadata.Created
	if err != nil {
		return nil, err
	}
	o.Metadata.Created = time.Time{}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(o); err != nil {
		return nil, err
	}
	docs, err := strict.Documents("", text.Bytes())
	switch {
	case err != nil:
		return nil, err
	case len(docs) != 1:
		return nil, fmt.Errorf("%d documents in place of one", len(docs))
	}
	r.doc = docs[0]
	if err := r.set.add(r.doc, map[string]strict.Node{}); err != nil {
		return docs, err
	}
	for i := range r.set.stores {
		r.set.stores[i].from = r
	}
	return docs, nil
}

// Key names the resource.
func (r *Resource) Key() Key { return r.key }

// Close releases connections. What still uses the resource opens new ones.
func (r *Resource) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.registry != nil {
		r.registry.Close()
	}
}

// source is the provider as its text says, read once.
func (r *Resource) source() (*providerSource, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.read {
		r.sourceErr = guarded(func() (err error) {
			r.provider, err = source(r.set.providers[0])
			return err
		})
		r.read = true
	}
	return r.provider, r.sourceErr
}

// madeRegistry is the registry client of a Store, and what it was made of.
type madeRegistry struct {
	*oci.Registry
	options oci.Options
	read    string // of files
}

// registryOf is the registry client of a Store, made once for what was read of files:
// connections that were made by others are not used any more.
func (r *Resource) registryOf(o oci.Options, read string) (*oci.Registry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.registry != nil && r.registry.read == read {
		return r.registry.Registry, nil
	}
	reg, err := oci.NewRegistry(o)
	if err != nil {
		return nil, err
	}
	if r.registry != nil {
		r.registry.Close()
	}
	r.registry = &madeRegistry{reg, o, read}
	return reg, nil
}

// lastMade is the registry client that was last made; nil where there is none.
func (r *Resource) lastMade() *madeRegistry {
	if r == nil {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.registry
}

// base is the kind without "Namespaced".
func (k Key) base() string { return strings.TrimPrefix(k.Kind, v1beta1.NamespacedPrefix) }

func (k Key) integrity() bool { return k.base() == v1alpha1.KindImageIntegrityPolicy }

// strictest is a policy in place of one that is not understood: every field that
// is wrong is read as the strictest that could be meant.
func strictest(docs []strict.Node, key Key) *integrity.Policy {
	everything, _ := integrity.Compile(key.Name, v1alpha1.ImageIntegrityPolicySpec{})
	if len(docs) != 1 {
		return everything.Of(key.Namespace)
	}
	spec, err := integritySpec(docs[0], key)
	if err != nil {
		return everything.Of(key.Namespace)
	}
	_, problems := integrity.Compile(key.Name, spec)
	spec.Exemptions = sound(spec.Exemptions, problems)
	for _, p := range problems {
		if strings.HasPrefix(p.Field, exemptionsField) {
			continue
		}
		switch p.Field {
		case "spec.match.kinds":
			spec.Match.Kinds = nil
		case "spec.match.namespaces":
			spec.Match.Namespaces = nil
		case "spec.match.excludedNamespaces":
			spec.Match.ExcludedNamespaces = nil
		case "spec.match.namespaceSelector":
			spec.Match.NamespaceSelector = nil
		case "spec.match.labelSelector":
			spec.Match.LabelSelector = nil
		case "spec.excludedImages":
			spec.ExcludedImages = nil
		case "spec.enforcementAction":
			spec.EnforcementAction = v1alpha1.Deny
		default:
			spec.OnUnavailable = v1alpha1.OnUnavailable{}
		}
	}
	p, problems := integrity.Compile(key.Name, spec)
	if len(problems) > 0 {
		p = everything
	} else if key.Namespace != "" && len(p.Others()) > 0 {
		spec.Match.Kinds = nil
		p, _ = integrity.Compile(key.Name, spec)
	}
	return p.Of(key.Namespace)
}

const exemptionsField = "spec.exemptions"

// sound are the exemptions that nothing is wrong with: one that is not understood
// takes nothing out.
func sound(list []v1alpha1.Exemption, problems []integrity.Problem) []v1alpha1.Exemption {
	wrong := map[int]bool{}
	for _, p := range problems {
		at, ok := strings.CutPrefix(p.Field, exemptionsField)
		if !ok {
			continue
		}
		digits, _, _ := strings.Cut(strings.TrimPrefix(at, "["), "]")
		i, err := strconv.Atoi(digits)
		if err != nil {
			return nil // the list itself is wrong
		}
		wrong[i] = true
	}
	var out []v1alpha1.Exemption
	for i, e := range list {
		if !wrong[i] {
			out = append(out, e)
		}
	}
	return out
}
