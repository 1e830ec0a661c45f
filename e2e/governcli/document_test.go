package governcli

import (
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/boltseal/boltseal/e2e/product"
)

const (
	scope      = "/subscriptions/S/resourceGroups/G"
	initiative = "af28bf8b-c669-4dd3-9137-1e68fdc61bd6"
)

// spec returns the spec of an object as the API server has it.
func spec(t *testing.T, kind, name string) map[string]any {
	t.Helper()
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("policy.boltseal.dev/v1alpha1")
	u.SetKind(kind)
	if err := cluster.Client().Get(t.Context(), client.ObjectKey{Name: name}, u); err != nil {
		t.Fatal(err)
	}
	s, _, _ := unstructured.NestedMap(u.Object, "spec")
	return s
}

// TestDocument goes through the commands of docs/from-aks.md, in order, and what
// goes wrong on the way.
func TestDocument(t *testing.T) {
	c := newCLI(t)
	c.ok("crds", "apply")

	for _, f := range []string{"EnableImageIntegrityPreview", "AKS-AzurePolicyExternalData"} {
		c.has(c.ok("feature", "show", "--namespace", "Microsoft.ContainerService", "--name", f), "NotRegistered")
		c.has(c.ok("feature", "register", "--namespace", "Microsoft.ContainerService", "--name", f), "Registered")
		c.ok("feature", "register", "--namespace", "Microsoft.ContainerService", "--name", f) // again
		if out := c.ok("feature", "show", "--namespace", "Microsoft.ContainerService", "--name", f, "--query", "properties.state", "-o", "tsv"); out != "Registered\n" {
			t.Errorf("%q", out)
		}
	}
	c.has(c.ok("provider", "register", "--namespace", "Microsoft.ContainerService"), "nothing to do")
	c.fails("did you mean", "feature", "register", "--name", "EnableImageIntegrityPreveiw")

	c.ok("cluster", "register", "--name", "mycluster", "--subscription", "S", "--resource-group", "G", "--location", "westeurope")
	create := []string{"policy", "assignment", "create", "--name", "deploy-trustedimages", "--policy-set-definition", initiative,
		"--display-name", "Audit deployment with unsigned container images", "--scope", scope, "--mi-system-assigned", "--role", "Contributor",
		"--identity-scope", scope, "--location", "westeurope"}
	out, errs, status := c.run(create...)
	if status != 0 {
		t.Fatal(out, errs)
	}
	c.has(errs, "--mi-system-assigned", "no effect")
	c.ok(create...) // az replaces too
	c.fails("choose another name, or delete it first", append(create, "--scope", "/elsewhere")...)
	id := strings.TrimSpace(c.ok("policy", "assignment", "show", "-n", "deploy-trustedimages", "--scope", scope, "--query", "id", "-o", "tsv"))
	if id != scope+"/providers/policy.boltseal.dev/policyAssignments/deploy-trustedimages" {
		t.Errorf("%q", id)
	}
	shown := decode[struct {
		ID, Name, DisplayName, Scope, PolicyDefinitionID, EnforcementMode, ResourceGroup string
	}](t, c.ok("policy", "assignment", "show", "-n", "deploy-trustedimages", "-o", "json"))
	if shown.ID != id || shown.PolicyDefinitionID != initiative || shown.EnforcementMode != "Default" || shown.ResourceGroup != "G" || shown.Scope != scope {
		t.Errorf("%+v", shown)
	}
	c.fails("did you mean deploy-trustedimages?", "policy", "assignment", "show", "-n", "deploy-trustedimage")
	c.fails("there is one at "+scope, "policy", "assignment", "show", "-n", "deploy-trustedimages", "--scope", "/x")

	remediate := []string{"policy", "remediation", "create", "-a", id, "--definition-reference-id", "deployAKSImageIntegrity", "-n", "remediation", "-g", "G"}
	c.fails("only deployIfNotExists", "policy", "remediation", "create", "-a", id, "--definition-reference-id", "imageIntegrityNotationVerification", "-n", "r")
	c.fails("did you mean", "policy", "remediation", "create", "-a", id, "--definition-reference-id", "deployAKSImageIntegrty", "-n", "r")
	c.fails("--definition-reference-id is missing", "policy", "remediation", "create", "-a", id, "-n", "r")
	c.fails("not only for resource group", "policy", "remediation", "create", "-a", id, "--definition-reference-id", "deployAKSImageIntegrity", "-n", "r", "-g", "H")
	c.ok(remediate...)
	if s := spec(t, "Remediation", "remediation"); s["policyAssignmentId"] != id || s["policyDefinitionReferenceId"] != "deployAKSImageIntegrity" || s["resourceCount"] != int64(500) {
		t.Errorf("%v", s)
	}
	c.fails("does not change", remediate...)
	c.has(c.ok("policy", "remediation", "show", "-n", "remediation", "-g", "G", "-o", "json"), `"provisioningState": "Accepted"`, `"totalDeployments": 0`)
	c.ok("policy", "remediation", "cancel", "-n", "remediation")
	if s := spec(t, "Remediation", "remediation"); s["cancel"] != true {
		t.Errorf("%v", s)
	}
	c.has(c.ok("policy", "remediation", "list"), "remediation", "deployAKSImageIntegrity")
	c.ok("policy", "remediation", "delete", "-n", "remediation")

	c.fails("not in other", "cluster", "update", "-g", "other", "-n", "mycluster", "--disable-image-integrity")
	c.fails("did you mean mycluster?", "cluster", "update", "-n", "mycluster1", "--disable-image-integrity")
	c.fails("goes with --disable", "cluster", "update", "-n", "mycluster", "--enable-image-integrity", "--purge")
	out = c.ok("cluster", "update", "-g", "g", "-n", "mycluster", "--disable-image-integrity", "--purge", "--no-wait", "-o", "json")
	c.has(out, `"enabled": false`, `"purgeOnDisable": true`, scope+"/clusters/mycluster")
	out = c.ok("cluster", "update", "-n", "mycluster", "--enable-image-integrity", "--no-wait", "-o", "json")
	if strings.Contains(out, "purge") {
		t.Error(out)
	}
	c.has(c.ok("cluster", "list", "-g", "G"), "mycluster", "enabled", "never")
	c.ok("cluster", "register", "--name", "mycluster", "--location", "northeurope") // the rest stays
	if s := spec(t, "Cluster", "mycluster"); s["scope"] != scope || s["location"] != "northeurope" {
		t.Errorf("%v", s)
	}

	c.ok("policy", "assignment", "delete", "--name", "deploy-trustedimages")
	c.fails("there is no assignment", "policy", "assignment", "delete", "--name", "deploy-trustedimages")
}

