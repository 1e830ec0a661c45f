package definition

import (
	"os"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/api/policy/v1alpha1"
)

const (
	fileAddOn     = "AKS_AzurePolicyAddOn_DINE.json"
	fileSet       = "AKS_ImageIntegrity.json"
	fileIntegrity = "AKS_ImageIntegrity_DINE.json"
	fileVerify    = "ImageIntegrityNotationVerification.json"
)

func published(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func imported(t testing.TB, name string) Object {
	t.Helper()
	objects, err := Import("", published(t, name))
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 1 {
		t.Fatalf("%d objects", len(objects))
	}
	return objects[0]
}

func compiled(t testing.TB, name string) *Definition {
	t.Helper()
	d, err := Compile(imported(t, name).Definition.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// set makes parameter values of pairs of name and JSON.
func set(pairs ...string) map[string]v1alpha1.ParameterValue {
	out := map[string]v1alpha1.ParameterValue{}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = v1alpha1.ParameterValue{Value: apiextensionsv1.JSON{Raw: []byte(pairs[i+1])}}
	}
	return out
}
