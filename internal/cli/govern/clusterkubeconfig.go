package govern

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
	"github.com/boltseal/boltseal/internal/cli/frame"
	"github.com/boltseal/boltseal/internal/cli/input"
	governhub "github.com/boltseal/boltseal/internal/governance/hub"
)

// Lifetimes of the credential of an agent.
const (
	defaultAgentLifetime = 90 * 24 * time.Hour
	minAgentLifetime     = 10 * time.Minute // the API server's
)

type kubeconfigFlags struct {
	hub                     hubFlags
	name, namespace, server string
	lifetime                time.Duration
}

// agentAccount is what everything of a cluster's agent at the hub is called.
func agentAccount(cluster string) string { return "boltseal-agent-" + cluster }

func newClusterKubeconfig(env frame.Env) *cobra.Command {
	var f kubeconfigFlags
	cmd := &cobra.Command{
		Use:   "kubeconfig --name NAME",
		Short: "Print the credential of a cluster's agent",
		Long: `Print a kubeconfig by which the agent of a registered cluster reaches this hub. It may
read what is assigned to that cluster, and write how far that cluster is, and nothing
else: a credential that is stolen can lie about its own cluster.

It makes a ServiceAccount, its roles and their bindings, all called
boltseal-agent-NAME, at the hub. They belong to the Cluster object: deleting that, with
"boltseal cluster unregister" or kubectl, ends every credential of the agent. Each
credential ends by itself, too (--lifetime; the API server may shorten it), and the
agent renews it for as long again after half of that time. Run the command again for
another one; earlier ones stay good until their end.`,
		Example: `    boltseal cluster kubeconfig --name fra1 > fra1.kubeconfig`,
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runClusterKubeconfig(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.name, "name", "n", "", "`NAME` of the cluster")
	fl.StringVar(&f.namespace, "namespace", input.DefaultNamespace, "`NAMESPACE` at the hub of the ServiceAccount")
	fl.StringVar(&f.server, "server", "", "`URL` by which the cluster reaches the hub's API server (default that of your kubeconfig)")
	fl.DurationVar(&f.lifetime, "lifetime", defaultAgentLifetime, "`DURATION`: how long the credential is good")
	f.hub.register(cmd)
	return cmd
}

func runClusterKubeconfig(cmd *cobra.Command, env frame.Env, f kubeconfigFlags) error {
	ctx := cmd.Context()
	err := checkName("--name", f.name)
	switch {
	case err != nil:
	case f.lifetime < minAgentLifetime:
		err = fmt.Errorf("--lifetime must be at least %s", minAgentLifetime)
	case f.server != "" && !strings.HasPrefix(f.server, "https://"):
		err = errors.New("--server must be an https URL")
	}
	if err != nil {
		return frame.UsageFailure(cmd, err)
	}
	config, kube, err := f.hub.kube(env)
	if err != nil {
		return err
	}
	h, err := f.hub.open(env)
	if err != nil {
		return err
	}
	c, err := h.cluster(ctx, f.name, "")
	if err != nil {
		return err
	}
	token, err := agentCredential(ctx, kube, c, f)
	if err != nil {
		return explainAnswer("making the agent's credential", err)
	}
	ca := config.CAData
	if len(ca) == 0 && config.CAFile != "" {
		if ca, err = input.ReadLimited(config.CAFile, 1<<20); err != nil {
			return err
		}
	}
	server := f.server
	if server == "" {
		server = config.Host
	}
	account := agentAccount(f.name)
	out, err := clientcmd.Write(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"hub": {Server: server, CertificateAuthorityData: ca, TLSServerName: config.ServerName}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{account: {Token: token.Status.Token}},
		Contexts:       map[string]*clientcmdapi.Context{"hub": {Cluster: "hub", AuthInfo: account}},
		CurrentContext: "hub",
	})
	if err != nil {
		return err
	}
	if _, err := env.Stdout.Write(out); err != nil {
		return err
	}
	fmt.Fprintf(env.Stderr, "The credential of %s is good until %s.\n", f.name, token.Status.ExpirationTimestamp.UTC().Format(time.RFC3339))
	return nil
}

// kube is the way to the hub's own kinds.
func (f *hubFlags) kube(env frame.Env) (*rest.Config, *kubernetes.Clientset, error) {
	config, err := f.at.Config(env)
	if err != nil {
		return nil, nil, err
	}
	kube, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("the way to the cluster: %w", err)
	}
	return config, kube, nil
}

