package doctor

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/keys"
	"github.com/boltseal/boltseal/internal/kube/registrar"
)

// ClusterOptions say how Boltseal is installed.
type ClusterOptions struct {
	// Namespace, Account and Service are Boltseal's. Required.
	Namespace, Account, Service string
	// Webhook is the name of its webhook configurations, Lease that of the lease of the
	// replica that leads. Required.
	Webhook, Lease string
	// Provider is the name of Gatekeeper's Provider that asks it. Required.
	Provider string
	// Kinds are the kinds of its resources. Required.
	Kinds []schema.GroupVersionKind
	// Nodes reads what the cluster's Nodes run. Required.
	Nodes func(context.Context, *rest.Config) *compile.Nodes
	// TryNamespace is where a Pod is tried, as a dry run. Required.
	TryNamespace string
	// Compile says how resources are read.
	Compile compile.ClusterOptions
}

// pageSize bounds one answer of the API server, in objects.
const pageSize = 500

type clusterCheck struct {
	client client.Client
	// inForce are the resources of which Boltseal itself says that they are in force.
	inForce map[string]bool
	o       ClusterOptions
	now     time.Time
	out     []Finding
	nodes   bool // some Policy asks what Nodes run
	demands demands
	kinds   map[string]int // how many resources there are, by kind
	unread  bool           // some of our kinds could not be read
}

// Cluster looks at a cluster's resources and at how Boltseal is installed there, and
// asks the registries that trust policies name. An error means that nothing could
// be looked at.
func Cluster(ctx context.Context, config *rest.Config, c ClusterOptions, deps compile.Deps, o Options) ([]Finding, error) {
	o = o.complete()
	scheme := runtime.NewScheme()
	if err := authorizationv1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	cl, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	x := &clusterCheck{client: cl, inForce: map[string]bool{}, kinds: map[string]int{}, o: c, now: o.Clock()}
	entries, err := x.resources(ctx)
	if err != nil {
		return nil, err
	}
	cluster := compile.NewCluster(c.Compile, entries)
	deps.Keys, deps.Cloud = keys.Once(ctx, o.Keys, cluster.Wants()), o.Keys
	deps.Sources = &credential.Pool{}
	if cluster.WantsNodes() {
		x.nodes, deps.Nodes = true, c.Nodes(ctx, config)
	}
	compiled, standing := cluster.Compile(deps, nil)
	defer compiled.Close()
	survey := cluster.Survey(deps.Keys)
	resources := x.out
	x.out = nil
	x.replicas(ctx)
	x.constraints(ctx)
	engine := compiled.EngineFor("")
	x.demanded(engine)
	x.admission(ctx, engine, o)
	x.out = append(x.out, resources...)
	x.standing(standing)
	x.out = append(x.out, x.asBoltsealSees(fetchFindings(survey))...)
	x.out = append(x.out, certificateFindings(survey, x.now)...)
	x.out = append(x.out, statementFindings(survey)...)
	stores := cluster.Credentials(deps)
	x.proof(ctx, stores)
	x.out = append(x.out, checkCredentials(ctx, stores, "kubectl -n "+c.Namespace+" exec deploy/"+c.Service+" -- boltseal doctor", o)...)
	x.out = append(x.out, checkRegistries(ctx, engine, survey, o)...)
	x.webhooks(ctx)
	x.gatekeeper(ctx, o)
	x.permissions(ctx)
	return mergeRepeats(x.out), nil
}

func (x *clusterCheck) add(area, subject string, level Level, message, remedy string) {
	x.out = append(x.out, Finding{area, subject, level, message, remedy})
}

