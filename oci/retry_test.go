package oci_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/oci"
)

func TestRetries(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault testregistry.Fault
		final bool // not worth another try
	}{
		"408":            {fault: testregistry.Fault{Kind: testregistry.Status, Status: 408}},
		"429":            {fault: testregistry.Fault{Kind: testregistry.Status, Status: 429}},
		"502":            {fault: testregistry.Fault{Kind: testregistry.Status, Status: 502}},
		"503":            {fault: testregistry.Fault{Kind: testregistry.Status, Status: 503}},
		"504":            {fault: testregistry.Fault{Kind: testregistry.Status, Status: 504}},
		"odd header":     {fault: testregistry.Fault{Kind: testregistry.Status, Status: 503, RetryAfter: "soon"}},
		"past date":      {fault: testregistry.Fault{Kind: testregistry.Status, Status: 503, RetryAfter: "Mon, 02 Jan 2006 15:04:05 GMT"}},
		"negative":       {fault: testregistry.Fault{Kind: testregistry.Status, Status: 503, RetryAfter: "-5"}},
		"reset":          {fault: testregistry.Fault{Kind: testregistry.Reset}},
		"truncated body": {fault: testregistry.Fault{Kind: testregistry.TruncatedBody}},
		"500":            {fault: testregistry.Fault{Kind: testregistry.Status, Status: 500}, final: true},
		"501":            {fault: testregistry.Fault{Kind: testregistry.Status, Status: 501}, final: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := testregistry.New(t, testregistry.Options{})
			want := jsonOf(300)
			desc := pushBoth(t, reg, want)
			ref := pinned(reg.Host, repo, desc.Digest)
			c.fault.Class = testregistry.Blob
			if !c.final {
				f := c.fault
				f.Times = 2
				remove := reg.Inject(f)
				got, err := newRegistry(t, oci.Options{}).Blob(testContext(t), ref, desc)
				if err != nil || !bytes.Equal(got, want) || reg.Count(testregistry.Blob) != 3 {
					t.Errorf("%d requests, %v", reg.Count(testregistry.Blob), err)
				}
				remove()
			}
			for attempts, want := range map[int]int{0: 3, 1: 1, 4: 4} {
				if c.final {
					want = 1
				}
				remove := reg.Inject(c.fault)
				reg.ResetLog()
				limits := oci.Limits{Attempts: attempts}
				if c.fault.Status == 429 { // it has a limit of its own, see TestThrottled
					limits.Throttled = want
					limits.Attempts = min(attempts, want)
				}
				_, err := newRegistry(t, oci.Options{Limits: limits}).Blob(testContext(t), ref, desc)
				wantError(t, err, boltseal.ErrUnavailable, reg.Host)
				// A connection that is reset may be asked again by net/http itself.
				if n := reg.Count(testregistry.Blob); n != want && c.fault.Kind != testregistry.Reset {
					t.Errorf("%d requests, want %d", n, want)
				}
				remove()
			}
		})
	}
}

// TestThrottled: a registry that says "too many requests" is asked more often than one that fails, for it will answer.
func TestThrottled(t *testing.T) {
	t.Parallel()
	reg := testregistry.New(t, testregistry.Options{})
	want := jsonOf(300)
	desc := pushBoth(t, reg, want)
	ref := pinned(reg.Host, repo, desc.Digest)
	remove := reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 429, Class: testregistry.Blob, Times: 5})
	got, err := newRegistry(t, oci.Options{}).Blob(testContext(t), ref, desc)
	if err != nil || !bytes.Equal(got, want) || reg.Count(testregistry.Blob) != 6 {
		t.Errorf("%d requests, %v", reg.Count(testregistry.Blob), err)
	}
	remove()
	reg.ResetLog()
	// However few tries there are otherwise, and never longer than the caller waits.
	ctx, expire := testwait.Deadline(t.Context())
	var asked atomic.Int32
	t.Cleanup(reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 429, Class: testregistry.Blob, Match: func(*http.Request) bool {
		if asked.Add(1) == 3 {
			expire()
		}
		return true
	}}))
	_, err = newRegistry(t, oci.Options{Limits: oci.Limits{Attempts: 1}}).Blob(ctx, ref, desc)
	wantError(t, err, boltseal.ErrUnavailable, reg.Host)
	if n := reg.Count(testregistry.Blob); n != 3 {
		t.Errorf("%d requests, want 3", n)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	reg := testregistry.New(t, testregistry.Options{})
	reg.Close()
	_, err := newRegistry(t, oci.Options{}).Resolve(testContext(t), tagged(reg.Host, repo, "v1"))
	wantError(t, err, boltseal.ErrUnavailable, reg.Host, "refused")
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, status := range []int{429, 503} {
		for _, header := range []string{"1", time.Now().Add(2 * time.Second).UTC().Format(http.TimeFormat)} {
			t.Run(fmt.Sprint(status, " ", header), func(t *testing.T) {
				t.Parallel()
				i := newImage(t, testregistry.Options{}, 0)
				i.reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: status, RetryAfter: header, Times: 1})
				if _, err := newRegistry(t, oci.Options{}).Resolve(testContext(t), i.byTag()); err != nil || i.reg.Count(testregistry.Any) != 2 {
					t.Errorf("%d requests, %v", i.reg.Count(testregistry.Any), err)
				}
			})
		}
	}
}

