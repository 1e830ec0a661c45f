package service_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestEditsWhileLeaving: who still asks after the signal to stop is answered by the
// configuration as it is now, up to the last answer.
func TestEditsWhileLeaving(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{Drain: time.Hour})
	_, unsigned := r.Signed("unsigned")
	// As long as a client holds a connection, the server goes on.
	held := testhouse.Need(net.Dial("tcp", strings.TrimPrefix(r.base, "http://")))(t)
	defer held.Close()
	if !r.validate("team", unsigned).Allowed {
		t.Fatal("denied without a policy")
	}
	ended := make(chan error, 1)
	go func() { ended <- r.stop() }()
	eventually(t, "it is not ready", func() bool { status, _ := r.ready(); return status == 503 })
	for range 2 {
		r.write(config(r.Signer.Root().PEM(), policy("prod", "")))
		eventually(t, "the new policy denies", func() bool { return !r.validate("team", unsigned).Allowed })
		r.write(config(r.Signer.Root().PEM()))
		eventually(t, "it is gone again", func() bool { return r.validate("team", unsigned).Allowed })
	}
	_ = held.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
