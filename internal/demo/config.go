package demo

import "strings"

// trustConfig is the configuration that a user of this registry would apply.
func trustConfig(host string, roots []byte) []byte {
	indented := "        " + strings.ReplaceAll(strings.TrimSpace(string(roots)), "\n", "\n        ")
	return []byte(`# The configuration of the demo. In a cluster: kubectl apply -f FILE
apiVersion: config.ratify.deislabs.io/v1beta1
kind: KeyManagementProvider
metadata:
  name: release-roots
spec:
  type: inline
  parameters:
    value: |
` + indented + `
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Store
metadata:
  name: store-oras
spec:
  name: oras
---
apiVersion: config.ratify.deislabs.io/v1beta1
kind: Verifier
metadata:
  name: verifier-notation
spec:
  name: notation
  artifactTypes: application/vnd.cncf.notary.signature
  parameters:
    verificationCertStores:
      ca:
        release:
          - release-roots
    trustPolicyDoc:
      version: "1.0"
      trustPolicies:
        - name: demo
          registryScopes:
            - "` + host + `/demo/app"
          signatureVerification:
            level: strict
          trustStores:
            - ca:release
          trustedIdentities:
            - "x509.subject: C=IS, ST=Reykjavik, O=Boltseal Demo"
---
# Nothing may run but what the above trusts (for Boltseal's own webhook).
apiVersion: boltseal.dev/v1alpha1
kind: ImageIntegrityPolicy
metadata:
  name: only-trusted-images
spec:
  match:
    excludedNamespaces: [kube-system]
  enforcementAction: deny
`)
}