// agentCredential makes an agent's account at the hub, with its rights and no others.
// All of it belongs to the Cluster, so that Kubernetes takes it away with that.
func agentCredential(ctx context.Context, kube *kubernetes.Clientset, c *v1alpha1.Cluster, f kubeconfigFlags) (*authenticationv1.TokenRequest, error) {
	name := agentAccount(f.name)
	meta := metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/managed-by": "boltseal"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: v1alpha1.GroupVersion.String(), Kind: v1alpha1.KindCluster, Name: c.Name, UID: c.UID}}}
	account := &corev1.ServiceAccount{ObjectMeta: meta}
	account.Namespace = f.namespace
	if _, err := kube.CoreV1().ServiceAccounts(f.namespace).Create(ctx, account, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		owners, err := json.Marshal(map[string]any{"metadata": map[string]any{"ownerReferences": meta.OwnerReferences}})
		if err != nil {
			return nil, err
		}
		if _, err := kube.CoreV1().ServiceAccounts(f.namespace).Patch(ctx, name, types.MergePatchType, owners, metav1.PatchOptions{}); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	role := &rbacv1.ClusterRole{ObjectMeta: meta, Rules: governhub.AgentRules(f.name)}
	if _, err := kube.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		if _, err = kube.RbacV1().ClusterRoles().Update(ctx, role, metav1.UpdateOptions{}); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	binding := &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: name, Namespace: f.namespace}}}
	if _, err := kube.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		if _, err = kube.RbacV1().ClusterRoleBindings().Update(ctx, binding, metav1.UpdateOptions{}); err != nil {
			return nil, err
		}
	} else if err != nil {
		return nil, err
	}
	if err := grantRenewal(ctx, kube, meta, f.namespace); err != nil {
		return nil, err
	}
	seconds := int64(f.lifetime / time.Second)
	return kube.CoreV1().ServiceAccounts(f.namespace).CreateToken(ctx, name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}, metav1.CreateOptions{})
}

// grantRenewal lets an agent's account ask for further tokens of its own, and of nobody
// else's: it renews its credential before that ends.
func grantRenewal(ctx context.Context, kube *kubernetes.Clientset, meta metav1.ObjectMeta, namespace string) error {
	role := &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{meta.Name}, Verbs: []string{"create"}}}}
	role.Namespace = namespace
	roles := kube.RbacV1().Roles(namespace)
	if _, err := roles.Create(ctx, role, metav1.CreateOptions{}); apierrors.IsAlreadyExists(err) {
		if _, err = roles.Update(ctx, role, metav1.UpdateOptions{}); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	binding := &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
		Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: meta.Name, Namespace: namespace}}}
	binding.Namespace = namespace
	bindings := kube.RbacV1().RoleBindings(namespace)
	_, err := bindings.Create(ctx, binding, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = bindings.Update(ctx, binding, metav1.UpdateOptions{})
	}
	return err
}

func newClusterUnregister(env frame.Env) *cobra.Command {
	var f kubeconfigFlags
	cmd := &cobra.Command{
		Use:   "unregister --name NAME",
		Short: "Forget a cluster, and end its agent's credential",
		Long: `Forget a cluster, and end the credential of its agent at once. What applies in the
cluster stays there: an agent that the hub turns away goes on with what it received
last. To take it out first, delete the assignments, or disable image integrity.`,
		Example: `    boltseal cluster unregister --name fra1`,
		Args:    frame.CheckArgs(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return runClusterUnregister(cmd, env, f) },
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.name, "name", "n", "", "`NAME` of the cluster")
	fl.StringVar(&f.namespace, "namespace", input.DefaultNamespace, "`NAMESPACE` at the hub of the agent's ServiceAccount")
	f.hub.register(cmd)
	return cmd
}

func runClusterUnregister(cmd *cobra.Command, env frame.Env, f kubeconfigFlags) error {
	ctx := cmd.Context()
	if err := checkName("--name", f.name); err != nil {
		return frame.UsageFailure(cmd, err)
	}
	_, kube, err := f.hub.kube(env)
	if err != nil {
		return err
	}
	h, err := f.hub.open(env)
	if err != nil {
		return err
	}
	c, err := h.cluster(ctx, f.name, "")
	if err != nil {
		return err
	}
	// The credential goes first: what is cut off in the middle can be repeated.
	account := agentAccount(c.Name)
	none := metav1.DeleteOptions{}
	err = errors.Join(
		client.IgnoreNotFound(kube.CoreV1().ServiceAccounts(f.namespace).Delete(ctx, account, none)),
		client.IgnoreNotFound(kube.RbacV1().RoleBindings(f.namespace).Delete(ctx, account, none)),
		client.IgnoreNotFound(kube.RbacV1().Roles(f.namespace).Delete(ctx, account, none)),
		client.IgnoreNotFound(kube.RbacV1().ClusterRoleBindings().Delete(ctx, account, none)),
		client.IgnoreNotFound(kube.RbacV1().ClusterRoles().Delete(ctx, account, none)))
	if err != nil {
		return explainAnswer("ending the agent's credential", err)
	}
	report := &v1alpha1.ClusterReport{ObjectMeta: metav1.ObjectMeta{Name: c.Name}}
	err = errors.Join(client.IgnoreNotFound(h.client.Delete(ctx, c)), client.IgnoreNotFound(h.client.Delete(ctx, report)))
	if err != nil {
		return explainAnswer("forgetting the cluster", err)
	}
	fmt.Fprintf(env.Stdout, "%s is forgotten, and its agent's credential has ended.\n", c.Name)
	return nil
}
