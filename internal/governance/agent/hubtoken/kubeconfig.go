package hubtoken

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// KubeconfigKey is where a Secret holds the kubeconfig.
const KubeconfigKey = "kubeconfig"

// File is a kubeconfig with a token in it.
type File struct{ Path string }

// Read returns the token of the current context, "" where it has none.
func (f File) Read() (string, error) {
	c, user, err := f.load()
	if err != nil {
		return "", err
	}
	return c.AuthInfos[user].Token, nil
}

func (f File) load() (*clientcmdapi.Config, string, error) {
	c, err := clientcmd.LoadFromFile(f.Path)
	if err != nil {
		return nil, "", err
	}
	at := c.Contexts[c.CurrentContext]
	if at == nil || c.AuthInfos[at.AuthInfo] == nil {
		return nil, "", fmt.Errorf("%s names no user in its current context", f.Path)
	}
	return c, at.AuthInfo, nil
}

// with is the file's content with another token.
func (f File) with(token string) ([]byte, error) {
	c, user, err := f.load()
	if err != nil {
		return nil, err
	}
	c.AuthInfos[user].Token = token
	return clientcmd.Write(*c)
}

// Save puts a token into the file: all of it or nothing.
func (f File) Save(_ context.Context, token string) error {
	content, err := f.with(token)
	if err != nil {
		return err
	}
	t, err := os.CreateTemp(filepath.Dir(f.Path), ".kubeconfig-*") // it has mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(t.Name())
	_, err = t.Write(content)
	if cerr := t.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(t.Name(), f.Path)
}

// Secret is where the file comes from that is mounted into a Pod.
type Secret struct {
	File
	Secrets typedcorev1.SecretInterface
	Name    string
}

// Save puts a token into the Secret; the kubelet brings it into the file.
func (s Secret) Save(ctx context.Context, token string) error {
	content, err := s.with(token)
	if err != nil {
		return err
	}
	patch, err := json.Marshal(map[string]any{"data": map[string][]byte{KubeconfigKey: content}})
	if err != nil {
		return err
	}
	_, err = s.Secrets.Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: "boltseal"})
	return err
}
