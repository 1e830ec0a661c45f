package kit

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// tokenLife is how long tokens of ServiceAccountConfig are valid; the apiserver grants no more than a day.
const tokenLife = 24 * time.Hour

// Config returns the administrator's configuration: a client certificate of group system:masters, without a rate
// limit on the client's side. The caller may change it.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.config) }

// Kubeconfig returns the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.kubeconfig }

// Client returns the administrator's client. It knows Kubernetes' own types and CustomResourceDefinitions; other
// kinds go as unstructured.Unstructured.
func (c *Cluster) Client() client.WithWatch { return c.client }

// UserConfig returns the configuration of a user with that name and those groups, by a client certificate. Beyond
// what Kubernetes grants to everybody, the user may do what RBAC objects of the caller say.
func (c *Cluster) UserConfig(user string, groups ...string) (*rest.Config, error) {
	pair, err := c.ca.Issue(ForClient, pkix.Name{CommonName: user, Organization: groups})
	if err != nil {
		return nil, err
	}
	cfg := c.anonymous()
	cfg.CertData, cfg.KeyData = pair.Cert, pair.Key
	return cfg, nil
}

// ServiceAccountConfig returns the configuration of an existing ServiceAccount, by a token that is valid for a
// day.
func (c *Cluster) ServiceAccountConfig(ctx context.Context, namespace, name string) (*rest.Config, error) {
	token, err := c.ServiceAccountToken(ctx, namespace, name)
	if err != nil {
		return nil, err
	}
	cfg := c.anonymous()
	cfg.BearerToken = token
	return cfg, nil
}

// ServiceAccountToken returns a token of an existing ServiceAccount, for the given audiences or, if there are
// none, for the apiserver. It is valid for a day.
func (c *Cluster) ServiceAccountToken(ctx context.Context, namespace, name string, audiences ...string) (string, error) {
	sa := &corev1.ServiceAccount{}
	sa.Namespace, sa.Name = namespace, name
	seconds := int64(tokenLife / time.Second)
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{Audiences: audiences, ExpirationSeconds: &seconds}}
	if err := c.client.SubResource("token").Create(ctx, sa, req); err != nil {
		return "", fmt.Errorf("get a token of ServiceAccount %s/%s: %w", namespace, name, err)
	}
	return req.Status.Token, nil
}

// anonymous is a configuration without credentials.
func (c *Cluster) anonymous() *rest.Config {
	return &rest.Config{
		Host:            "https://" + hostPort(c.ports.api),
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.PEM()},
		QPS:             -1,
	}
}

// WriteKubeconfig writes a kubeconfig, readable by its owner only, with the server, CA and credentials of cfg.
func WriteKubeconfig(path string, cfg *rest.Config) error {
	const name = "boltseal-e2e"
	k := clientcmdapi.NewConfig()
	k.Clusters[name] = &clientcmdapi.Cluster{Server: cfg.Host, CertificateAuthorityData: cfg.CAData}
	k.AuthInfos[name] = &clientcmdapi.AuthInfo{
		ClientCertificateData: cfg.CertData, ClientKeyData: cfg.KeyData, Token: cfg.BearerToken,
	}
	k.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	k.CurrentContext = name
	if err := clientcmd.WriteToFile(*k, path); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	return nil
}

func newClient(cfg *rest.Config) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register the Kubernetes types: %w", err)
		}
	}
	cl, err := client.NewWithWatch(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return cl, nil
}
