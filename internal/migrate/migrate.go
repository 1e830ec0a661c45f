// Package migrate says what of Ratify's configuration will behave differently under Boltseal.
package migrate

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/keys"
)

// Severity says how much a finding matters. The zero value is an error.
type Severity string

// The severities.
const (
	Error       Severity = ""            // Boltseal does not take it as it is written
	Unsupported Severity = "unsupported" // Boltseal has nothing that does this
	Differs     Severity = "differs"     // it works, and not as before
	OK          Severity = "ok"
)

// String returns "error", "unsupported", "differs" or "ok".
func (s Severity) String() string { return cmp.Or(string(s), "error") }

// MarshalText writes String.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// fails reports whether something will not work.
func (s Severity) fails() bool { return s == Error || s == Unsupported }

// Finding is what becomes of a resource, or of a part of it.
type Finding struct {
	// Resource is "KIND NAME" or "KIND NAMESPACE/NAME".
	Resource string `json:"resource"`
	// Place is where it stands, as FILE:LINE; empty for what is in a cluster.
	Place string `json:"place,omitempty"`
	// Field is the path of the part; empty for the resource as a whole.
	Field    string   `json:"field,omitempty"`
	Severity Severity `json:"severity"`
	// Ratify and Boltseal are what each does with it. Ratify is empty where it does
	// the same, or where nobody knows.
	Ratify   string `json:"ratify,omitempty"`
	Boltseal string `json:"boltseal"`
	// Do is what to do; empty where there is nothing to do.
	Do string `json:"do,omitempty"`
}

// Report is all that was found.
type Report struct {
	// Findings are in the order of the resources; each resource has at least one.
	Findings []Finding `json:"findings"`
	// PassedOver counts documents that are none of Ratify's or Gatekeeper's business.
	PassedOver int `json:"passedOver"`
}

// Fails reports whether something will not work.
func (r Report) Fails() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Severity.fails() })
}

// ErrNothing says that there is no resource of Ratify's.
var ErrNothing = errors.New("there is no resource of Ratify's")

// Options say how Boltseal is going to run.
type Options struct {
	// Namespace and Service are Boltseal's own. Required.
	Namespace, Service string
	// Compile says how resources are read in a cluster.
	Compile compile.ClusterOptions
	// Deps is what the configuration is compiled with. Keys is not used: nothing is
	// fetched.
	Deps compile.Deps
	// Partial says that there may be more resources than the documents.
	Partial bool
}

// errElsewhere stands in for what providers fetch. Its text is how what follows from
// it is told from what is wrong.
var errElsewhere = errors.New("certificates are fetched where Boltseal runs")

// entry is one of Ratify's resources, with what the document says.
type entry struct {
	*document
	key      compile.Key
	resource *compile.Resource
}

// checker looks at one set of documents.
type checker struct {
	o       Options
	known   compile.Names
	entries []*entry
	found   []Finding
}

// Check says what becomes of documents. An error, [ErrNothing], means that none of
// them is Ratify's.
func Check(docs []Document, o Options) (Report, error) {
	c := &checker{o: o, known: compile.Known()}
	var gatekeeper []*document
	var out Report
	at := map[compile.Key]int{}
	ratify := 0
	for _, in := range docs {
		d, belongs := readObject(in)
		switch belongs {
		case toNobody:
			out.PassedOver++
		case toGatekeeper:
			gatekeeper = append(gatekeeper, d)
		case toOther:
			ratify++
			c.foreign(d)
		case toRatify:
			ratify++
			e := c.entry(d)
			if e == nil {
				continue
			}
			if i, twice := at[e.key]; twice {
				c.add(c.entries[i].document, "metadata.name", Error, "", "it is listed twice, at "+d.Place+" too; kubectl apply keeps the later one, which is the one checked", "keep one of the two")
				c.entries[i] = e
				continue
			}
			at[e.key] = len(c.entries)
			c.entries = append(c.entries, e)
		}
	}
	ours, others := c.gatekeeper(gatekeeper, ratify > 0)
	out.PassedOver += others
	if ratify == 0 && !ours {
		return out, ErrNothing
	}
	c.compile()
	c.whole()
	out.Findings = c.found
	return out, nil
}