// A wait that does not fit is not begun.
func TestRetryAfterThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header  string
		limit   time.Duration
		timeout time.Duration // of the caller, 0 for none
		says    string
	}{
		// waits: nobody does; the less time is left, the less it fits
		"the caller's time":     {header: "25", timeout: 20 * time.Second, says: "another try in 25s would come too late"},
		"the limit":             {header: "31", says: "wait for 31s, longer than the limit of 30s"},
		"another limit":         {header: "3", limit: 2 * time.Second, says: "longer than the limit of 2s"},
		"a day":                 {header: "86400", says: "longer than the limit"},
		"longer than can be":    {header: "99999999999999999999", says: "longer than the limit"},
		"until the end of time": {header: "Fri, 31 Dec 9999 23:59:59 GMT", says: "longer than the limit"},
	} {
		for _, status := range []int{429, 503} {
			t.Run(name+" "+http.StatusText(status), func(t *testing.T) {
				t.Parallel()
				i := newImage(t, testregistry.Options{}, 0)
				i.reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: status, RetryAfter: c.header})
				r := newRegistry(t, oci.Options{Limits: oci.Limits{RetryAfter: c.limit}})
				ctx := t.Context() // without a deadline
				if c.timeout > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.timeout)
					defer cancel()
				}
				_, err := r.Resolve(ctx, i.byTag())
				wantError(t, err, boltseal.ErrUnavailable, i.reg.Host, c.says, strings.Fields(err.Error())[0])
				if n := i.reg.Count(testregistry.Any); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

// A registry that asked to be left alone is left alone by everybody.
func TestPauseIsShared(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 0)
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 429, RetryAfter: "600"}) // longer than anybody here waits
	r := newRegistry(t, oci.Options{Limits: oci.Limits{RetryAfter: 10 * time.Minute}})
	for range 3 {
		_, err := r.Resolve(testContext(t), i.byTag())
		wantError(t, err, boltseal.ErrUnavailable, i.reg.Host, "HTTP 429")
	}
	if n := i.reg.Count(testregistry.Any); n != 1 {
		t.Errorf("%d requests during the pause", n)
	}
	// Another registry is not concerned.
	other := newImage(t, testregistry.Options{}, 0)
	if _, err := r.Resolve(testContext(t), other.byTag()); err != nil {
		t.Error(err)
	}
}

// Those who wait for a slot when the pause begins do not go on regardless.
func TestPauseHoldsBackTheQueue(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{}, 0)
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Custom, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "600") // longer than anybody here waits
		w.WriteHeader(429)
	})})
	i.reg.SetLatency(50 * time.Millisecond) // until all have come
	r := newRegistry(t, oci.Options{Limits: oci.Limits{HostRequests: 2, RetryAfter: 10 * time.Minute}})
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() {
			_, err := r.Resolve(testContext(t), i.byTag())
			wantError(t, err, boltseal.ErrUnavailable, i.reg.Host, "HTTP 429")
		})
	}
	wg.Wait()
	if n := i.reg.Count(testregistry.Any); n > 2 {
		t.Errorf("%d requests, at most 2 were under way", n)
	}
}

func TestHostRequests(t *testing.T) {
	t.Parallel()
	i := newImage(t, testregistry.Options{Latency: 5 * time.Millisecond}, 0)
	r := newRegistry(t, oci.Options{Limits: oci.Limits{HostRequests: 3}})
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := i.reg.MaxConcurrent(); n > 3 {
		t.Errorf("%d requests at a time, at most 3", n)
	}
	// One that has no slot waits no longer than its caller.
	full := newRegistry(t, oci.Options{Limits: oci.Limits{HostRequests: 1}})
	i.reg.Inject(testregistry.Fault{Kind: testregistry.Hang})
	ctx, cancel := context.WithCancel(testContext(t))
	wg.Go(func() { _, _ = full.Resolve(ctx, i.byTag()) })
	testwait.Until(t, "the slot to be taken", func() bool { return i.reg.Count(testregistry.Any) > 40 })
	short, end := context.WithTimeout(testContext(t), 50*time.Millisecond) // waits: there is no slot for as long as the other hangs
	defer end()
	_, err := full.Resolve(short, i.byTag())
	wantError(t, err, boltseal.ErrUnavailable, i.reg.Host, "waiting for one of 1 requests")
	cancel()
	wg.Wait()
	i.reg.ClearFaults()
	if _, err := full.Resolve(testContext(t), i.byTag()); err != nil {
		t.Errorf("the slot is lost: %v", err)
	}
	if n := i.reg.Count(testregistry.Any); n != 42 {
		t.Errorf("%d requests, want 42", n)
	}
}

// Registries beyond the bound are served as well, only without memory.
func TestHostsLimit(t *testing.T) {
	t.Parallel()
	r := newRegistry(t, oci.Options{Limits: oci.Limits{Hosts: 2}})
	images := []image{newImage(t, testregistry.Options{}, 0), newImage(t, testregistry.Options{}, 0), newImage(t, testregistry.Options{}, 0),
		newImage(t, testregistry.Options{Token: &testregistry.TokenOptions{Anonymous: true}}, 0)}
	for range 3 {
		for _, i := range images {
			if _, err := r.Resolve(testContext(t), i.byTag()); err != nil {
				t.Error(err)
			}
		}
	}
}
