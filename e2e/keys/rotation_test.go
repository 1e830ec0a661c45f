package keys

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testcloud"
)

// rotations is how many are made; $BOLTSEAL_ROTATIONS says another number.
func rotations(t *testing.T) int {
	text := os.Getenv("BOLTSEAL_ROTATIONS")
	if text == "" {
		return 4
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("BOLTSEAL_ROTATIONS=%q is no number of rotations", text)
	}
	return n
}

// TestRotations measures how long after a rotation in the vault verdicts go by the
// new version: what it has signed is trusted, what the one before has signed is not.
func TestRotations(t *testing.T) {
	h, mine, theirs := house(t)
	images := []string{mine, theirs}
	chains := []*testca.Chain{h.Signer, h.Stranger}
	const name = "rotating"
	vault.Add(name, testcloud.Version{Chain: chains[0].X509()})
	use(t, docs(""), provider("", "type: azurekeyvault, refreshInterval: 1s, parameters: {vaultURI: 'https://"+vaultHost+"/', certificates: [{name: "+name+"}]}"))
	becomes(t, mine, true)
	var took []time.Duration
	for i := 1; i <= rotations(t); i++ {
		time.Sleep(time.Duration(i*37%100) * 10 * time.Millisecond) // waits: at any moment of the interval; the times are told, and not judged
		start := time.Now()
		vault.Add(name, testcloud.Version{Chain: chains[i%2].X509()})
		becomes(t, images[i%2], true)
		took = append(took, time.Since(start))
		becomes(t, images[(i+1)%2], false)
	}
	slices.Sort(took)
	t.Logf("%d rotations at an interval of 1s: in force after p50 %v, p99 %v, at most %v", len(took), took[len(took)/2], took[(len(took)*99+99)/100-1], took[len(took)-1])
}
