package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// volume is the folder that stands for a volume.
func (p *pod) volume(name string) string { return filepath.Join(p.dir, "volumes", name) }

// mount writes the Pod's volumes, or what has changed in them. A token is written once: it is valid for longer than a
// test takes.
func (p *pod) mount(ctx context.Context) error {
	for _, v := range p.object.Spec.Volumes {
		dir := p.volume(v.Name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if v.EmptyDir != nil {
			continue
		}
		files, err := p.content(ctx, &v, dir)
		if err != nil {
			return fmt.Errorf("volume %s: %w", v.Name, err)
		}
		if err := writeFiles(dir, files); err != nil {
			return err
		}
	}
	return nil
}

// writeFiles has a folder contain these files; each is replaced at once.
func writeFiles(dir string, files map[string][]byte) error {
	for name, data := range files {
		file := filepath.Join(dir, name)
		if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, data) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(file+"~", data, 0o600); err != nil {
			return err
		}
		if err := os.Rename(file+"~", file); err != nil {
			return err
		}
	}
	return nil
}

// content are the files of a volume.
func (p *pod) content(ctx context.Context, v *corev1.Volume, dir string) (map[string][]byte, error) {
	switch {
	case v.Secret != nil:
		return p.secretFiles(ctx, v.Secret.SecretName, v.Secret.Items, v.Secret.Optional)
	case v.ConfigMap != nil:
		return p.configMapFiles(ctx, v.ConfigMap.Name, v.ConfigMap.Items, v.ConfigMap.Optional)
	case v.DownwardAPI != nil:
		return p.fieldFiles(v.DownwardAPI.Items)
	case v.Projected == nil:
		return nil, errors.New("this node does not know volumes of this kind")
	}
	all := map[string][]byte{}
	for _, s := range v.Projected.Sources {
		var files map[string][]byte
		var err error
		switch {
		case s.Secret != nil:
			files, err = p.secretFiles(ctx, s.Secret.Name, s.Secret.Items, s.Secret.Optional)
		case s.ConfigMap != nil:
			files, err = p.configMapFiles(ctx, s.ConfigMap.Name, s.ConfigMap.Items, s.ConfigMap.Optional)
		case s.DownwardAPI != nil:
			files, err = p.fieldFiles(s.DownwardAPI.Items)
		case s.ServiceAccountToken != nil:
			files, err = p.tokenFile(ctx, s.ServiceAccountToken, dir)
		default:
			err = errors.New("this node does not know this source of a volume")
		}
		if err != nil {
			return nil, err
		}
		for name, data := range files {
			all[name] = data
		}
	}
	return all, nil
}

// tokenFile is a token of the Pod's ServiceAccount that is bound to the Pod.
func (p *pod) tokenFile(ctx context.Context, s *corev1.ServiceAccountTokenProjection, dir string) (map[string][]byte, error) {
	if have, err := os.ReadFile(filepath.Join(dir, s.Path)); err == nil {
		return map[string][]byte{s.Path: have}, nil
	}
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: s.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.name, UID: p.uid}}}
	if s.Audience != "" {
		req.Spec.Audiences = []string{s.Audience}
	}
	got, err := p.m.client.CoreV1().ServiceAccounts(p.namespace).CreateToken(ctx, p.object.Spec.ServiceAccountName, req, metav1.CreateOptions{})
	if err != nil {
		return nil, err
	}
	return map[string][]byte{s.Path: []byte(got.Status.Token)}, nil
}

func (p *pod) secretFiles(ctx context.Context, name string, items []corev1.KeyToPath, optional *bool) (map[string][]byte, error) {
	s, err := p.m.client.CoreV1().Secrets(p.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, ignoreMissing(err, optional)
	}
	return pick(s.Data, items)
}

func (p *pod) configMapFiles(ctx context.Context, name string, items []corev1.KeyToPath, optional *bool) (map[string][]byte, error) {
	m, err := p.m.client.CoreV1().ConfigMaps(p.namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, ignoreMissing(err, optional)
	}
	data := map[string][]byte{}
	for k, v := range m.Data {
		data[k] = []byte(v)
	}
	for k, v := range m.BinaryData {
		data[k] = v
	}
	return pick(data, items)
}

func (p *pod) fieldFiles(items []corev1.DownwardAPIVolumeFile) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, i := range items {
		if i.FieldRef == nil {
			return nil, errors.New("this node does not know resourceFieldRef")
		}
		value, err := p.field(i.FieldRef.FieldPath)
		if err != nil {
			return nil, err
		}
		out[i.Path] = []byte(value)
	}
	return out, nil
}

func (p *pod) secretKey(ctx context.Context, ref *corev1.SecretKeySelector) (string, error) {
	files, err := p.secretFiles(ctx, ref.Name, []corev1.KeyToPath{{Key: ref.Key, Path: ref.Key}}, ref.Optional)
	return string(files[ref.Key]), err
}

func (p *pod) configMapKey(ctx context.Context, ref *corev1.ConfigMapKeySelector) (string, error) {
	files, err := p.configMapFiles(ctx, ref.Name, []corev1.KeyToPath{{Key: ref.Key, Path: ref.Key}}, ref.Optional)
	return string(files[ref.Key]), err
}

func ignoreMissing(err error, optional *bool) error {
	if optional != nil && *optional && apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// pick is data by the paths of items, or all where there are none.
func pick(data map[string][]byte, items []corev1.KeyToPath) (map[string][]byte, error) {
	if len(items) == 0 {
		return data, nil
	}
	out := map[string][]byte{}
	for _, i := range items {
		v, ok := data[i.Key]
		if !ok {
			return nil, fmt.Errorf("there is no key %s", i.Key)
		}
		out[i.Path] = v
	}
	return out, nil
}
