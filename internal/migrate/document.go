package migrate

import (
	"encoding/json"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/compile"
)

// Groups of others.
const (
	groupProvider = "externaldata.gatekeeper.sh"
	groupTemplate = "templates.gatekeeper.sh"
	groupRatify2  = "config.ratify.dev"
)

// Document is one object, from a file or a cluster.
type Document struct {
	Place string // FILE:LINE; empty in a cluster
	Data  []byte // JSON
	// Err says why Data could not be made; Data then has apiVersion, kind and metadata.
	Err error

	namespace string // of what is in one and names none
}

// header is what every object has.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name      string    `json:"name,omitempty"`
		Namespace string    `json:"namespace,omitempty"`
		Created   time.Time `json:"creationTimestamp,omitzero"`
	} `json:"metadata"`
}

// Files takes files apart, a configuration of Ratify's command line too; Source's
// Namespace is given to namespaced kinds, and to CertificateStores. The error says what
// is no YAML, or is not read of such a configuration.
func Files(sources []compile.Source) ([]Document, error) {
	var out []Document
	for _, src := range sources {
		nodes, _, err := compile.Documents(src)
		if err != nil {
			return nil, err
		}
		for _, n := range nodes {
			d := Document{Place: n.Place(), namespace: src.Namespace}
			var raw json.RawMessage
			if d.Err = n.Decode(&raw); d.Err != nil {
				var h header
				h.APIVersion, h.Kind = n.Text("apiVersion"), n.Text("kind")
				h.Metadata.Name, h.Metadata.Namespace = n.Text("metadata", "name"), n.Text("metadata", "namespace")
				if raw, err = json.Marshal(h); err != nil {
					return nil, err
				}
			}
			d.Data = raw
			out = append(out, d)
		}
	}
	return out, nil
}

// belongs says whose business an object is.
type belongs int

const (
	toNobody belongs = iota
	toRatify
	toGatekeeper
	toOther // of Ratify's, in a shape that is not known here
)

// document is a Document with what is asked of it.
type document struct {
	header
	Place string
	Spec  spec

	raw     json.RawMessage // of the spec
	group   string
	version string
	err     error
}

// spec are the fields of all kinds' specs that decide about behaviour. What is wrong
// with the rest is the product's to say.
type spec struct {
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Provider   string          `json:"provider"`
	Version    string          `json:"version"`
	Address    string          `json:"address"`
	Artifacts  string          `json:"artifactTypes"`
	Source     json.RawMessage `json:"source"`
	Parameters parameters      `json:"parameters"`

	// Of Gatekeeper's Provider.
	URL     string `json:"url"`
	Timeout int    `json:"timeout"` // seconds
	// Of Gatekeeper's ConstraintTemplate.
	Targets []struct {
		Rego string   `json:"rego"`
		Libs []string `json:"libs"`
		Code []struct {
			Source struct {
				Rego string   `json:"rego"`
				Libs []string `json:"libs"`
			} `json:"source"`
		} `json:"code"`
	} `json:"targets"`
}

// parameters are those of all kinds that decide about behaviour.
type parameters struct {
	UseHTTP      bool            `json:"useHttp"`
	CacheEnabled bool            `json:"cacheEnabled"`
	TTL          json.RawMessage `json:"ttl"`
	AuthProvider struct {
		Name       string `json:"name"`
		ConfigPath string `json:"configPath"`
	} `json:"authProvider"`
	Registries []json.RawMessage `json:"registries"`

	VerificationCerts      []string        `json:"verificationCerts"`
	VerificationCertStores json.RawMessage `json:"verificationCertStores"`

	ContentType string            `json:"contentType"`
	Keys        []json.RawMessage `json:"keys"`

	Rules map[string]string `json:"artifactVerificationPolicies"`
}

// readObject looks at an object. Fields of other types than they should have are left
// out; the product says so.
func readObject(in Document) (*document, belongs) {
	d := &document{Place: in.Place, err: in.Err}
	_ = json.Unmarshal(in.Data, &d.header)
	if d.namespaced() && d.Metadata.Namespace == "" {
		d.Metadata.Namespace = in.namespace
	}
	var body struct {
		Spec json.RawMessage `json:"spec"`
	}
	_ = json.Unmarshal(in.Data, &body)
	d.raw = body.Spec
	_ = json.Unmarshal(body.Spec, &d.Spec)
	gv, err := schema.ParseGroupVersion(d.APIVersion)
	if err != nil {
		return d, toNobody
	}
	d.group, d.version = gv.Group, gv.Version
	switch {
	case gv.Group == v1beta1.GroupVersion.Group:
		return d, toRatify
	case gv.Group == groupProvider && d.Kind == "Provider", gv.Group == groupTemplate && d.Kind == "ConstraintTemplate":
		return d, toGatekeeper
	case gv.Group == groupRatify2, nearest.Word(gv.Group, []string{v1beta1.GroupVersion.Group}) != "":
		return d, toOther
	}
	return d, toNobody
}

// String is the resource as findings name it.
func (d *document) String() string {
	return strict.Object{Kind: d.Kind, Namespace: d.Metadata.Namespace, Name: d.Metadata.Name}.String()
}

// namespaced reports whether the kind is in a namespace.
func (d *document) namespaced() bool {
	return strings.HasPrefix(d.Kind, v1beta1.NamespacedPrefix) || d.Kind == v1beta1.KindCertificateStore
}

// normal is the object as the API server has it in the version that Boltseal reads.
func (d *document) normal() []byte {
	h := d.header
	h.APIVersion = v1beta1.GroupVersion.String()
	if !d.namespaced() {
		h.Metadata.Namespace = ""
	}
	b, err := json.Marshal(struct {
		header
		Spec json.RawMessage `json:"spec,omitempty"`
	}{h, d.raw})
	if err != nil { // there is none: all of it was JSON
		return nil
	}
	return b
}

// foreign tells of what Ratify's next version, or a slip, has made of the group.
func (c *checker) foreign(d *document) {
	if d.group == groupRatify2 {
		c.add(d, "apiVersion", Unsupported, "reads it from version 2 on", "does not read "+strict.Label(d.APIVersion), "write the same as Store, Verifier, KeyManagementProvider and Policy of "+v1beta1.GroupVersion.String())
		return
	}
	c.add(d, "apiVersion", Error, "does not read it", "does not read it: "+strict.Label(d.APIVersion)+" is not known"+nearest.Hint(d.group, []string{v1beta1.GroupVersion.Group}), "write "+v1beta1.GroupVersion.String())
}
