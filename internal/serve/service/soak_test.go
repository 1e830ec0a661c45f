package service_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
)

// soakFaults are what the registry does to us, a few requests at a time.
var soakFaults = []testregistry.Fault{
	{Kind: testregistry.Hang},
	{Kind: testregistry.Status, Status: 503},
	{Kind: testregistry.Status, Status: 429, RetryAfter: "1"},
	{Kind: testregistry.Reset},
	{Kind: testregistry.Drip, Delay: 50 * time.Millisecond},
	{Kind: testregistry.TruncatedBody},
	// For a tag nobody but the registry can say which digest it names.
	{Kind: testregistry.WrongDigest, Method: "HEAD", Match: func(r *http.Request) bool { return strings.Contains(r.URL.Path, "sha256:") }},
	{Kind: testregistry.WrongBody, Class: testregistry.Blob},
	{Kind: testregistry.Status, Status: 401, Class: testregistry.Referrers},
}

// soak is a service under load with a registry that misbehaves.
type soak struct {
	*running
	signed, bad []string
	quit        atomic.Bool
	asked, open atomic.Int64 // images, and those of them that an outage left open
}

// TestSoak runs for three seconds, or for as long as BOLTSEAL_SOAK says.
func TestSoak(t *testing.T) {
	length := 3 * time.Second
	if text := os.Getenv("BOLTSEAL_SOAK"); text != "" {
		length = testhouse.Need(time.ParseDuration(text))(t)
	}
	s := &soak{running: start(t, testhouse.Options{Registry: testregistry.Options{MaxLog: -1}}, service.Options{
		Audit: io.Discard,
		// waits: what the limits cut off is counted as left open, and is no verdict
		Server: server.Options{VerifyTimeout: 500 * time.Millisecond, WebhookTimeout: 500 * time.Millisecond},
		// waits: the same
		Memo: memo.Options{AllowTTL: 50 * time.Millisecond, DenyTTL: 50 * time.Millisecond, UnknownTTL: 10 * time.Millisecond, TagTTL: 20 * time.Millisecond, WorkTimeout: time.Second},
	}, policy("memory", "match: {namespaces: [memory]}, onUnavailable: {action: lastKnownGood}"), policy("closed", "match: {namespaces: [closed]}"))}
	s.fill()
	for _, image := range s.signed { // so that there is something to remember
		s.validate("memory", image)
	}
	baseline := runtime.NumGoroutine()
	before := heap()
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() { s.load(rand.New(rand.NewPCG(1, uint64(i)))) })
	}
	s.misbehave(length)
	s.quit.Store(true)
	wg.Wait()
	s.Registry.ClearFaults()
	for _, image := range s.signed {
		eventually(t, image+" is trusted again", func() bool { return s.gatekeeper(server.PathVerify, image)[0].trusted() })
	}
	s.client.CloseIdleConnections()
	// Up to 64 connections to the registry stay open for a while, with two goroutines here and one there.
	eventually(t, "the goroutines have ended", func() bool { return runtime.NumGoroutine() < baseline+60+64*3 })
	grown := int64(heap()) - int64(before)
	t.Logf("%d images asked, %d left open by outages; heap grew by %d KiB", s.asked.Load(), s.open.Load(), grown>>10)
	if grown > 24<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	if s.asked.Load() == s.open.Load() {
		t.Error("nothing was answered")
	}
}

func (s *soak) fill() {
	for i := range 30 {
		tag, pinned := s.Signed(fmt.Sprint("signed", i), s.Signer)
		s.signed = append(s.signed, tag, pinned)
	}
	for i := range 10 {
		a, _ := s.Signed(fmt.Sprint("unsigned", i))
		_, b := s.Signed(fmt.Sprint("stranger", i), s.Stranger)
		image := s.Registry.PushImage(testhouse.Repo, fmt.Sprint("expired", i), 0)
		s.Registry.Sign(testhouse.Repo, image, s.Signer, testca.SignOptions{SigningTime: time.Now().Add(-2 * time.Hour), Expiry: time.Now().Add(-time.Hour)})
		s.bad = append(s.bad, a, b, s.Registry.Ref(testhouse.Repo, fmt.Sprint("expired", i)))
	}
}

// misbehave injects one fault after another.
func (s *soak) misbehave(length time.Duration) {
	r := rand.New(rand.NewPCG(7, 7))
	for end := time.Now().Add(length); time.Now().Before(end); {
		f := soakFaults[r.IntN(len(soakFaults))]
		f.Probability = []float64{.05, .3, 1}[r.IntN(3)]
		undo := s.Registry.Inject(f)
		time.Sleep(time.Duration(20+r.IntN(150)) * time.Millisecond) // waits: so long lasts a fault; answers are right or left open at any time
		undo()
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond) // waits: the same without one
	}
}

// load asks both endpoints about trusted and other images.
func (s *soak) load(r *rand.Rand) {
	for !s.quit.Load() {
		good, bad := s.signed[r.IntN(len(s.signed))], s.bad[r.IntN(len(s.bad))]
		for i, it := range s.gatekeeper(server.PathVerify, good, bad, good) {
			s.judge(i != 1, it.Key, it.trusted(), string(it.Value)+it.Error)
		}
		for _, ns := range []string{"memory", "closed"} {
			for image, isGood := range map[string]bool{good: true, bad: false} {
				a := s.validate(ns, image)
				text := ""
				if a.Result != nil {
					text = a.Result.Message
				}
				s.judge(isGood, image, a.Allowed, text)
			}
		}
	}
}

// judge holds an answer against what is true of the image.
func (s *soak) judge(good bool, image string, allowed bool, text string) {
	s.asked.Add(1)
	switch {
	case allowed && !good:
		s.t.Errorf("a wrong allow: %s: %s", image, text)
	case !allowed && good:
		s.open.Add(1)
		// What the registry did may be told; nothing about the signature that is untrue.
		for _, untrue := range []string{"nothing signed", "not trusted: its root", "expired", "not-found", "no such"} {
			if strings.Contains(text, untrue) {
				s.t.Errorf("a wrong denial: %s: %s", image, text)
			}
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
