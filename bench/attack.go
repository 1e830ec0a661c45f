package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// attack measures what others notice while somebody attacks 'boltseal serve', and
// the most memory that it takes. Those who attack come from an address of their own.
// They, and the registries that they bring, are processes of their own with the lowest
// priority (nice 19): on machines of their own they would take no processor from the
// server, and what is to be measured is the server.
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

func (p *probes) at(q float64) time.Duration {
	slices.Sort(p.took)
	return p.took[int(q*float64(len(p.took)-1))]
}

func (p *probes) String() string {
	const unit = 10 * time.Microsecond
	return fmt.Sprintf("p50 %v, p99 %v, longest %v, %d of %d not allowed", p.at(.5).Round(unit), p.at(.99).Round(unit), p.at(1).Round(unit), p.wrong, len(p.took))
}

// against is p's 99th percentile in those of another.
func (p *probes) against(other *probes) float64 { return float64(p.at(.99)) / float64(other.at(.99)) }

const (
	warmProbes  = 1000
	coldProbes  = 300
	stormImages = 16_000
)

func (b *bench) attacked(row string) error {
	const honest = 2 * coldProbes
	dir, err := os.MkdirTemp(b.dir, "attack-")
	if err != nil {
		return err
	}
	args := []string{"-images", strconv.Itoa(honest + 1), "-chains", "leaf"}
	if row == "storm" {
		// Their registry is not that of the honest ones, and makes way as they do.
		theirs, err := behind(b.ctx, b.self, "registry", "-dir", dir, "-images", strconv.Itoa(stormImages), "-chains", "leaf")
		if err != nil {
			return err
		}
		defer theirs.stop()
		args = append(args, "-roots", filepath.Join(dir, rootsFile))
	}
	s, err := b.set(plain, args...)
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
	both := func(fresh []string) (warm, cold *probes, use string) {
		used, waited, began := s.server.processor()
		warm, cold = probe(s.images[:1], warmProbes), probe(fresh, coldProbes)
		usedNow, waitedNow, now := s.server.processor()
		took := now.Sub(began).Seconds()
		return warm, cold, fmt.Sprintf("%.2f processors used, %.2f waited for", (usedNow-used).Seconds()/took, (waitedNow-waited).Seconds()/took)
	}
	probe(s.images[:1], 20)
	warm, cold, use := both(s.images[1 : 1+coldProbes])
	idle := s.server.highWater()
	attacker, err := behind(b.ctx, b.self, "attacker", "-row", row, "-dir", dir)
	if err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	warmNow, coldNow, useNow := both(s.images[1+coldProbes : 1+honest])
	attacker.stop()
	fmt.Printf("%s: VmHWM %d MiB before, %d MiB after\n  server:      before: %s\n               during: %s\n  known image: before: %v\n               during: %v, p99 %.1f ×\n  new images:  before: %v\n               during: %v, p99 %.1f ×\n",
		row, idle, s.server.highWater(), use, useNow, warm, warmNow, warmNow.against(warm), cold, coldNow, coldNow.against(cold))
	return nil
}

// behind starts a program that gets the processors that nobody else wants: by the usual
// rules of the scheduler, whatever those of this process are, with the lowest priority.
func behind(ctx context.Context, name string, args ...string) (*process, error) {
	return start(ctx, true, "chrt", append([]string{"--other", "0", "nice", "-n", "19", name}, args...)...)
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
