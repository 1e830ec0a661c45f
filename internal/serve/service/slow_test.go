package service_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/admission"
	"github.com/boltseal/boltseal/internal/answer/externaldata"
	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
)

// dial opens a connection and writes what a slow client writes at once.
func (r *running) dial(text string) net.Conn {
	r.t.Helper()
	conn := testhouse.Need(net.Dial("tcp", strings.TrimPrefix(r.base, "http://")))(r.t)
	r.t.Cleanup(func() { _ = conn.Close() })
	_, _ = io.WriteString(conn, text) // whether all of it is taken is the server's business
	return conn
}

func head(path string, length int) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, length)
}

// said is what the server wrote until it ended the connection, or had answered.
func said(conn net.Conn) string {
	_ = conn.SetReadDeadline(time.Now().Add(testwait.Patience)) // far above every limit of the server
	b := make([]byte, 4096)
	n, err := conn.Read(b)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "nothing, for all this time"
	}
	return string(b[:n])
}

// TestSlowClients: who sends slowly is sent away in time, and holds up nobody.
func TestSlowClients(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	headers := r.dial("POST " + server.PathValidate + " HTTP/1.1\r\nHost: x\r\nX-Slow: ")
	body := r.dial(head(server.PathValidate+"?timeout=1s", 10_000) + `{"apiVersion":`)
	patient := r.dial(head(server.PathVerify, 10_000) + "{")
	hasty := start(t, testhouse.Options{}, service.Options{Server: server.Options{BodyTimeout: time.Second}}) // waits: its client sends no more, however long
	if got := said(hasty.dial(head(server.PathVerify, 10_000) + "{")); !strings.HasPrefix(got, "HTTP/1.1 408") || hasEnded(patient) {
		t.Errorf("a body within less time than its caller has: %q; the same where there is time: ended is %v", got, hasEnded(patient))
	}
	if !r.validate("team", tag).Allowed {
		t.Error("they hold up others")
	}
	if got := said(body); !strings.HasPrefix(got, "HTTP/1.1 408") {
		t.Errorf("body: %q", got)
	}
	if got := said(headers); got != "" { // net/http says nothing to who has not asked yet
		t.Errorf("headers: %q", got)
	}
}

// TestSlowBodyOverTLS is the same with HTTP/2, whose streams have clocks of
// their own.
func TestSlowBodyOverTLS(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{SelfSigned: true}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	out, in := io.Pipe()
	defer in.Close()
	done := make(chan int, 1)
	go func() {
		resp, err := r.client.Post(r.base+server.PathValidate+"?timeout=1s", "application/json", out)
		if err != nil {
			t.Error(err)
			done <- 0
			return
		}
		_ = resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Error(resp.Proto)
		}
		done <- resp.StatusCode
	}()
	_, _ = io.WriteString(in, `{"apiVersion":`)
	if !r.validate("team", tag).Allowed {
		t.Error("it holds up others")
	}
	if status := <-done; status != http.StatusRequestTimeout {
		t.Errorf("HTTP %d", status)
	}
}

// TestSlowReaders do not take the answers that they asked for; these are held
// within bounds.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{Server: server.Options{BodyBytes: 12 << 20}})
	tag, _ := r.Signed("v", r.Signer)
	body := `{"apiVersion":"externaldata.gatekeeper.sh/v1beta1","kind":"ProviderRequest","request":{"keys":["` + strings.Repeat("X", 350) +
		strings.Repeat(`","`+strings.Repeat("X", 350), externaldata.MaxKeys-1) + `"]}}`
	var conns []net.Conn
	for range 8 {
		conns = append(conns, r.dial(head(server.PathVerify, len(body))+body))
		if !r.gatekeeper(server.PathVerify, tag)[0].trusted() {
			t.Fatal("they hold up others")
		}
	}
	eventually(t, "one has to come again", func() bool {
		return r.metric(`boltseal_requests_total{code="503",endpoint="verify"}`) != ""
	})
	for _, c := range conns {
		_ = c.Close()
	}
	eventually(t, "all is given back", func() bool { return r.metric("boltseal_request_bytes_held") == "0" })
}

// heapNow is what is reachable.
func heapNow() int64 { return int64(heap()) }

