package registrar

import (
	"slices"
	"strconv"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Name is that of both webhook configurations.
const Name = "boltseal"

// Names of the webhooks, as people see them in a denial.
const (
	PinWebhook      = "pin.boltseal.dev"
	ValidateWebhook = "validate.boltseal.dev"
	AdviseWebhook   = "advise.boltseal.dev"
)

// nameLabel is a label of every namespace that only the API server sets, to the
// namespace's name: nobody can put it on a namespace to get around the webhook.
const nameLabel = "kubernetes.io/metadata.name"

const (
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "boltseal"
)

// Webhooks say what the webhook configurations are to be.
type Webhooks struct {
	// Namespace, Service and Port are where the API server asks. Required.
	Namespace, Service string
	Port               int32
	// PinPath and ValidatePath are the paths there. Required.
	PinPath, ValidatePath string
	// Exempt are namespaces that are never asked about; kube-system and Namespace
	// are among them in any case.
	Exempt []string
	// FailurePolicy is what becomes of a request that is not answered. "" means
	// Fail: it is refused.
	FailurePolicy admissionregistrationv1.FailurePolicyType
	// TimeoutSeconds is how long the API server waits, 1 to 30. 0 means 10.
	TimeoutSeconds int32
	// Others are kinds of others that are asked about, too, as GROUP/Kind in order.
	Others []string
	// AdvisePath is where is asked what whoever changes something of Advised, Boltseal's
	// own kinds, should know. "" means that nobody asks.
	AdvisePath string
	Advised    []schema.GroupVersionKind
}

const (
	defaultTimeout = 10
	maxTimeout     = 30
	// adviseTimeout is short: whoever edits waits for it where no replica answers.
	adviseTimeout = 2
)

// conditions keep from Boltseal what cannot matter to it (CEL). They are no more
// lenient than what it would answer itself, and cannot fail: a failure would
// refuse the request.
func (w Webhooks) conditions() []admissionregistrationv1.MatchCondition {
	// Where objects of others' kinds have their containers is theirs to say.
	changed := `request.operation != "UPDATE" || !has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec`
	var others []admissionregistrationv1.MatchCondition
	if len(w.Others) > 0 {
		changed += ` || !(request.kind.group in ["", "apps", "batch"])`
		quoted := make([]string, len(w.Others))
		for i, k := range w.Others {
			quoted[i] = strconv.Quote(k)
		}
		// A rule names resources, whose names only the cluster knows: all of a group are
		// in it, and this leaves those of the kinds that are meant.
		others = append(others, admissionregistrationv1.MatchCondition{Name: "a-kind-that-a-policy-names",
			Expression: `request.kind.group in ["", "apps", "batch"] || (request.kind.group + "/" + request.kind.kind) in [` + strings.Join(quoted, ", ") + `]`})
	}
	return append(others, []admissionregistrationv1.MatchCondition{
		// Most updates of Pods and their owners are of metadata, by controllers.
		{Name: "what-runs-is-new-or-changed", Expression: changed},
		// A mirror Pod stands for one that the node runs already. Only a node may say so.
		{Name: "no-mirror-pod-of-a-node",
			Expression: `request.resource.resource != "pods" || request.operation != "CREATE"` +
				` || !has(request.userInfo.username) || !request.userInfo.username.startsWith("system:node:")` +
				` || !has(request.userInfo.groups) || !("system:nodes" in request.userInfo.groups)` +
				` || !has(object.metadata.annotations) || !("kubernetes.io/config.mirror" in object.metadata.annotations)`},
	}...)
}

func (w Webhooks) selector() *metav1.LabelSelector {
	names := append([]string{metav1.NamespaceSystem, w.Namespace}, w.Exempt...)
	slices.Sort(names)
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{
		{Key: nameLabel, Operator: metav1.LabelSelectorOpNotIn, Values: slices.Compact(names)}}}
}

func (w Webhooks) client(path string, bundle []byte) admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{CABundle: bundle,
		Service: &admissionregistrationv1.ServiceReference{Namespace: w.Namespace, Name: w.Service, Path: &path, Port: &w.Port}}
}

func webhookRule(group string, operations []admissionregistrationv1.OperationType, resources ...string) admissionregistrationv1.RuleWithOperations {
	scope := admissionregistrationv1.NamespacedScope
	return admissionregistrationv1.RuleWithOperations{Operations: operations,
		Rule: admissionregistrationv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: resources, Scope: &scope}}
}

// otherRules are a rule for each group with a kind of others that is asked about.
func (w Webhooks) otherRules(operations []admissionregistrationv1.OperationType) (out []admissionregistrationv1.RuleWithOperations) {
	last := ""
	for _, k := range w.Others {
		group, _, _ := strings.Cut(k, "/")
		if group == last {
			continue
		}
		last = group
		r := webhookRule(group, operations, "*")
		r.APIVersions = []string{"*"}
		out = append(out, r)
	}
	return out
}

func (w Webhooks) failure() *admissionregistrationv1.FailurePolicyType {
	f := w.FailurePolicy
	if f == "" {
		f = admissionregistrationv1.Fail
	}
	return &f
}

func (w Webhooks) timeout() *int32 {
	t := w.TimeoutSeconds
	if t == 0 {
		t = defaultTimeout
	}
	return &t
}

