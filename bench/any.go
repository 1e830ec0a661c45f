package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// loadAny puts load on any server, and measures its process where it is one of
// this machine.
func loadAny(ctx context.Context, fs *flag.FlagSet, args []string) error {
	url := fs.String("url", "https://127.0.0.1:6001", "server, without a path")
	dir := fs.String("dir", "", "folder that bench registry wrote")
	kind := fs.String("kind", "verify", "verify: Gatekeeper's requests; pod: AdmissionReviews of Pods")
	per := fs.Int("per", 1, "keys of a request, or containers of a Pod")
	at := fs.Int("at", 32, "requests at a time")
	total := fs.Int("total", 10_000, "requests in all")
	pid := fs.Int("pid", 0, "process of the server, to tell its CPU time")
	if err := fs.Parse(args); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(*dir, "images.txt"))
	if err != nil {
		return err
	}
	l := load{url: *url + verifyPath, at: *at, total: *total, check: checkTrusted(*per)}
	switch *kind {
	case "verify":
		l.bodies = verifyBatches(strings.Fields(string(text)), *per)
	case "pod":
		l.url, l.check = *url+validatePath, checkAllowed
		l.bodies = podReviews(strings.Fields(string(text)), *per)
	default:
		return fmt.Errorf("-kind %q is not verify or pod", *kind)
	}
	if len(l.bodies) == 0 {
		return fmt.Errorf("fewer than %d images in %s", *per, *dir)
	}
	p := &process{pid: *pid}
	o, err := l.run(ctx, loadClient(*at), p)
	if err != nil {
		return err
	}
	fmt.Printf("%d requests, %d at a time: %.0f/s, p50 %s, p99 %s", *total, *at, o.perSecond(*total), o.quantile(.5).Round(10*time.Microsecond), o.quantile(.99).Round(10*time.Microsecond))
	if *pid != 0 {
		fmt.Printf(", %.1f µs of CPU per request, RSS %d MiB", o.cpuPer(*total), p.rss())
	}
	fmt.Println()
	return nil
}