func (c *checker) add(d *document, field string, severity Severity, ratify, boltseal, do string) {
	c.found = append(c.found, Finding{d.String(), d.Place, field, severity, ratify, boltseal, do})
}

// entry decodes a resource as a cluster would; nil where it cannot be read.
func (c *checker) entry(d *document) *entry {
	if d.err != nil {
		c.add(d, "", Error, "", "it cannot be read: "+d.err.Error(), "correct it")
		return nil
	}
	if d.version != v1beta1.GroupVersion.Version {
		c.add(d, "apiVersion", Differs, "reads "+d.APIVersion, "reads it as "+v1beta1.GroupVersion.Version+", which its definitions add to a cluster; boltseal verify --config reads it so, and warns", "write "+v1beta1.GroupVersion.String())
	}
	r := compile.DecodeObject(d.normal())
	return &entry{document: d, key: r.Key(), resource: r}
}

// compile has the product compile all resources, and tells what came of each.
func (c *checker) compile() {
	entries := make([]compile.Entry, len(c.entries))
	for i, e := range c.entries {
		entries[i].Current = e.resource
	}
	deps := c.o.Deps
	deps.Keys = func(keys.Want) keys.State { return keys.State{Tried: true, Err: errElsewhere} }
	compiled, standing := compile.NewCluster(c.o.Compile, entries).Compile(deps, nil)
	defer compiled.Close()
	for _, e := range c.entries {
		before := len(c.found)
		c.stands(e, standing[e.key])
		c.behaves(e)
		if len(c.found) == before {
			c.add(e.document, "", OK, "", "takes it as it is written", "")
		}
	}
}

// whole says what the set lacks, and what namespaces have of their own.
func (c *checker) whole() {
	if len(c.entries) == 0 {
		return
	}
	have := map[string]bool{}
	own := map[string][]string{}
	var namespaces []string
	for _, e := range c.entries {
		kind, namespaced := strings.CutPrefix(e.key.Kind, v1beta1.NamespacedPrefix)
		have[kind] = true
		if !namespaced {
			continue
		}
		if own[e.key.Namespace] == nil {
			namespaces = append(namespaces, e.key.Namespace)
		}
		own[e.key.Namespace] = append(own[e.key.Namespace], e.key.Kind+" "+e.key.Name)
	}
	where, lacking := "", Error
	if c.o.Partial {
		where, lacking = ", unless it is in a file that was not named", Differs
	}
	for _, kind := range []string{v1beta1.KindStore, v1beta1.KindVerifier} {
		if !have[kind] {
			c.found = append(c.found, Finding{Resource: kind, Severity: lacking, Ratify: "verifies nothing without one", Boltseal: "denies every image without one" + where, Do: "add one, or name the file that has it"})
		}
	}
	if !have[v1beta1.KindPolicy] {
		c.found = append(c.found, Finding{Resource: v1beta1.KindPolicy, Severity: Differs, Ratify: "verifies no image before there is a Policy, and every answer is an error",
			Boltseal: "takes any one trusted signature of each type of artifact as enough" + where, Do: "see whether this is meant; else apply a Policy ratify-policy with default: all"})
	}
	for _, ns := range namespaces {
		slices.Sort(own[ns])
		c.found = append(c.found, Finding{Resource: "Namespace " + ns, Severity: Differs,
			Ratify: "uses " + strings.Join(own[ns], ", ") + " in place of the cluster's where a template asks for [" + ns + "]IMAGE",
			Boltseal: "does the same, kind by kind, where Gatekeeper asks; one that is broken denies, and the cluster's does not step in. " +
				"In its own webhook they are used for what a NamespacedImageIntegrityPolicy requires, in addition to the cluster's policies",
			Do: "keep a template that asks so; Boltseal's own asks so where parameters.namespaced is true"})
	}
}
