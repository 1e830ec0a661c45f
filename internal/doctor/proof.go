package doctor

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/internal/compile"
)

// maxTold bounds how many Stores a message names.
const maxTold = 5

// proof says whether Boltseal has a proof of who asks at /admission, and which of the
// Stores are read without their credentials as long as it has none.
func (x *clusterCheck) proof(ctx context.Context, stores []compile.SurveyedStore) {
	subject := "Service " + x.o.Namespace + "/" + x.o.Service
	lacking := firstOf(inSomebodysName(stores), maxTold)
	commands, err := x.commands(ctx)
	if err != nil && lacking != "" {
		x.failed(AreaAdmission, subject, err)
	}
	if err != nil {
		return
	}
	known, proofs := len(commands) > 0, []string{}
	for _, c := range commands {
		p, serves := proofIn(c)
		known = known && serves
		if p != "" && !slices.Contains(proofs, p) {
			proofs = append(proofs, p)
		}
		if p == "" {
			proofs = append(proofs, "")
		}
	}
	switch {
	case !known && lacking == "":
	case !known:
		x.add(AreaAdmission, subject, Unknown, "it is not known whether anything proves to Boltseal who asks at /admission: there is no Pod whose command says it; without a proof these are read without the credentials of their namespaces and Pods: "+lacking,
			"see how boltseal serve is started: "+compile.ProofRemedy)
	case !slices.Contains(proofs, ""):
		x.add(AreaAdmission, subject, OK, "who asks at /admission is known by "+strings.Join(proofs, ", "), "")
	case lacking != "":
		x.add(AreaAdmission, subject, Warning, "nothing proves to Boltseal who asks at /admission, so these are read there without the credentials of their namespaces and Pods: "+lacking, compile.ProofRemedy)
	default:
		x.add(AreaAdmission, subject, OK, "nothing proves to Boltseal who asks at /admission, and no Store needs it: none uses k8Secrets or an identity in a namespace's name, or podPullSecrets", "")
	}
}

// inSomebodysName are the Stores whose credentials are used in the name of a namespace
// or of a Pod, with the providers of these.
func inSomebodysName(stores []compile.SurveyedStore) (out []string) {
	for _, s := range stores {
		if names := compile.Withheld(s.Namespace, s.Sources); len(names) > 0 {
			out = append(out, fmt.Sprintf("%s (%s)", s.Resource, strings.Join(names, ", ")))
		}
	}
	return out
}

// commands are the commands of the Pods behind the Service, each with its arguments.
func (x *clusterCheck) commands(ctx context.Context) (out [][]string, err error) {
	svc, err := x.get(ctx, schema.GroupVersionKind{Version: "v1", Kind: "Service"}, x.o.Namespace, x.o.Service)
	if err != nil || svc == nil {
		return nil, err
	}
	selector, _, _ := unstructured.NestedStringMap(svc.Object, "spec", "selector")
	if len(selector) == 0 {
		return nil, nil
	}
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	if err := x.client.List(ctx, list, client.InNamespace(x.o.Namespace), client.MatchingLabels(selector), client.Limit(pageSize)); err != nil {
		return nil, err
	}
	for _, pod := range list.Items {
		containers, _, _ := unstructured.NestedSlice(pod.Object, "spec", "containers")
		var serving []string
		for _, in := range containers {
			c, _ := in.(map[string]any)
			command, _, _ := unstructured.NestedStringSlice(c, "command")
			args, _, _ := unstructured.NestedStringSlice(c, "args")
			if all := append(command, args...); slices.Contains(all, "serve") {
				serving = all
			}
		}
		out = append(out, serving)
	}
	return out, nil
}

// proofIn is the flag in a command by which it has a proof of who asks, "" for none.
// serves is false where it is no command of boltseal serve.
func proofIn(command []string) (proof string, serves bool) {
	for _, arg := range command {
		name, value, given := strings.Cut(arg, "=")
		switch name {
		case "--client-ca", "--admission-client-ca":
			given = !given || value != ""
		case "--admission-trust-network":
			on, err := strconv.ParseBool(value)
			given = !given || err == nil && on
		default:
			continue
		}
		if given {
			proof = name
		}
	}
	return proof, slices.Contains(command, "serve")
}
