package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// runAttacker attacks a server until it is interrupted.
func runAttacker(ctx context.Context, fs *flag.FlagSet, args []string) error {
	row := fs.String("row", "none", "attack")
	dir := fs.String("dir", "", "folder that bench registry wrote, for a storm")
	cycle := fs.Bool("again", false, "a storm goes on with the first image after the last")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var images []string
	if *row == "storm" {
		text, err := os.ReadFile(filepath.Join(*dir, "images.txt"))
		if err != nil {
			return err
		}
		images = strings.Fields(string(text))
	}
	ended, err := beginAttack(ctx, *row, images, *cycle)
	if err != nil {
		return err
	}
	fmt.Println("ready", *row)
	<-ctx.Done()
	ended()
	return nil
}

// attackers come from this address.
var attackers = &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}

// beginAttack starts an attack; ended waits for its end after ctx. A storm has images,
// each of them once, or again and again.
func beginAttack(ctx context.Context, row string, images []string, cycle bool) (ended func(), err error) {
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
			h, err := serveHostile(ctx, row, fmt.Sprintf("127.0.1.%d:0", n+1))
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
			for round := 0; round == 0 || cycle; round++ {
				for _, i := range images {
					select {
					case next <- i:
					case <-ctx.Done():
						return
					}
				}
			}
			fmt.Fprintln(os.Stderr, "the storm ended before the probes: all its images are known")
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
