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

// runAttack measures what others notice while somebody attacks 'boltseal serve', and
// the most memory that it takes. Those who attack come from an address of their own.
// They, and the registries that they bring, are processes of their own that come after
// the server: on machines of their own they would take no processor from the
// server, and what is to be measured is the server.
func runAttack(ctx context.Context, fs *flag.FlagSet, args []string) error {
	b := &bench{ctx: ctx}
	fs.StringVar(&b.binary, "boltseal", "bin/boltseal", "the program to measure")
	rows := fs.String("rows", "none,bombs,strangers,silent,withheld,slow,storm", "attacks to measure")
	a := &attackRun{bench: b}
	fs.IntVar(&a.priority, "server-priority", 0, "real-time priority of what is attacked (SCHED_RR; root only), to be lower than that of the bench itself; 0 = as the bench has it")
	fs.StringVar(&a.profiles, "profiles", "", "folder for a CPU profile and an execution trace of the server under each attack; what is measured then includes their cost")
	floor := fs.Bool("floor", true, "attack a handler that verifies nothing, too")
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
		if err := a.measure(row, *floor); err != nil {
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

// attackRun is one run over all attacks.
type attackRun struct {
	*bench
	priority int    // of what is attacked; 0 = as its parent
	profiles string // folder; "" = none
}

func (a *attackRun) measure(row string, floor bool) error {
	const honest = 2 * coldProbes
	dir, err := os.MkdirTemp(a.dir, "attack-")
	if err != nil {
		return err
	}
	args := []string{"-images", strconv.Itoa(honest + 1), "-chains", "leaf"}
	if row == "storm" {
		// Their registry is not that of the honest ones, and makes way as they do.
		theirs, err := startBehind(a.ctx, a.niceness(), a.self, "registry", "-dir", dir, "-images", strconv.Itoa(stormImages), "-chains", "leaf")
		if err != nil {
			return err
		}
		defer theirs.stop()
		args = append(args, "-roots", filepath.Join(dir, rootsFile))
	}
	serving := plain
	if a.profiles != "" {
		serving = append([]string{"--pprof", "--metrics-listen", profiled}, serving...)
	}
	s, err := a.set(serving, args...)
	if err != nil {
		return err
	}
	defer s.stop()
	if err := s.server.realTime(a.priority); err != nil {
		return err
	}
	fmt.Printf("%s:\n", row)
	if err := a.attacked(s.server, s.images, row, dir); err != nil || !floor {
		return err
	}
	s.server.stop()
	bare, err := startProcess(a.ctx, true, a.self, "bare", "-listen", listen)
	if err != nil {
		return err
	}
	s.server = bare // to be stopped
	if err := bare.realTime(a.priority); err != nil {
		return err
	}
	return a.attacked(bare, s.images[:1], row, dir)
}

// attacked measures what the images' namespace notices of an attack on p: of the first
// image, which is known then, and of the others, where there are any.
func (a *attackRun) attacked(p *process, images []string, row, dir string) error {
	c := loadClient(1)
	probe := func(images []string, n int) *probes {
		found := &probes{}
		for i := range n {
			began := time.Now()
			err := load{url: "http://" + listen + validatePath + "?timeout=10s", check: checkAllowed}.one(a.ctx, c, podReviews(images[i%len(images):i%len(images)+1], 1)[0])
			found.took = append(found.took, time.Since(began))
			if err != nil {
				found.wrong++
			}
			time.Sleep(2 * time.Millisecond)
		}
		return found
	}
	fresh := images[1:]
	both := func(fresh []string) (known, cold *probes, use string) {
		used, waited, began := p.processor()
		known = probe(images[:1], warmProbes)
		if len(fresh) > 0 {
			cold = probe(fresh, coldProbes)
		}
		usedNow, waitedNow, now := p.processor()
		took := now.Sub(began).Seconds()
		return known, cold, fmt.Sprintf("%.2f processors used, %.2f waited for", (usedNow-used).Seconds()/took, (waitedNow-waited).Seconds()/took)
	}
	probe(images[:1], 20)
	known, cold, use := both(fresh[:len(fresh)/2])
	idle := p.highWater()
	args, what := []string{"attacker", "-row", row, "-dir", dir}, "boltseal"
	if len(fresh) == 0 {
		args, what = append(args, "-again"), "the floor"
	}
	attacker, err := startBehind(a.ctx, a.niceness(), a.self, args...)
	if err != nil {
		return err
	}
	time.Sleep(500 * time.Millisecond)
	if a.profiles != "" && len(fresh) > 0 {
		done := keepProfiles(a.ctx, filepath.Join(a.profiles, row))
		defer done()
	}
	knownNow, coldNow, useNow := both(fresh[len(fresh)/2:])
	attacker.stop()
	fmt.Printf("  %s, VmHWM %d MiB before, %d MiB after\n    processors:  before: %s\n                 during: %s\n    known image: before: %v\n                 during: %v, p99 %.1f ×\n",
		what, idle, p.highWater(), use, useNow, known, knownNow, knownNow.against(known))
	if cold != nil {
		fmt.Printf("    new images:  before: %v\n                 during: %v, p99 %.1f ×\n", cold, coldNow, coldNow.against(cold))
	}
	return nil
}

// niceness is that of those who attack: the lowest priority, but where the server comes
// before all by real time, the highest of all that does not, so that what else runs on the
// machine does not weaken the attack.
func (a *attackRun) niceness() int {
	if a.priority > 0 {
		return -20
	}
	return 19
}

// startBehind starts a program that gets the processors that the server leaves: by the usual
// rules of the scheduler, whatever those of this process are.
func startBehind(ctx context.Context, nice int, name string, args ...string) (*process, error) {
	return startProcess(ctx, true, "chrt", append([]string{"--other", "0", "nice", "-n", strconv.Itoa(nice), name}, args...)...)
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
