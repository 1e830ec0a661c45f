package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// bench is one run over all rows.
type bench struct {
	ctx    context.Context
	self   string // this program
	binary string // boltseal
	dir    string
}

// measureServe measures `boltseal serve` row by row, each against a registry in a
// process of its own, and against the floor where a row says so.
func measureServe(ctx context.Context, fs *flag.FlagSet, args []string) error {
	b := &bench{ctx: ctx}
	fs.StringVar(&b.binary, "boltseal", "bin/boltseal", "the program to measure")
	rows := fs.String("rows", "cold,warm,batch,pod,far,hang,many,memory", "rows to measure")
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
	known := map[string]func() error{"cold": b.cold, "warm": b.warm, "batch": b.batch, "pod": b.pod, "far": b.far, "hang": b.hang, "many": b.many, "memory": b.memory}
	for _, row := range strings.Split(*rows, ",") {
		measure, ok := known[row]
		if !ok {
			return fmt.Errorf("no row is named %q", row)
		}
		if err := measure(); err != nil {
			return fmt.Errorf("%s: %w", row, err)
		}
	}
	return nil
}

// setting is a registry with images, and a server that trusts them.
type setting struct {
	registry, server *process
	images           []string
	ready            time.Duration
}

func (s *setting) stop() {
	if s.server != nil {
		s.server.stop()
	}
	s.registry.stop()
}

const listen = "127.0.0.1:6101"

