package keys

import (
	"fmt"
	"testing"

	"github.com/boltseal/boltseal/internal/test/testhouse"
)

func node(name, arch string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s, labels: {kubernetes.io/os: linux, kubernetes.io/arch: %s}}\n", name, arch)
}

// TestNodes: a Policy that asks for signatures of the platforms that the cluster's
// Nodes run is told by the cluster itself, with the rights of the chart.
func TestNodes(t *testing.T) {
	h := testhouse.New(t, testhouse.Options{})
	h.Index("half", "linux/amd64+", "linux/arm64")
	image := h.Registry.Ref(testhouse.Repo, "half")
	use(t, provider("", "type: inline, parameters: {value: \""+oneLine(h.Signer.Root().PEM())+"\"}"), docs(""),
		"apiVersion: config.ratify.deislabs.io/v1beta1\nkind: Policy\nmetadata: {name: ratify-policy}\nspec: {type: config-policy, parameters: {artifactVerificationPolicies: {default: any}, multiArch: platforms, platforms: [nodes]}}\n")
	becomes(t, image, false) // there is no Node: any might come
	use(t, node("one", "amd64"))
	becomes(t, image, true)
	two := node("two", "arm64")
	apply(t, two)
	becomes(t, image, false)
	remove(t, two)
	becomes(t, image, true)
}
