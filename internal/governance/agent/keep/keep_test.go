package keep

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestKeeper(t *testing.T) {
	t.Parallel()
	cms := fake.NewClientset().CoreV1().ConfigMaps("ns")
	k := &Keeper{ConfigMaps: cms, Name: "x", Of: "c1"}
	var got []string
	if ok, err := k.Load(t.Context(), &got); ok || err != nil {
		t.Fatal(ok, err)
	}
	want := []string{"a", strings.Repeat("b", 1<<20)}
	for range 2 {
		if err := k.Save(t.Context(), want); err != nil {
			t.Fatal(err)
		}
	}
	again := &Keeper{ConfigMaps: cms, Name: "x", Of: "c1"}
	if ok, err := again.Load(t.Context(), &got); !ok || err != nil || len(got) != 2 || got[1] != want[1] {
		t.Fatal(ok, err)
	}
	if _, err := (&Keeper{ConfigMaps: cms, Name: "x", Of: "c2"}).Load(t.Context(), &got); !errors.Is(err, ErrUnusable) {
		t.Errorf("another cluster's: %v", err)
	}
	cm, err := cms.Get(t.Context(), "x", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	cm.BinaryData[keyContent][12] ^= 1
	if _, err := cms.Update(t.Context(), cm, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Load(t.Context(), &got); !errors.Is(err, ErrUnusable) {
		t.Errorf("damaged: %v", err)
	}
	noise := make([]byte, MaxContent)
	for i := range noise {
		noise[i] = byte(rand.IntN(256))
	}
	if err := k.Save(t.Context(), noise); !errors.Is(err, ErrTooMuch) {
		t.Errorf("too much: %v", err)
	}
	// A bomb: little that becomes much.
	z, err := packContent(strings.Repeat("x", MaxContent-100))
	if err != nil {
		t.Fatal(err)
	}
	cm.BinaryData[keyContent], cm.Data[keySum] = append(z, z...), contentSum(append(z, z...))
	if _, err := unpackContent(cm, "c1"); err == nil {
		t.Error("more than may be was read")
	}
	if err := k.Delete(t.Context()); err != nil {
		t.Fatal(err)
	}
	if ok, err := again.Load(t.Context(), &got); ok || err != nil {
		t.Error(ok, err)
	}
}

func FuzzUnpack(f *testing.F) {
	z, err := packContent([]string{"a"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(z)
	f.Add([]byte("x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		cm := configMap(b)
		out, err := unpackContent(cm, "c")
		if err == nil && len(out) > MaxContent {
			t.Errorf("%d bytes", len(out))
		}
		cm.Data[keySum] += "0"
		if _, err := unpackContent(cm, "c"); err == nil {
			t.Error("a checksum is not checked")
		}
	})
}

func configMap(b []byte) *corev1.ConfigMap {
	return &corev1.ConfigMap{Data: map[string]string{keyOf: "c", keySum: contentSum(b)}, BinaryData: map[string][]byte{keyContent: b}}
}
