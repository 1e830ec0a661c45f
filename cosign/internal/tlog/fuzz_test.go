package tlog

import (
	"crypto/ed25519"
	"testing"

	"github.com/boltseal/boltseal/cosign/internal/bundle"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// FuzzCheckpoint: a checkpoint that the log has not signed opens nothing, and reading it
// costs no more than its size.
func FuzzCheckpoint(f *testing.F) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		f.Fatal(err)
	}
	const text = "log.example\n12\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n"
	f.Add(text+"\u2014 log.example AAAAAAAAAAAA\n", []byte("an entry"))
	f.Add(text+"\u2014 log.example AAAAAAAAAAAA\n\u2014 witness.example AAAAAAAAAAAA\n", []byte(""))
	f.Add("log.example - 1\n12\n\n", []byte("x"))
	f.Fuzz(func(t *testing.T, checkpoint string, body []byte) {
		for _, v2 := range []bool{false, true} {
			check := func() error {
				return VerifyProof(Log{Key: public, Host: "log.example"}, v2, &bundle.Proof{Index: 3, Size: 12, Checkpoint: checkpoint}, body)
			}
			weight.Bound{Floor: 256 << 10, Times: 64}.Check(t, len(checkpoint)+len(body), func() { _ = check() })
			if check() == nil {
				t.Fatal("proven")
			}
		}
	})
}
