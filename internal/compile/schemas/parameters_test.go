package schemas_test

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"

	"github.com/boltseal/boltseal/api/config/v1beta1"
	"github.com/boltseal/boltseal/internal/base/strict"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/compile/schemas"
)

const root = "../../.."

func kinds() []string {
	return []string{v1beta1.KindStore, v1beta1.KindVerifier, v1beta1.KindPolicy, v1beta1.KindKeyManagementProvider, v1beta1.KindCertificateStore}
}

// TestDefinitionsAreCurrent: what the definitions say of parameters is what is decoded.
func TestDefinitionsAreCurrent(t *testing.T) {
	t.Parallel()
	m := schemas.New(root)
	all, err := schemas.Definitions(filepath.Join(root, "charts", "boltseal", "crds"))
	if err != nil {
		t.Fatal(err)
	}
	filled := 0
	for _, d := range all {
		text, err := m.Fill(d)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, d.Text) {
			t.Errorf("%s is not current: run go generate in api/config/v1beta1", d.File)
		}
		if bytes.Contains(d.Text, []byte("trustPolicyDoc:")) || bytes.Contains(d.Text, []byte("vaultURI:")) {
			filled++
		}
	}
	if filled != 5 {
		t.Errorf("%d definitions with parameters", filled)
	}
}

// TestParametersTakeWhatTheDecoderDoes: every field is there, with a description that
// says whose it is; what is not known is kept, so that it can be told; and null is
// what is not there.
func TestParametersTakeWhatTheDecoderDoes(t *testing.T) {
	t.Parallel()
	m := schemas.New(root)
	for _, kind := range kinds() {
		s, err := m.Parameters(kind)
		if err != nil {
			t.Fatal(err)
		}
		for _, typ := range compile.ParameterTypes(kind) {
			for _, f := range strict.Fields(typ.Type) {
				if p, ok := s.Properties[f]; !ok || !strings.Contains(p.Description, typ.Name) {
					t.Errorf("%s %s: %s: %q", kind, typ.Name, f, p.Description)
				}
			}
		}
		s.Nullable = true // of all below
		kept(t, kind, *s)
	}
	s, err := m.Parameters(v1beta1.KindStore)
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range compile.AuthProviderTypes() {
		for _, f := range strict.Fields(typ.Type) {
			if _, ok := s.Properties["authProvider"].Properties[f]; !ok {
				t.Errorf("authProvider %s: %s", typ.Name, f)
			}
		}
		if d := s.Properties["authProvider"].Properties["name"].Description; !strings.Contains(d, typ.Name) {
			t.Errorf("%s", d)
		}
	}
	if s, err := m.Parameters("Pod"); s != nil || err != nil {
		t.Errorf("%v, %v", s, err)
	}
}

// kept fails where a schema would drop what it does not name, or refuse null.
func kept(t *testing.T, path string, s apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	keeps := s.XPreserveUnknownFields != nil && *s.XPreserveUnknownFields
	switch {
	case s.Type == "" && !keeps, s.Type == "object" && !keeps && s.AdditionalProperties == nil, s.Type != "" && !s.Nullable:
		t.Errorf("%s: %+v", path, s)
	}
	if len(s.Required)+len(s.Enum)+len(s.XValidations) > 0 || s.Default != nil || s.Pattern != "" {
		t.Errorf("%s demands more than a type, which is the decoder's to tell", path)
	}
	for name, p := range s.Properties {
		kept(t, path+"."+name, p)
	}
	if s.Items != nil {
		kept(t, path+"[]", *s.Items.Schema)
	}
	if s.AdditionalProperties != nil {
		kept(t, path+"{}", *s.AdditionalProperties.Schema)
	}
}
