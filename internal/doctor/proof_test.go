package doctor

import (
	"slices"
	"testing"

	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/internal/credential"
)

func TestProofOfWhoAsks(t *testing.T) {
	t.Parallel()
	for want, commands := range map[string][][]string{
		"":                          {{"serve", "--in-cluster"}, {"serve", "--admission-trust-network=false"}, {"serve", "--client-ca="}, {"serve", "--admission-client-cab=x"}},
		"--client-ca":               {{"serve", "--client-ca", "/x"}, {"boltseal", "serve", "--client-ca=/x"}},
		"--admission-client-ca":     {{"serve", "--admission-client-ca=/webhook-client-ca/ca.crt"}},
		"--admission-trust-network": {{"serve", "--admission-trust-network"}, {"serve", "--admission-trust-network=true"}},
	} {
		for _, c := range commands {
			if got, serves := proofIn(c); got != want || !serves {
				t.Errorf("%q: %q, %v", c, got, serves)
			}
		}
	}
	if _, serves := proofIn([]string{"proxy", "--client-ca=/x"}); serves {
		t.Error("another program's command")
	}
}

// TestStoresThatNeedAProof: what is used in the name of a namespace or of a Pod needs to
// know who asks; Boltseal's own credentials do not.
func TestStoresThatNeedAProof(t *testing.T) {
	t.Parallel()
	store := func(resource, namespace string, sources ...string) compile.SurveyedStore {
		s := compile.SurveyedStore{Resource: resource, Namespace: namespace}
		for _, name := range sources {
			s.Sources = append(s.Sources, credential.Named{Name: name})
		}
		return s
	}
	got := inSomebodysName([]compile.SurveyedStore{
		store("Store a", "", "dockerConfig", "k8Secrets", "azureWorkloadIdentity"), store("Store b", "", "k8Secrets", "podPullSecrets"),
		store("NamespacedStore t/c", "t", "dockerConfig"), store("NamespacedStore t/d", "t", "dockerConfig", "k8Secrets", "awsEcrBasic", "podPullSecrets"),
	})
	want := []string{"Store b (podPullSecrets)", "NamespacedStore t/d (k8Secrets, awsEcrBasic, podPullSecrets)"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
