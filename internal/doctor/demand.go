package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/api/config/v1beta1"
	integrityv1 "github.com/boltseal/boltseal/api/integrity/v1alpha1"
)

// demands are what asks for trusted images: policies, and constraints of Gatekeeper.
type demands struct {
	deny   []string // those that refuse, by kind and name
	others int      // those that warn or record
	// policies is true where an ImageIntegrityPolicy is among those that refuse, and
	// anyPolicy where there is one at all.
	policies, anyPolicy bool
	// unknown is true where not everything could be read.
	unknown bool
}

// add takes in an object that demands something, by its enforcement action; Boltseal's
// and Gatekeeper's default is deny.
func (d *demands) add(subject, action string) {
	if action == "" || action == string(integrityv1.Deny) {
		d.deny = append(d.deny, subject)
		return
	}
	d.others++
}

// demandOf takes in a resource of ours where it is a policy.
func (d *demands) demandOf(u *unstructured.Unstructured) {
	switch u.GetKind() {
	case integrityv1.KindImageIntegrityPolicy, integrityv1.KindNamespacedImageIntegrityPolicy:
		action, _, _ := unstructured.NestedString(u.Object, "spec", "enforcementAction")
		before := len(d.deny)
		d.add(u.GetKind()+" "+strings.TrimPrefix(u.GetNamespace()+"/"+u.GetName(), "/"), action)
		d.policies, d.anyPolicy = d.policies || len(d.deny) > before, true
	}
}

// constraints takes in Gatekeeper's constraints whose templates ask the Provider.
func (x *clusterCheck) constraints(ctx context.Context) {
	templates := &unstructured.UnstructuredList{}
	templates.SetGroupVersionKind(schema.GroupVersionKind{Group: "templates.gatekeeper.sh", Version: "v1", Kind: "ConstraintTemplate"})
	err := x.client.List(ctx, templates, client.Limit(pageSize))
	switch {
	case meta.IsNoMatchError(err) || apierrors.IsNotFound(err):
		return
	case err != nil:
		x.demands.unknown = true
		x.failed(AreaGatekeeper, "ConstraintTemplates", err)
		return
	}
	for i := range templates.Items {
		t := &templates.Items[i]
		kind, _, _ := unstructured.NestedString(t.Object, "spec", "crd", "spec", "names", "kind")
		if kind == "" || !asksProvider(t, x.o.Provider) {
			continue
		}
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(schema.GroupVersionKind{Group: "constraints.gatekeeper.sh", Version: "v1beta1", Kind: kind})
		if err := x.client.List(ctx, list, client.Limit(pageSize)); err != nil {
			x.demands.unknown = true
			x.failed(AreaGatekeeper, "constraints "+kind, err)
			continue
		}
		for j := range list.Items {
			action, _, _ := unstructured.NestedString(list.Items[j].Object, "spec", "enforcementAction")
			x.demands.add(kind+" "+list.Items[j].GetName(), action)
		}
	}
}

// asksProvider reports whether the Rego of a ConstraintTemplate names the Provider.
func asksProvider(t *unstructured.Unstructured, provider string) bool {
	targets, _, _ := unstructured.NestedSlice(t.Object, "spec", "targets")
	return containsText(targets, `"`+provider+`"`, 8)
}

// containsText looks for a text in the strings of a document, at most depth levels
// down.
func containsText(v any, text string, depth int) bool {
	if depth == 0 {
		return false
	}
	switch v := v.(type) {
	case string:
		return strings.Contains(v, text)
	case []any:
		return slices.ContainsFunc(v, func(e any) bool { return containsText(e, text, depth-1) })
	case map[string]any:
		for _, e := range v {
			if containsText(e, text, depth-1) {
				return true
			}
		}
	}
	return false
}

// firstOf names the first of several, and counts the others.
func firstOf(names []string, most int) string {
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// demanded says whether anything is demanded, and then whether anything can be trusted.
func (x *clusterCheck) demanded(engine *boltseal.Engine) {
	d := &x.demands
	switch {
	case len(d.deny) > 0:
		x.add(AreaDemand, firstOf(d.deny, 3), OK, "images that are not trusted are refused"+alsoDemanded(d.others), "")
	case d.unknown:
		x.add(AreaDemand, "", Unknown, "it is not known whether trusted images are required: not everything could be read", "ask as somebody who may")
	case d.others > 0:
		x.add(AreaDemand, "", Warning, fmt.Sprintf("%s require trusted images, and none of them refuses any", pluralOf(d.others, "policy or constraint")), "set enforcementAction: deny when warnings have stopped")
	default:
		x.add(AreaDemand, "", Warning, "nothing requires trusted images: every image is admitted", "apply an ImageIntegrityPolicy, or a constraint of Gatekeeper")
	}
	x.trusted(engine)
}

func alsoDemanded(others int) string {
	if others == 0 {
		return ""
	}
	return fmt.Sprintf("; %d more policies or constraints warn or record", others)
}

// trusted says whether any image can be trusted at all.
func (x *clusterCheck) trusted(engine *boltseal.Engine) {
	if engine != nil {
		return
	}
	var missing []string
	for _, kind := range []string{v1beta1.KindStore, v1beta1.KindVerifier} {
		if x.kinds[kind] == 0 && x.kinds[v1beta1.NamespacedPrefix+kind] == 0 {
			missing = append(missing, kind)
		}
	}
	why, remedy := "no Store and Verifier are as they should be", "see the findings about configuration"
	if len(missing) > 0 {
		why, remedy = "there is no "+strings.Join(missing, " and no "), "apply a KeyManagementProvider, a Store and a Verifier"
	}
	switch {
	case x.unread:
		x.add(AreaTrust, "", Unknown, "it is not known whether any image can be trusted: not everything could be read", "ask as somebody who may")
	case len(x.demands.deny) > 0:
		x.add(AreaTrust, firstOf(x.demands.deny, 3), Problem, "every image is refused: "+why+", so that no image can be trusted", remedy)
	default:
		x.add(AreaTrust, "", Warning, "no image can be trusted: "+why, remedy+", before images are refused")
	}
}