// resources reads all resources of ours.
func (x *clusterCheck) resources(ctx context.Context) ([]compile.Entry, error) {
	var entries []compile.Entry
	unseen := 0
	for _, gvk := range x.o.Kinds {
		more := ""
		for {
			list := &unstructured.UnstructuredList{}
			list.SetGroupVersionKind(gvk)
			err := x.client.List(ctx, list, client.Limit(pageSize), client.Continue(more))
			if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
				x.add(AreaCluster, gvk.Kind, Problem, "the cluster does not know this kind", "apply the CustomResourceDefinitions: boltseal crds | kubectl apply --server-side -f -")
				break
			}
			if apierrors.IsForbidden(err) {
				x.unread, x.demands.unknown = true, true
				x.add(AreaCluster, gvk.Kind, Unknown, "you may not list this kind, so that nothing is known of it", "ask as somebody who may")
				break
			}
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", gvk.Kind, err)
			}
			x.kinds[gvk.Kind] += len(list.Items)
			for i := range list.Items {
				u := &list.Items[i]
				x.demands.demandOf(u)
				if !hasStatus(u) {
					unseen++
				}
				data, err := json.Marshal(u.Object)
				if err != nil {
					return nil, err
				}
				r := compile.DecodeObject(data)
				x.inForce[r.Key().String()] = isActive(u)
				entries = append(entries, compile.Entry{Current: r})
			}
			if more = list.GetContinue(); more == "" {
				break
			}
		}
	}
	if unseen > 0 {
		x.add(AreaCluster, "", Problem, pluralOf(unseen, "resource")+" of "+fmt.Sprint(len(entries))+" have no status of their present version: no Boltseal that writes statuses has checked them",
			"see whether its Pods run, and what they log: kubectl -n "+x.o.Namespace+" get pods")
	}
	return entries, nil
}

// asBoltsealSees makes warnings of problems with resources that are in force where
// Boltseal runs: its identities are not those of whoever looks from here.
func (x *clusterCheck) asBoltsealSees(fs []Finding) []Finding {
	for i, f := range fs {
		if f.Level == Problem && x.inForce[f.Subject] {
			fs[i].Level, fs[i].Message = Warning, "seen from here: "+f.Message+". Boltseal's own status says that it is active"
			fs[i].Remedy = "nothing, where the identity that may fetch it is Boltseal's alone"
		}
	}
	return fs
}

// isActive reports whether Boltseal says that this version is in force.
func isActive(u *unstructured.Unstructured) bool {
	ok, _, _ := unstructured.NestedBool(u.Object, "status", "issuccess")
	return ok && hasStatus(u)
}

// hasStatus reports whether Boltseal has written a status about this version.
func hasStatus(u *unstructured.Unstructured) bool {
	list, _, _ := unstructured.NestedSlice(u.Object, "status", "conditions")
	for _, in := range list {
		c, _ := in.(map[string]any)
		if c["type"] == "Ready" {
			g, _ := c["observedGeneration"].(int64)
			return g >= u.GetGeneration()
		}
	}
	return false
}

func (x *clusterCheck) standing(standing map[compile.Key]*compile.Standing) {
	keys := make([]compile.Key, 0, len(standing))
	for k := range standing {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, compile.Key.Compare)
	good := 0
	for _, k := range keys {
		for _, p := range standing[k].Problems {
			if standing[k].Fetched != nil {
				break // told with its certificates
			}
			x.out = append(x.out, x.asBoltsealSees([]Finding{{AreaConfiguration, k.String(), Problem, p.Error(), "correct it: kubectl edit"}})...)
		}
		for _, w := range standing[k].Warnings {
			x.add(AreaConfiguration, k.String(), Warning, w.Error(), "see whether this is meant")
		}
		if standing[k].OK() {
			good++
		}
	}
	switch {
	case len(keys) == 0:
		x.add(AreaConfiguration, "", Warning, "there is no resource", "apply a KeyManagementProvider, a Store and a Verifier")
	case good > 0:
		x.add(AreaConfiguration, "", OK, pluralOf(good, "resource")+" of "+fmt.Sprint(len(keys))+" as they are written", "")
	}
}

// get reads an object, nil where it is not there or its kind is not.
func (x *clusterCheck) get(ctx context.Context, gvk schema.GroupVersionKind, namespace, name string) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(gvk)
	err := x.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, u)
	switch {
	case meta.IsNoMatchError(err) || apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return u, nil
}

