package govern

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/base/nearest"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/governance/resolve"
	"github.com/boltseal/boltseal/internal/governance/scope"
)

func newFeature(env frame.Env) *cobra.Command {
	cmd := frame.ParentCommand("feature", "Opt a scope in to what is marked preview",
		`Opt the clusters of a scope in to definitions that are marked preview, such as Azure's
own image integrity initiative. What is built in is no preview, and needs none of it.

Either ImageIntegrityPreview opts in, or both of EnableImageIntegrityPreview and
AKS-AzurePolicyExternalData, as in Azure.`,
		onFeature(env, "register", "Opt a scope in", registerFeature),
		onFeature(env, "show", "Say whether a scope is opted in", showFeature),
		onFeature(env, "unregister", "Take a scope's opting in back", unregisterFeature))
	cmd.GroupID = groupGovern
	return cmd
}

type featureFlags struct {
	hub                    hubFlags
	show                   showFlags
	namespace, name, scope string
}

func onFeature(env frame.Env, use, short string, do func(context.Context, frame.Env, *hub, featureFlags) error) *cobra.Command {
	var f featureFlags
	cmd := &cobra.Command{
		Use:     use + " --namespace NAMESPACE --name NAME [--scope PATH]",
		Short:   short,
		Example: "    boltseal feature " + use + " --namespace Microsoft.ContainerService --name EnableImageIntegrityPreview",
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.show.check(cmd); err != nil {
				return err
			}
			if f.name == "" {
				return frame.BadUsage(cmd, "--name is missing: %s", strings.Join(resolve.FeatureNames(), ", "))
			}
			i := slices.IndexFunc(resolve.FeatureNames(), func(n string) bool { return strings.EqualFold(n, f.name) })
			if i < 0 {
				return frame.BadUsage(cmd, "there is no feature %s%s; there are %s", strict.Label(f.name), nearest.Hint(f.name, resolve.FeatureNames()), strings.Join(resolve.FeatureNames(), ", "))
			}
			f.name = resolve.FeatureNames()[i]
			if known := resolve.FeatureNamespaces(); f.namespace == "" || !resolve.IsFeatureNamespace(f.namespace) {
				return frame.BadUsage(cmd, "--namespace: %s has no such feature%s; it is in %s", strict.Label(f.namespace), nearest.Hint(f.namespace, known), known[0])
			}
			if _, err := scope.Parse(f.scope); err != nil {
				return frame.BadUsage(cmd, "--scope: %w", err)
			}
			h, err := f.hub.open(env)
			if err != nil {
				return err
			}
			return do(cmd.Context(), env, h, f)
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.namespace, "namespace", resolve.FeatureNamespaces()[0], "`NAMESPACE` of the feature")
	fl.StringVarP(&f.name, "name", "n", "", "`NAME` of the feature")
	fl.StringVar(&f.scope, "scope", "/", "`PATH` of the clusters that are meant")
	f.hub.register(cmd)
	f.show.register(cmd)
	return cmd
}

// featureObject names a registration by its feature and its scope.
func featureObject(f featureFlags) *v1alpha1.FeatureRegistration {
	name := strings.ToLower(f.name)
	if f.scope != "/" {
		sum := sha256.Sum256([]byte(strings.ToLower(f.scope)))
		name += "-" + hex.EncodeToString(sum[:5])
	}
	return &v1alpha1.FeatureRegistration{ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.FeatureRegistrationSpec{Namespace: f.namespace, Name: f.name, Scope: f.scope}}
}

type shownFeature struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	Properties struct {
		State string `json:"state"`
	} `json:"properties"`
	// Scopes that are opted in.
	Scopes []string `json:"scopes"`
}

func printFeature(env frame.Env, f featureFlags, registered bool, scopes []string) error {
	v := shownFeature{ID: "/providers/Microsoft.Features/providers/" + f.namespace + "/features/" + f.name, Name: f.namespace + "/" + f.name,
		Type: "Microsoft.Features/providers/features", Scopes: scopes}
	colour := frame.Yellow
	if v.Properties.State = "NotRegistered"; registered {
		v.Properties.State, colour = "Registered", frame.Green
	}
	return f.show.show(env, v, func(w io.Writer, st frame.Style) error {
		return frame.WriteTable(w, st, []string{"NAME", "STATE", "SCOPES"},
			[]frame.Row{{Cells: []string{v.Name, v.Properties.State, frame.OrDash(frame.SafeText(strings.Join(scopes, " ")))}, Colours: []string{"", colour}}})
	})
}

func registerFeature(ctx context.Context, env frame.Env, h *hub, f featureFlags) error {
	if err := h.client.Create(ctx, featureObject(f)); err != nil && !apierrors.IsAlreadyExists(err) {
		return explainAnswer("registering the feature", err)
	}
	return showFeature(ctx, env, h, f)
}

func showFeature(ctx context.Context, env frame.Env, h *hub, f featureFlags) error {
	all, err := h.features(ctx)
	if err != nil {
		return err
	}
	asked, err := scope.Parse(f.scope)
	if err != nil {
		return err
	}
	scopes, registered := []string{}, false
	for _, r := range all {
		if !strings.EqualFold(r.Spec.Name, f.name) {
			continue
		}
		if at, err := scope.Parse(cmp.Or(r.Spec.Scope, "/")); err == nil {
			scopes = append(scopes, at.String())
			registered = registered || at.Contains(asked)
		}
	}
	slices.Sort(scopes)
	return printFeature(env, f, registered, slices.Compact(scopes))
}

func unregisterFeature(ctx context.Context, env frame.Env, h *hub, f featureFlags) error {
	all, err := h.features(ctx)
	if err != nil {
		return err
	}
	deleted := false
	for i := range all {
		r := &all[i]
		same, err := sameScope(cmp.Or(r.Spec.Scope, "/"), f.scope)
		if err != nil || !same || !strings.EqualFold(r.Spec.Name, f.name) {
			continue
		}
		if err := h.client.Delete(ctx, r); err != nil && !apierrors.IsNotFound(err) {
			return explainAnswer("unregistering the feature", err)
		}
		deleted = true
	}
	if !deleted {
		return fmt.Errorf("%s is not registered for %s: 'boltseal feature show --name %s' shows for what it is", f.name, f.scope, f.name)
	}
	return showFeature(ctx, env, h, f)
}

// newProvider takes az's command, which has nothing to do here.
func newProvider(env frame.Env) *cobra.Command {
	var namespace string
	register := &cobra.Command{
		Use:   "register --namespace NAMESPACE",
		Short: "Say that there is nothing to do",
		Long: `Taken so that az's command works as it is. There are no resource providers here: what
'boltseal feature register' registers is active at once.`,
		Example: "    boltseal provider register --namespace Microsoft.ContainerService",
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if namespace == "" {
				return frame.UsageFailure(cmd, errors.New("--namespace is missing, such as Microsoft.ContainerService"))
			}
			_, err := fmt.Fprintf(env.Stdout, "%s: there is nothing to do, a registered feature is active at once\n", frame.SafeText(namespace))
			return err
		},
	}
	register.Flags().StringVarP(&namespace, "namespace", "n", "", "`NAMESPACE` of the provider")
	cmd := frame.ParentCommand("provider", "Taken from az, with nothing to do", "Taken so that az's command works as it is.", register)
	cmd.GroupID = groupGovern
	return cmd
}