// TestDefinitions imports Azure's own files.
func TestDefinitions(t *testing.T) {
	c := newCLI(t)
	c.ok("crds", "apply")
	root, err := product.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "internal/governance/definition/testdata/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	imported := append([]string{"policy", "definition", "import"}, files...)
	c.has(c.ok(imported...), "PolicySetDefinition "+initiative+": imported")
	c.has(c.ok(imported...), "brought up to date")
	c.has(c.ok("policy", "definition", "list"), initiative, "image-integrity", "BuiltIn", "initiative")
	c.has(c.ok("policy", "set-definition", "show", "-n", initiative), "deployAKSImageIntegrity", "excludedNamespaces")
	c.has(c.ok("policy", "definition", "show", "image-integrity-verification", "-o", "json"), `"mode": "Microsoft.Kubernetes.Data"`, `"builtIn": true`)
	c.fails("did you mean image-integrity?", "policy", "definition", "show", "image-integrty")
	_, errs, status := c.run("policy", "assignment", "create", "--name", "previewed", "-d", initiative, "--scope", "/nowhere/opted")
	if status != 0 {
		t.Fatal(errs)
	}
	c.fails("is assigned by previewed", "policy", "definition", "delete", initiative)
	c.fails("effect", "policy", "assignment", "create", "--name", "previewed", "-d", initiative, "--scope", "/nowhere/opted", "-p", `{"effect":{"value":"Deny"}}`)
	c.ok("policy", "assignment", "delete", "previewed")
	c.ok("policy", "definition", "delete", initiative)
	c.fails("is built in", "policy", "definition", "delete", "image-integrity")
}