func pointerTo[T any](v T) *T { return &v }

// Every field that the API server would fill in is written out, so that what is
// there can be compared with what is wanted.

// Mutating is what pins digests in Pods.
func (w Webhooks) Mutating(bundle []byte) *admissionregistrationv1.MutatingWebhookConfiguration {
	pods := w
	pods.Others = nil // nothing is written into those
	created := []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update}
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: Name, Labels: map[string]string{managedByLabel: managedBy}},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: PinWebhook, ClientConfig: w.client(w.PinPath, bundle), AdmissionReviewVersions: []string{"v1"},
			SideEffects: pointerTo(admissionregistrationv1.SideEffectClassNone), MatchPolicy: pointerTo(admissionregistrationv1.Equivalent),
			FailurePolicy: w.failure(), TimeoutSeconds: w.timeout(),
			// Another webhook may add a container after Boltseal's turn.
			ReinvocationPolicy: pointerTo(admissionregistrationv1.IfNeededReinvocationPolicy),
			NamespaceSelector:  w.selector(), ObjectSelector: &metav1.LabelSelector{}, MatchConditions: pods.conditions(),
			Rules: []admissionregistrationv1.RuleWithOperations{
				webhookRule("", created, "pods"),
				webhookRule("", []admissionregistrationv1.OperationType{admissionregistrationv1.Update}, "pods/ephemeralcontainers"),
			},
		}},
	}
}

// Validating is what judges.
func (w Webhooks) Validating(bundle []byte) *admissionregistrationv1.ValidatingWebhookConfiguration {
	created := []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update}
	c := &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: Name, Labels: map[string]string{managedByLabel: managedBy}},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: ValidateWebhook, ClientConfig: w.client(w.ValidatePath, bundle), AdmissionReviewVersions: []string{"v1"},
			SideEffects: pointerTo(admissionregistrationv1.SideEffectClassNone), MatchPolicy: pointerTo(admissionregistrationv1.Equivalent),
			FailurePolicy: w.failure(), TimeoutSeconds: w.timeout(),
			NamespaceSelector: w.selector(), ObjectSelector: &metav1.LabelSelector{}, MatchConditions: w.conditions(),
			Rules: append([]admissionregistrationv1.RuleWithOperations{
				webhookRule("", created, "pods", "podtemplates", "replicationcontrollers"),
				webhookRule("", []admissionregistrationv1.OperationType{admissionregistrationv1.Update}, "pods/ephemeralcontainers"),
				webhookRule("apps", created, "daemonsets", "deployments", "replicasets", "statefulsets"),
				webhookRule("batch", created, "cronjobs", "jobs"),
			}, w.otherRules(created)...),
		}},
	}
	if w.AdvisePath != "" {
		c.Webhooks = append(c.Webhooks, w.advising(bundle))
	}
	return c
}

// advising is what asks about Boltseal's own kinds. Nothing depends on its answer: it
// has no say in what is admitted, and no namespace is left out.
func (w Webhooks) advising(bundle []byte) admissionregistrationv1.ValidatingWebhook {
	return admissionregistrationv1.ValidatingWebhook{
		Name: AdviseWebhook, ClientConfig: w.client(w.AdvisePath, bundle), AdmissionReviewVersions: []string{"v1"},
		SideEffects: pointerTo(admissionregistrationv1.SideEffectClassNone), MatchPolicy: pointerTo(admissionregistrationv1.Equivalent),
		FailurePolicy: pointerTo(admissionregistrationv1.Ignore), TimeoutSeconds: pointerTo(int32(adviseTimeout)),
		NamespaceSelector: &metav1.LabelSelector{}, ObjectSelector: &metav1.LabelSelector{},
		MatchConditions: []admissionregistrationv1.MatchCondition{
			{Name: "spec-is-new-or-changed", Expression: `request.operation != "UPDATE" || !has(object.spec) || !has(oldObject.spec) || object.spec != oldObject.spec`},
			// Kubernetes' own controllers, which delete what a namespace had, and Boltseal itself.
			{Name: "somebody-reads-warnings", Expression: `!has(request.userInfo.username) || !request.userInfo.username.startsWith("system:serviceaccount:kube-system:")` +
				` && !request.userInfo.username.startsWith(` + strconv.Quote("system:serviceaccount:"+w.Namespace+":") + `)`},
		},
		Rules: w.advisedRules(),
	}
}

// advisedRules are a rule for each version of a group of Boltseal's own kinds.
func (w Webhooks) advisedRules() (out []admissionregistrationv1.RuleWithOperations) {
	all := []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update, admissionregistrationv1.Delete}
	at := map[schema.GroupVersion]int{}
	for _, gvk := range w.Advised {
		resource, _ := meta.UnsafeGuessKindToResource(gvk) // all our kinds have regular plurals
		i, ok := at[gvk.GroupVersion()]
		if !ok {
			i = len(out)
			at[gvk.GroupVersion()] = i
			r := webhookRule(gvk.Group, all)
			r.APIVersions, r.Scope = []string{gvk.Version}, pointerTo(admissionregistrationv1.AllScopes)
			out = append(out, r)
		}
		out[i].Resources = append(out[i].Resources, resource.Resource)
		slices.Sort(out[i].Resources)
	}
	return out
}
