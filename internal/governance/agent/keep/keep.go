// Package keep keeps what an agent must know after a restart, in ConfigMaps of its cluster.
package keep

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Limits on what is kept. A ConfigMap holds 1 MiB.
const (
	MaxStored  = 900 << 10 // compressed
	MaxContent = 8 << 20   // as JSON
)

const (
	keyContent = "content.json.gz"
	keySum     = "sha256"
	keyOf      = "of"
	// timeout bounds one request.
	timeout = 10 * time.Second
	// attempts are made where somebody else writes at the same time.
	attempts = 3
)

// What a ConfigMap is marked by.
const (
	labelManagedBy = "app.kubernetes.io/managed-by"
	managedBy      = "boltseal"
)

// ErrUnusable is wrapped where what is kept is damaged, is too much, or is about
// something else: it is as if nothing were kept.
var ErrUnusable = errors.New("what is kept cannot be used")

// ErrTooMuch is wrapped where something is more than can be kept.
var ErrTooMuch = errors.New("it is more than can be kept")

// Keeper keeps one value in one ConfigMap. It is for one goroutine at a time.
type Keeper struct {
	// ConfigMaps of the namespace. Required.
	ConfigMaps typedcorev1.ConfigMapInterface
	// Name of the ConfigMap. Required.
	Name string
	// Of is what the content is about, such as the name of the cluster: content
	// about something else is not used.
	Of string

	last string // the sum of what stands there, as far as is known
}

// Load reads what is kept into v, and reports whether there is anything. The
// error wraps ErrUnusable where it cannot be used; any other is the API server's.
func (k *Keeper) Load(ctx context.Context, v any) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cm, err := k.ConfigMaps.Get(ctx, k.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ConfigMap %s: %w", k.Name, err)
	}
	content, err := unpackContent(cm, k.Of)
	if err == nil {
		err = json.Unmarshal(content, v)
	}
	if err != nil {
		return false, fmt.Errorf("ConfigMap %s: %w: %w", k.Name, ErrUnusable, err)
	}
	k.last = cm.Data[keySum]
	return true, nil
}

// unpackContent checks everything that a ConfigMap says of its content.
func unpackContent(cm *corev1.ConfigMap, of string) ([]byte, error) {
	if cm.Data[keyOf] != of {
		return nil, fmt.Errorf("it is about %q, not %q", cm.Data[keyOf], of)
	}
	packed := cm.BinaryData[keyContent]
	if contentSum(packed) != cm.Data[keySum] {
		return nil, errors.New("its checksum is not that of its content")
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(z, MaxContent+1))
	if err != nil {
		return nil, err
	}
	if len(content) > MaxContent {
		return nil, fmt.Errorf("it has more than %d bytes", MaxContent)
	}
	return content, nil
}

func packContent(v any) ([]byte, error) {
	content, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(content); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	if len(content) > MaxContent || out.Len() > MaxStored {
		return nil, fmt.Errorf("%w: %d bytes, %d compressed; at most %d and %d", ErrTooMuch, len(content), out.Len(), MaxContent, MaxStored)
	}
	return out.Bytes(), nil
}

func contentSum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// Save keeps v in place of what was kept, and writes nothing where that is the
// same as this Keeper saved or loaded last.
func (k *Keeper) Save(ctx context.Context, v any) error {
	packed, err := packContent(v)
	if err != nil {
		return fmt.Errorf("ConfigMap %s: %w", k.Name, err)
	}
	digest := contentSum(packed)
	if digest == k.last {
		return nil
	}
	for range attempts {
		if err = k.put(ctx, packed, digest); !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) && !apierrors.IsNotFound(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("ConfigMap %s: %w", k.Name, err)
	}
	k.last = digest
	return nil
}

func (k *Keeper) put(ctx context.Context, packed []byte, digest string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cm, err := k.ConfigMaps.Get(ctx, k.Name, metav1.GetOptions{})
	there := err == nil
	if apierrors.IsNotFound(err) {
		cm = &corev1.ConfigMap{}
		cm.Name = k.Name
	} else if err != nil {
		return err
	}
	if cm.Labels == nil {
		cm.Labels = map[string]string{}
	}
	cm.Labels[labelManagedBy] = managedBy
	cm.Data = map[string]string{keyOf: k.Of, keySum: digest}
	cm.BinaryData = map[string][]byte{keyContent: packed}
	if there {
		_, err = k.ConfigMaps.Update(ctx, cm, metav1.UpdateOptions{})
	} else {
		_, err = k.ConfigMaps.Create(ctx, cm, metav1.CreateOptions{})
	}
	return err
}

// Delete forgets what is kept.
func (k *Keeper) Delete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := k.ConfigMaps.Delete(ctx, k.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("ConfigMap %s: %w", k.Name, err)
	}
	k.last = ""
	return nil
}
