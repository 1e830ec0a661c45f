package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// attack measures what others notice while somebody attacks 'boltseal serve', and
// the most memory that it takes. Those who attack come from an address of their own.
func attack(ctx context.Context, fs *flag.FlagSet, args []string) error {
	b := &bench{ctx: ctx}
	fs.StringVar(&b.binary, "boltseal", "bin/boltseal", "the program to measure")
	rows := fs.String("rows", "none,bombs,strangers,silent,withheld,slow,storm", "attacks to measure")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "boltseal-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	for _, row := range strings.Split(*rows, ",") {
		if err := b.attacked(row); err != nil {
			return fmt.Errorf("%s: %w", row, err)
		}
	}
	return nil
}

// probes are questions of an honest namespace, one after the other.
type probes struct {
	took  []time.Duration
	wrong int
}

func (p *probes) String() string {
	slices.Sort(p.took)
	at := func(q float64) time.Duration {
		return p.took[int(q*float64(len(p.took)-1))].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("p50 %v, p99 %v, longest %v, %d of %d not allowed", at(.5), at(.99), at(1), p.wrong, len(p.took))
}

const (
	warmProbes = 1000
	coldProbes = 150
)

func (b *bench) attacked(row string) error {
	const honest = 2 * coldProbes
	n := honest + 1
	if row == "storm" {
		n += 12_000
	}
	s, err := b.set(plain, "-images", strconv.Itoa(n), "-chains", "leaf")
	if err != nil {
		return err
	}
	defer s.stop()
	c := client(1)
	probe := func(images []string, n int) *probes {
		p := &probes{}
		for i := range n {
			began := time.Now()
			err := load{url: "http://" + listen + validatePath + "?timeout=10s", check: allowed}.one(b.ctx, c, pods(images[i%len(images):i%len(images)+1], 1)[0])
			p.took = append(p.took, time.Since(began))
			if err != nil {
				p.wrong++
			}
			time.Sleep(2 * time.Millisecond)
		}
		return p
	}
	known := s.images[:1]
	probe(known, 20)
	warm, cold := probe(known, warmProbes), probe(s.images[1:1+coldProbes], coldProbes)
	idle := s.server.highWater()
	ctx, stop := context.WithCancel(b.ctx)
	defer stop()
	ended, err := begin(ctx, row, s.images[1+honest:])
	if err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	warmNow, coldNow := probe(known, warmProbes), probe(s.images[1+coldProbes:1+honest], coldProbes)
	stop()
	ended()
	fmt.Printf("%s: VmHWM %d MiB before, %d MiB after\n  known image: before: %v\n               during: %v\n  new images:  before: %v\n               during: %v\n",
		row, idle, s.server.highWater(), warm, warmNow, cold, coldNow)
	return nil
}

// highWater is the most memory that was ever resident, in MiB.
func (p *process) highWater() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	var kib int
	_, _ = fmt.Sscan(rest, &kib)
	return kib >> 10
}

// attackers come from this address.
var attackers = &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}

// begin starts an attack; ended waits for its end after ctx.
func begin(ctx context.Context, row string, images []string) (ended func(), err error) {
	var wg sync.WaitGroup
	c := &http.Client{Transport: &http.Transport{DialContext: attackers.DialContext, MaxIdleConnsPerHost: 64}}
	ask := func(name string, images []string) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+listen+validatePath+"?timeout=10s", strings.NewReader(reviewOf(name, images)))
		if err != nil {
			return
		}
		if resp, err := c.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	again := func(at int, f func(worker, round int)) {
		for w := range at {
			wg.Go(func() {
				for round := 0; ctx.Err() == nil; round++ {
					f(w, round)
				}
			})
		}
	}
	switch row {
	case "none":
	case "bombs", "strangers", "withheld":
		hosts := 1
		if row == "withheld" {
			hosts = 4
		}
		var names []string
		for n := range hosts {
			h, err := hostile(ctx, row, fmt.Sprintf("127.0.1.%d:0", n+1))
			if err != nil {
				return nil, err
			}
			names = append(names, h)
		}
		again(4, func(w, round int) {
			var list []string
			for i := range 39 {
				list = append(list, fmt.Sprintf("%s/a/b:t%d-%d-%d", names[(i+w)%hosts], w, round, i))
			}
			ask("attacker", list)
		})
	case "silent":
		l, err := net.Listen("tcp", "127.0.1.1:0")
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = l.Close() })
		go func() {
			var open []net.Conn
			for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
				open = append(open, conn)
			}
			for _, conn := range open {
				_ = conn.Close()
			}
		}()
		again(17, func(w, round int) {
			var list []string
			for i := range 1000 {
				list = append(list, fmt.Sprintf("%s/x/y:t%d-%d-%d", l.Addr(), w, round, i))
			}
			ask("attacker", list)
		})
	case "slow":
		body := strings.Repeat(" ", 127<<10)
		again(600, func(int, int) {
			conn, err := attackers.DialContext(ctx, "tcp", listen)
			if err != nil {
				return
			}
			defer conn.Close()
			end := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer end()
			_, _ = fmt.Fprintf(conn, "POST %s?timeout=30s HTTP/1.1\r\nHost: x\r\nContent-Length: 131072\r\n\r\n%s", validatePath, body)
			_, _ = conn.Read(make([]byte, 1)) // until it is closed
			time.Sleep(50 * time.Millisecond)
		})
	case "storm":
		next := make(chan string)
		go func() {
			defer close(next)
			for _, i := range images {
				select {
				case next <- i:
				case <-ctx.Done():
					return
				}
			}
		}()
		for range 64 {
			wg.Go(func() {
				for i := range next {
					ask("team", []string{i})
				}
			})
		}
	default:
		return nil, fmt.Errorf("no attack is named %q", row)
	}
	return wg.Wait, nil
}

func reviewOf(namespace string, images []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u","kind":{"version":"v1","kind":"Pod"},"namespace":%q,"operation":"CREATE","object":{"metadata":{"name":"p"},"spec":{"containers":[`, namespace)
	for i, image := range images {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"name":"c%d","image":%q}`, i, image)
	}
	return b.String() + "]}}}}"
}
