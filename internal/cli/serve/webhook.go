package serve

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/boltseal/boltseal/api/integrity/v1alpha1"
	"github.com/boltseal/boltseal/internal/admission/integrity"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	"github.com/boltseal/boltseal/internal/kube/registrar"
	"github.com/boltseal/boltseal/internal/serve/service"
)

// putBack is how long is watched whether a running Boltseal makes the webhook
// configurations again.
const (
	putBack = 3 * time.Second
	looks   = 10
)

func newWebhook(env frame.Env, governed []schema.GroupVersionKind) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Print or remove the webhook configurations of a cluster",
		Long: `Print or remove the webhook configurations, by which a cluster's API server asks
Boltseal about every Pod. A server with --webhook=enforce makes and keeps them.`,
		Example: `  boltseal webhook print | kubectl apply -f -
  boltseal webhook remove`,
		GroupID: "serve",
		Args:    frame.KnownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newWebhookPrint(env, governed), newWebhookRemove(env))
	return cmd
}

func newWebhookPrint(env frame.Env, governed []schema.GroupVersionKind) *cobra.Command {
	var f webhookFlags
	var namespace string
	var others []string
	cmd := &cobra.Command{
		Use:   "print",
		Short: "Print them as YAML",
		Long: `Print the webhook configurations as a server with --webhook=enforce would make
them, but for the caBundle and the owner: to read them, or to keep them
yourself. A server with --webhook=off puts the caBundle into those that it finds.`,
		Example: "  boltseal webhook print --webhook-failure-policy Ignore",
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := f.options()
			if err != nil {
				return frame.UsageFailure(cmd, err)
			}
			if len(others) > 0 {
				p, problems := integrity.Compile("print", v1alpha1.ImageIntegrityPolicySpec{Match: v1alpha1.Match{Kinds: others}})
				if len(problems) > 0 {
					return frame.UsageFailure(cmd, fmt.Errorf("--kinds: %s", problems[0].Message))
				}
				others = integrity.NewSet([]*integrity.Policy{p}).Others()
			}
			w := o.Webhooks(namespace, exemptOwn(f.exempt, &service.ClusterOptions{Namespace: namespace}), governed)
			w.Others = others
			for _, c := range []any{w.Mutating(nil), w.Validating(nil)} {
				b, err := yaml.Marshal(c)
				if err != nil {
					return err
				}
				if _, err := fmt.Fprintf(env.Stdout, "---\n%s", b); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().SortFlags = false
	cmd.Flags().StringVar(&namespace, "namespace", input.DefaultNamespace, "Boltseal's own `NAMESPACE`")
	f.register(cmd.Flags())
	cmd.Flags().StringSliceVar(&others, "kinds", nil, "kinds of others, as `GROUP/Kind`, that ImageIntegrityPolicies name: a server finds them itself")
	return cmd
}

func newWebhookRemove(env frame.Env) *cobra.Command {
	var kubeconfig string
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Remove them from a cluster: nothing is checked any more",
		Long: `Remove the webhook configurations from a cluster. Its API server then admits Pods
without asking Boltseal. The command waits a moment, and reports if a running
server with --webhook=enforce has created them again.`,
		Example: `  kubectl -n boltseal-system scale deployment boltseal --replicas 0
  boltseal webhook remove`,
		Args: frame.CheckArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := input.Kubeconfig{File: kubeconfig}.Config(env)
			if err != nil {
				return err
			}
			c, err := service.NewClient(config)
			if err != nil {
				return err
			}
			return removeWebhooks(cmd.Context(), env, c)
		},
	}
	cmd.Flags().StringVar(&kubeconfig, "kubeconfig", "", "the cluster that `FILE` names; default: as kubectl's")
	return cmd
}

func removeWebhooks(ctx context.Context, env frame.Env, c client.Client) error {
	name := metav1.ObjectMeta{Name: registrar.Name}
	// What judges goes first: what pins alone does no harm.
	all := []struct {
		kind string
		o    client.Object
	}{
		{"ValidatingWebhookConfiguration", &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: name}},
		{"MutatingWebhookConfiguration", &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: name}},
	}
	removed := false
	for _, w := range all {
		err := c.Delete(ctx, w.o)
		switch {
		case apierrors.IsNotFound(err):
			fmt.Fprintf(env.Stdout, "%s %s: not there\n", w.kind, name.Name)
		case err != nil:
			return fmt.Errorf("%s %s: %w", w.kind, name.Name, err)
		default:
			removed = true
			fmt.Fprintf(env.Stdout, "%s %s: removed\n", w.kind, name.Name)
		}
	}
	if !removed {
		return nil
	}
	for range looks {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(putBack / looks):
		}
		for _, w := range all {
			if err := c.Get(ctx, client.ObjectKeyFromObject(w.o), w.o); err == nil && w.o.GetDeletionTimestamp() == nil {
				return errors.New("a running Boltseal has put them back: stop it, or run it with --webhook=off, and remove them again")
			} else if !apierrors.IsNotFound(err) {
				return err
			}
		}
	}
	return nil
}