// TestMemoryOfHostileBodies: the memory for bodies that are read or taken apart is
// bounded, however many send them. It runs alone, for it looks at all memory.
func TestMemoryOfHostileBodies(t *testing.T) {
	const most = 24 << 20
	r := start(t, testhouse.Options{}, service.Options{Server: server.Options{BodyBytes: most}}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	r.validate("team", tag)
	var b strings.Builder // many names are dear: none may stand there twice
	b.WriteString(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"kind":"Pod"},"operation":"CREATE","object":{"metadata":{"annotations":{`)
	for i := 0; b.Len() < admission.MaxBytes; i++ {
		fmt.Fprintf(&b, `"%d":"",`, i)
	}
	hostile := b.String()[:admission.MaxBytes-100]
	before := heapNow()
	var slow []net.Conn
	for range 12 { // each keeps a hundred bytes back
		slow = append(slow, r.dial(head(server.PathValidate, admission.MaxBytes)+hostile))
	}
	if grown := heapNow() - before; grown > most+8<<20 {
		t.Errorf("%d slow clients hold %d MiB", len(slow), grown>>20)
	}
	if r.metric(`boltseal_requests_total{code="503",endpoint="admission-validate"}`) == "" {
		t.Error("nobody was sent away")
	}
	if !r.validate("team", tag).Allowed || !r.gatekeeper(server.PathVerify, tag)[0].trusted() {
		t.Error("they hold up others")
	}
	for _, c := range slow {
		_ = c.Close()
	}
	eventually(t, "all is given back", func() bool { return r.metric("boltseal_request_bytes_held") == "0" })

	// The same, sent whole and at once: to take it apart costs some times its size.
	var highest atomic.Int64
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			highest.Store(max(highest.Load(), int64(m.HeapAlloc)))
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond): // waits: it samples; a peak that it misses is no failure
			}
		}
	}()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			resp, err := r.client.Post(r.base+server.PathValidate, "application/json", strings.NewReader(hostile))
			if err != nil { // sent away while it was still sending
				return
			}
			defer resp.Body.Close()
			if b, _ := io.ReadAll(resp.Body); resp.StatusCode == 200 && !bytes.Contains(b, []byte(`"allowed":false`)) {
				t.Errorf("HTTP %d: %.200s", resp.StatusCode, b)
			}
		})
	}
	wg.Wait()
	close(stop)
	<-watched
	if peak := highest.Load() - before; peak > 8*most {
		t.Errorf("the heap grew by %d MiB", peak>>20)
	}
	large := pod("team", tag) // a large object that is as it should be
	large.Object.Raw = bytes.Replace(large.Object.Raw, []byte(`"metadata":{`), []byte(`"metadata":{"annotations":{"a":"`+strings.Repeat("x", 3<<20)+`"},`), 1)
	if a := r.review(server.PathValidate, r.mutated(large)); !a.Allowed {
		t.Errorf("%+v", a.Result)
	}
}

// TestClientsThatGoAway: what they asked for comes to an end, and leaves nothing
// behind. It runs alone, for it counts goroutines.
func TestClientsThatGoAway(t *testing.T) {
	for name, tls := range map[string]bool{"http": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			testwait.Grow(t, 400*time.Millisecond, func(limit time.Duration) error { return goAway(t, tls, limit) })
		})
	}
}

// goAway returns an error where the work ended before all had gone away.
func goAway(t *testing.T, tls bool, limit time.Duration) error {
	t.Helper()
	r := start(t, testhouse.Options{}, service.Options{SelfSigned: tls, Memo: memo.Options{WorkTimeout: limit, UnknownTTL: 10 * time.Millisecond}}, policy("prod", ""))
	var images []string
	for i := range 50 {
		tag, _ := r.Signed(fmt.Sprint("v", i), r.Signer)
		images = append(images, tag)
	}
	eventually(t, "one is allowed", func() bool { return r.validate("team", images[0]).Allowed })
	undo := r.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang})
	defer undo()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	var answered atomic.Int32
	for i := 1; i < len(images); i++ {
		req := testhouse.Need(http.NewRequestWithContext(ctx, http.MethodPost, r.base+server.PathValidate, bytes.NewReader(reviewOf(pod("team", images[i])))))(t)
		wg.Go(func() {
			if resp, err := r.client.Do(req); err == nil {
				_ = resp.Body.Close()
				answered.Add(1)
			}
		})
	}
	eventually(t, "all are being checked", func() bool {
		return answered.Load() > 0 || r.metric("boltseal_verifications_in_flight") == "49"
	})
	seen := atWork()
	cancel()
	wg.Wait()
	if n := answered.Load(); n > 0 || seen < 49 {
		return fmt.Errorf("%d were answered, %d goroutines were seen at work", n, seen)
	}
	undo()
	eventually(t, "the work has ended", func() bool { return r.metric("boltseal_verifications_in_flight") == "0" })
	eventually(t, "nobody works on it", func() bool { return atWork() == 0 })
	eventually(t, "what was cut off is verified anew", func() bool { return r.validate("team", images[7]).Allowed })
	return nil
}

// atWork is how many goroutines answer requests or verify images.
func atWork() (n int) {
	b := make([]byte, 8<<20)
	for _, g := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
		if strings.Contains(g, "internal/serve/server.(*Server)") || strings.Contains(g, "internal/answer/memo.(*Memo)") || strings.Contains(g, "boltseal.(*Engine)") || strings.Contains(g, "boltseal.(*run)") {
			n++
		}
	}
	return n
}
