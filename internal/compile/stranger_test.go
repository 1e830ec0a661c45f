package compile_test

import (
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/credential"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/oci"
)

// TestWhatANamespaceLendsIsNotForStrangers: of a namespace's Store every provider is
// used in its name, Boltseal's docker configuration excepted; of a cluster's none is
// but the Pods' own.
func TestWhatANamespaceLendsIsNotForStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testregistry.Options{})
	for auth, want := range map[string]struct{ namespace, cluster bool }{
		"":                                     {false, false},
		"authProvider: {name: dockerConfig}":   {false, false},
		"authProvider: {name: podPullSecrets}": {true, true},
		"authProvider: {name: k8Secrets, secrets: [{secretName: s}]}":                                      {true, false},
		"authProvider: {name: k8Secrets, serviceAccountName: a}":                                           {true, false},
		"authProvider: {name: awsEcrBasic}":                                                                {true, false},
		"authProvider: {name: gcpArtifactRegistry}":                                                        {true, false},
		"authProvider: {name: azureWorkloadIdentity, clientID: c, tenantID: t, endpoints: [a.azurecr.io]}": {true, false},
		"authProviders: [{name: dockerConfig}, {name: azureManagedIdentity, clientID: c}]":                 {true, false},
		"authProviders: [{name: alibabacloudAcrBasic}, {name: podPullSecrets}]":                            {true, true},
	} {
		for _, namespace := range []string{"", "team"} {
			wants := want.cluster
			at := "oras"
			if namespace != "" {
				wants, at = want.namespace, namespace+"/oras"
			}
			k := newKube(t)
			k.deps.LentTo, k.deps.Unproven = []string{"team"}, "the admission webhook"
			k.deps.DockerConfig = func(string) oci.CredentialSource { return credential.NewList() }
			k.apply(kmp("roots", w.pemA) + store(at, auth) + verifier("notary", "roots"))
			c, standing := k.compile()
			e := c.EngineFor("team")
			stranger, withheld := c.ForStranger(e)
			if e == nil || stranger == nil || withheld != wants {
				t.Errorf("%q %s: withheld %t; %v", namespace, auth, withheld, standing)
			}
			if again, _ := c.ForStranger(e); again != stranger {
				t.Errorf("%q %s: another one each time", namespace, auth)
			}
			lends := wants && namespace != "" && auth != "authProvider: {name: podPullSecrets}"
			if lends == (stranger == e) {
				t.Errorf("%q %s: a stranger has the namespace's engine", namespace, auth)
			}
			warned := false
			for _, st := range standing {
				for _, p := range st.Warnings {
					warned = warned || strings.Contains(p.Error(), "not used at the admission webhook, where nothing proves who asks")
				}
			}
			if warned != wants {
				t.Errorf("%q %s: warned %t", namespace, auth, warned)
			}
			known := false
			for _, e := range c.Engines() {
				known = known || e == stranger
			}
			if !known {
				t.Errorf("%q %s: what is found out for strangers would be forgotten", namespace, auth)
			}
			// An edit elsewhere changes nothing for them.
			k.apply(verifier("elsewhere/other", "roots"))
			if c2, _ := k.compile(); c2.EngineFor("team") == e {
				if s2, _ := c2.ForStranger(e); s2 != stranger {
					t.Errorf("%q %s: an edit elsewhere made another engine", namespace, auth)
				}
			} else {
				t.Errorf("%q %s: an edit elsewhere made another engine for the namespace", namespace, auth)
			}
		}
	}
}