func (b *bench) set(serverArgs []string, registryArgs ...string) (*setting, error) {
	dir, err := os.MkdirTemp(b.dir, "row-")
	if err != nil {
		return nil, err
	}
	s := &setting{}
	if s.registry, err = startProcess(b.ctx, true, b.self, append([]string{"registry", "-dir", dir}, registryArgs...)...); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "images.txt"))
	if err == nil {
		s.images = strings.Fields(string(text))
		s.server, s.ready, err = startServer(b.ctx, b.binary, dir, listen, serverArgs...)
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

var plain = []string{"--insecure-http"}

func (b *bench) cold() error {
	for _, chains := range []string{"shared", "leaf", "distinct"} {
		if err := b.coldWith(chains); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) coldWith(chains string) error {
	const n = 2000
	s, err := b.set(plain, "-images", strconv.Itoa(n), "-chains", chains)
	if err != nil {
		return err
	}
	defer s.stop()
	idle := s.server.rss()
	o, err := load{url: "http://" + listen + verifyPath, bodies: verifyBatches(s.images, 1), at: 32, total: n, check: checkTrusted(1)}.run(b.ctx, loadClient(32), s.server)
	if err != nil {
		return err
	}
	fmt.Printf("cold, chains %s, 32 at a time: %.0f images/s, %.2f ms of CPU per image; start to ready %d ms; RSS %d MiB before, %d after\n",
		chains, o.perSecond(n), o.cpuPer(n)/1000, s.ready.Milliseconds(), idle, s.server.rss())
	return nil
}

// against compares the server to the floor, in turns, so that both have the same
// noise around them.
func (b *bench) against(s *setting, scheme, path string, bodies [][]byte, per, total int, check func([]byte) error) (string, error) {
	floor, err := startProcess(b.ctx, true, b.self, append([]string{"bare", "-upstream", scheme + "://" + listen}, map[string][]string{"https": {"-tls"}}[scheme]...)...)
	if err != nil {
		return "", err
	}
	defer floor.stop()
	ours := load{url: scheme + "://" + listen + path, bodies: bodies, at: 32, total: total, check: check}
	base := ours
	base.url = scheme + "://" + floor.addr + path
	c := loadClient(32)
	for _, warm := range []load{ours, base} { // not measured
		warm.total = len(bodies)
		if _, err := warm.run(b.ctx, c, s.server); err != nil {
			return "", err
		}
	}
	var a, z outcome
	var ratios []float64
	const rounds = 5
	for range rounds {
		if z, err = base.run(b.ctx, c, floor); err != nil {
			return "", err
		}
		if a, err = ours.run(b.ctx, c, s.server); err != nil {
			return "", err
		}
		ratios = append(ratios, a.cpuPer(total)/z.cpuPer(total))
	}
	return fmt.Sprintf("CPU %.2f × the floor (%s); last round %.1f µs against %.1f µs, %.0f/s against %.0f/s, p99 %s", medianOf(ratios), spreadOf(ratios),
		a.cpuPer(total*per), z.cpuPer(total*per), a.perSecond(total*per), z.perSecond(total*per), a.quantile(.99).Round(10*time.Microsecond)), nil
}

func (b *bench) warm() error {
	s, err := b.set(plain, "-images", "500", "-chains", "leaf")
	if err != nil {
		return err
	}
	defer s.stop()
	text, err := b.against(s, "http", verifyPath, verifyBatches(s.images, 1), 1, 20_000, checkTrusted(1))
	fmt.Println("warm, one key each, 32 at a time:", text)
	return err
}

func (b *bench) batch() error {
	s, err := b.set(plain, "-images", "500", "-chains", "leaf")
	if err != nil {
		return err
	}
	defer s.stop()
	text, err := b.against(s, "http", verifyPath, verifyBatches(s.images, 50), 50, 4_000, checkTrusted(50))
	fmt.Println("warm, batches of 50, per key:", text)
	return err
}

func (b *bench) pod() error {
	s, err := b.set([]string{"--tls-self-signed"}, "-images", "500", "-chains", "leaf")
	if err != nil {
		return err
	}
	defer s.stop()
	text, err := b.against(s, "https", validatePath, podReviews(s.images, 5), 1, 10_000, checkAllowed)
	fmt.Println("warm AdmissionReview, 5 containers, TLS:", text)
	return err
}

func (b *bench) far() error {
	s, err := b.set(plain, "-images", "60", "-latency", "20ms")
	if err != nil {
		return err
	}
	defer s.stop()
	for i, what := range []string{"first contact", "connections open"} {
		o, err := load{url: "http://" + listen + verifyPath, bodies: verifyBatches(s.images[i*30:i*30+30], 30), at: 1, total: 1, check: checkTrusted(30)}.run(b.ctx, loadClient(1), s.server)
		if err != nil {
			return err
		}
		fmt.Printf("registry 20 ms away, batch of 30 cold, %s: %d ms\n", what, o.wall.Milliseconds())
	}
	return nil
}

func (b *bench) hang() error {
	s, err := b.set(plain, "-images", "10", "-hang", "4")
	if err != nil {
		return err
	}
	defer s.stop()
	o, err := load{url: "http://" + listen + verifyPath, bodies: verifyBatches(s.images, 10), at: 1, total: 1, check: checkTrusted(9)}.run(b.ctx, loadClient(1), s.server)
	fmt.Printf("one key of ten hangs: nine trusted, the answer after %d ms\n", o.wall.Milliseconds())
	return err
}

func (b *bench) many() error {
	s, err := b.set(plain, "-images", "2", "-chains", "shared", "-signatures", "400")
	if err != nil {
		return err
	}
	defer s.stop()
	for i, what := range []string{"first contact", "again with another image"} {
		o, err := load{url: "http://" + listen + verifyPath, bodies: verifyBatches(s.images[i:i+1], 1), at: 1, total: 1, check: checkTrusted(1)}.run(b.ctx, loadClient(1), s.server)
		if err != nil {
			return err
		}
		fmt.Printf("400 signatures on one image, %s: %.1f ms\n", what, float64(o.wall.Microseconds())/1000)
	}
	return nil
}

func (b *bench) memory() error {
	for _, chains := range []string{"shared", "leaf"} {
		if err := b.memoryWith(chains); err != nil {
			return err
		}
	}
	return nil
}

// memoryWith looks at 10,000 distinct images, a thousand at a time.
func (b *bench) memoryWith(chains string) error {
	const n, step = 10_000, 1000
	s, err := b.set(plain, "-images", strconv.Itoa(n), "-chains", chains)
	if err != nil {
		return err
	}
	defer s.stop()
	time.Sleep(time.Second)
	idle := s.server.rss()
	var first, at5000 float64
	var line bytes.Buffer
	c := loadClient(32)
	for i := 0; i < n; i += step {
		o, err := load{url: "http://" + listen + verifyPath, bodies: verifyBatches(s.images[i:i+step], 1), at: 32, total: step, check: checkTrusted(1)}.run(b.ctx, c, s.server)
		if err != nil {
			return err
		}
		if i == step { // the first thousand opens connections
			first = o.cpuPer(step)
		}
		if i == 5*step {
			at5000 = o.cpuPer(step)
		}
		fmt.Fprintf(&line, " %d", s.server.rss())
	}
	fmt.Printf("10,000 distinct images, chains %s: RSS %d MiB idle, after each thousand:%s; start to ready %d ms; CPU per image after 5,000: %.2f × that of the second thousand\n",
		chains, idle, line.String(), s.ready.Milliseconds(), at5000/first)
	return nil
}