// failed tells that something could not be looked at.
func (x *clusterCheck) failed(area, subject string, err error) {
	x.add(area, subject, Unknown, "it could not be checked: "+err.Error(), "ask as somebody who may")
}

func (x *clusterCheck) webhooks(ctx context.Context) {
	for _, kind := range []string{"ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"} {
		subject := kind + " " + x.o.Webhook
		u, err := x.get(ctx, schema.GroupVersionKind{Group: "admissionregistration.k8s.io", Version: "v1", Kind: kind}, "", x.o.Webhook)
		switch {
		case err != nil:
			x.failed(AreaWebhooks, subject, err)
			continue
		case u == nil:
			x.out = append(x.out, x.withoutWebhook(subject))
			continue
		}
		hooks, _, _ := unstructured.NestedSlice(u.Object, "webhooks")
		for _, in := range hooks {
			h, _ := in.(map[string]any)
			name, _ := h["name"].(string)
			bundle, _, _ := unstructured.NestedString(h, "clientConfig", "caBundle")
			x.bundle(AreaWebhooks, subject+", "+name, bundle)
			if h["failurePolicy"] == "Ignore" && name != registrar.AdviseWebhook { // that one judges nothing
				x.add(AreaWebhooks, subject+", "+name, Warning, "its failurePolicy is Ignore: what cannot be checked is admitted", "serve --webhook-failure-policy Fail, unless this is meant")
			}
		}
	}
}

// withoutWebhook says how much it matters that a webhook configuration does not exist: a policy that
// refuses nothing looks as if it did. Where only Gatekeeper's constraints refuse, none is needed.
func (x *clusterCheck) withoutWebhook(subject string) Finding {
	f := Finding{Area: AreaWebhooks, Subject: subject, Level: Warning, Message: "it does not exist: ImageIntegrityPolicies are not enforced at admission", Remedy: "let Boltseal create it (serve --webhook enforce), unless Gatekeeper does the work"}
	switch d := &x.demands; {
	case d.policies:
		f.Level = Problem
	case !d.anyPolicy && len(d.deny) > 0:
		f.Level, f.Message, f.Remedy = OK, "it does not exist, and is not needed: Gatekeeper denies, and there is no ImageIntegrityPolicy", ""
	}
	return f
}

// bundle looks at the CAs that a caller trusts, and reports whether any is good.
func (x *clusterCheck) bundle(area, subject, encoded string) bool {
	remedy := "see what Boltseal logs about its serving certificate; it puts its CA there itself"
	raw, err := base64.StdEncoding.DecodeString(encoded)
	certs, bad := parseCertificates(raw)
	switch {
	case err != nil || bad != nil:
		x.add(area, subject, Problem, "its caBundle cannot be read: "+errors.Join(err, bad).Error(), remedy)
	case len(certs) == 0:
		x.add(area, subject, Problem, "its caBundle is empty: the caller cannot trust Boltseal", remedy)
	case !slices.ContainsFunc(certs, func(c *x509.Certificate) bool { return x.now.Before(c.NotAfter) }):
		x.add(area, subject, Problem, "all CAs in its caBundle have expired", remedy)
	default:
		x.add(area, subject, OK, pluralOf(len(certs), "CA")+" in its caBundle", "")
		return true
	}
	return false
}

func parseCertificates(b []byte) (certs []*x509.Certificate, err error) {
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return certs, nil
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
}

