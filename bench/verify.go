package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/compile"
	"github.com/boltseal/boltseal/oci"
)

// measureVerify runs the engine over a folder that `bench registry` wrote.
func measureVerify(ctx context.Context, fs *flag.FlagSet, args []string) error {
	dir := fs.String("dir", "", "folder that bench registry wrote")
	at := fs.Int("at", 32, "images at a time")
	rounds := fs.Int("rounds", 1, "times over the images, with one engine; nothing is cached between rounds but chains and connections")
	profile := fs.String("cpuprofile", "", "file for a CPU profile")
	if err := fs.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(*dir, "images.txt"))
	if err != nil {
		return err
	}
	images := strings.Fields(string(text))
	b, err := os.ReadFile(filepath.Join(*dir, "config.yaml"))
	if err != nil {
		return err
	}
	set, err := compile.Decode([]compile.Source{{Name: "config.yaml", Data: b}})
	if err != nil {
		return err
	}
	compiled, err := set.Compile(compile.Deps{DockerConfig: func(string) oci.CredentialSource { return nil }})
	if err != nil {
		return err
	}
	defer compiled.Close()
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	for round := range *rounds {
		if err := measureRound(ctx, compiled.EngineFor(""), images, *at, round); err != nil {
			return err
		}
	}
	return nil
}

func measureRound(ctx context.Context, e *boltseal.Engine, images []string, at, round int) error {
	var next, bad atomic.Int64
	cpu, start := cpuTime(), time.Now()
	var wg sync.WaitGroup
	for range at {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(images)); i = next.Add(1) - 1 {
				r, err := e.Verify(ctx, images[i])
				if err != nil || r.Decision != boltseal.Allow {
					if bad.Add(1) == 1 {
						fmt.Fprintln(os.Stderr, images[i], r.Decision, r.Reason, err)
					}
				}
			}
		})
	}
	wg.Wait()
	wall, used := time.Since(start), cpuTime()-cpu
	n := float64(len(images))
	fmt.Printf("round %d: %d images, %d at a time: %.0f images/s, %.3f ms of CPU per image, %.1f ms in all, RSS %d MB\n",
		round+1, len(images), at, n/wall.Seconds(), used.Seconds()*1000/n, wall.Seconds()*1000, residentMB())
	if bad.Load() > 0 {
		return fmt.Errorf("%d images were not allowed", bad.Load())
	}
	return nil
}

// cpuTime is what this process has used of the processors, user and system.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func residentMB() int {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var total, resident int
	if _, err := fmt.Sscan(string(b), &total, &resident); err != nil {
		return 0
	}
	return resident * os.Getpagesize() >> 20
}
