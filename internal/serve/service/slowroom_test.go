package service_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestSlowCallersMakeRoom: whoever sends many requests that never end, each nearly
// all of what it says will come, keeps nobody else's out, whatever time the caller
// claims to have.
func TestSlowCallersMakeRoom(t *testing.T) {
	t.Parallel()
	overBoth(t, func(t *testing.T, o service.Options) {
		const slow, size = 60, 128 << 10
		o.Server.BodyBytes = 4 << 20
		r := start(t, testhouse.Options{}, o, policy("prod", ""))
		tag, _ := r.Signed("v", r.Signer)
		if !r.validate("shop", tag).Allowed {
			t.Fatal("before")
		}
		if o.SelfSigned {
			// Streams of HTTP/2, as many as fill the room.
			for range slow {
				out, in := io.Pipe()
				t.Cleanup(func() { _ = in.Close() })
				go func() {
					if resp, err := r.client.Post(r.base+server.PathValidate+"?timeout=30s", "application/json", out); err == nil {
						_ = resp.Body.Close()
					}
				}()
				go func() { _, _ = io.WriteString(in, strings.Repeat(" ", size-1<<10)) }()
			}
		} else {
			for range slow {
				r.dial(head(server.PathValidate+"?timeout=30s", size) + strings.Repeat(" ", size-1<<10))
			}
		}
		// Whoever comes anew sends away the one that has been sending for longest: until all have come, that may be anybody.
		eventually(t, "all have come, and those have ended that half of the room is too small for", func() bool {
			n, _ := strconv.Atoi(r.metric(`boltseal_request_duration_seconds_count{endpoint="admission-validate"}`))
			return n >= 1+slow-int(o.Server.BodyBytes/2/size)
		})
		for range 20 {
			if v := r.validate("shop", tag); !v.Allowed {
				t.Errorf("the API server's review: %+v", v.Result)
			}
		}
	})
}

// TestManyConnectionsOfOneAddress: those that send nothing make room for those that
// do.
func TestManyConnectionsOfOneAddress(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	var conns []net.Conn
	for range 700 {
		conns = append(conns, r.dial("POST "))
	}
	if !r.validate("shop", tag).Allowed {
		t.Error("denied")
	}
	// Which ones go is by how long each has been waiting as the server sees it: the
	// order in which it came to read them is the machine's.
	eventually(t, "those above the limit of one address have ended", func() bool {
		ended := 0
		for _, c := range conns {
			if hasEnded(c) {
				ended++
			}
		}
		return ended >= 150
	})
	var idle http.Client // whoever comes anew finds a place, too
	if resp, err := idle.Get(r.base + "/"); err != nil || resp.StatusCode != http.StatusNotFound {
		t.Error(err)
	}
}

// hasEnded reports whether the other side has closed a connection that it says
// nothing on.
func hasEnded(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond)) // waits: for nothing; what has ended is told at once
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}