// replicas counts the replicas behind the Service that are ready.
func (x *clusterCheck) replicas(ctx context.Context) {
	subject := "Service " + x.o.Namespace + "/" + x.o.Service
	svc, err := x.get(ctx, schema.GroupVersionKind{Version: "v1", Kind: "Service"}, x.o.Namespace, x.o.Service)
	if err != nil {
		x.failed(AreaReplicas, subject, err)
		return
	}
	if svc == nil {
		x.add(AreaReplicas, subject, Problem, "it is not there: nobody can ask Boltseal", "install Boltseal, or name its namespace and Service")
		return
	}
	if kind, _, _ := unstructured.NestedString(svc.Object, "spec", "type"); kind == "ExternalName" {
		return // what stands behind it is not in this cluster
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Group: "discovery.k8s.io", Version: "v1", Kind: "EndpointSlice"})
	if err := x.client.List(ctx, list, client.InNamespace(x.o.Namespace), client.MatchingLabels{"kubernetes.io/service-name": x.o.Service}); err != nil {
		x.failed(AreaReplicas, subject, err)
		return
	}
	ready := 0
	for _, slice := range list.Items {
		endpoints, _, _ := unstructured.NestedSlice(slice.Object, "endpoints")
		for _, in := range endpoints {
			e, _ := in.(map[string]any)
			if ok, found, _ := unstructured.NestedBool(e, "conditions", "ready"); ok || !found {
				ready++
			}
		}
	}
	switch ready {
	case 0:
		x.add(AreaReplicas, subject, Problem, "no replica is ready", "kubectl -n "+x.o.Namespace+" get pods; /readyz?verbose at the health port says what is missing")
	case 1:
		x.add(AreaReplicas, subject, Warning, "one replica is ready: while it restarts, nothing is checked", "run two or more")
	default:
		x.add(AreaReplicas, subject, OK, fmt.Sprintf("%d replicas are ready", ready), "")
	}
}

// permissions asks whether Boltseal's ServiceAccount may do what it has to.
func (x *clusterCheck) permissions(ctx context.Context) {
	user := "system:serviceaccount:" + x.o.Namespace + ":" + x.o.Account
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + x.o.Namespace, "system:authenticated"}
	missing := 0
	for _, need := range requiredRights(x.o, x.nodes) {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, Groups: groups, ResourceAttributes: &need}}
		if err := x.client.Create(ctx, review); err != nil {
			x.failed(AreaPermissions, "ServiceAccount "+x.o.Namespace+"/"+x.o.Account, err)
			return
		}
		if !review.Status.Allowed {
			missing++
			x.add(AreaPermissions, "ServiceAccount "+x.o.Namespace+"/"+x.o.Account, Problem, "it may not "+describeRight(need), "give it the rights of the chart")
		}
	}
	if missing == 0 {
		x.add(AreaPermissions, "ServiceAccount "+x.o.Namespace+"/"+x.o.Account, OK, "it may do what it has to", "")
	}
}

func describeRight(a authorizationv1.ResourceAttributes) string {
	what := a.Resource
	if a.Subresource != "" {
		what += "/" + a.Subresource
	}
	if a.Group != "" {
		what += "." + a.Group
	}
	if a.Name != "" {
		what += " " + a.Name
	}
	if a.Namespace != "" {
		what += " in namespace " + a.Namespace
	}
	return a.Verb + " " + what
}

// requiredRights are rights that Boltseal cannot do without.
func requiredRights(o ClusterOptions, nodes bool) []authorizationv1.ResourceAttributes {
	var out []authorizationv1.ResourceAttributes
	for _, gvk := range o.Kinds {
		plural, _ := meta.UnsafeGuessKindToResource(gvk)
		for _, verb := range []string{"list", "watch"} {
			out = append(out, authorizationv1.ResourceAttributes{Group: gvk.Group, Resource: plural.Resource, Verb: verb})
		}
		out = append(out, authorizationv1.ResourceAttributes{Group: gvk.Group, Resource: plural.Resource, Subresource: "status", Verb: "patch"})
	}
	for _, verb := range []string{"list", "watch"} {
		out = append(out, authorizationv1.ResourceAttributes{Resource: "namespaces", Verb: verb})
	}
	if nodes {
		for _, verb := range []string{"list", "watch"} {
			out = append(out, authorizationv1.ResourceAttributes{Resource: "nodes", Verb: verb})
		}
	}
	lease := authorizationv1.ResourceAttributes{Group: "coordination.k8s.io", Resource: "leases", Namespace: o.Namespace, Verb: "create"}
	out = append(out, lease)
	for _, verb := range []string{"get", "update"} {
		lease.Name, lease.Verb = o.Lease, verb // a right to create has no name
		out = append(out, lease)
	}
	return append(out, authorizationv1.ResourceAttributes{Resource: "events", Verb: "create"})
}
