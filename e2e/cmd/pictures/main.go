// Command pictures makes the pictures of the compliance page in docs/images, of a fleet that does not exist.
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/boltseal/boltseal/e2e/chromium"
	"github.com/boltseal/boltseal/internal/governance/page"
	"github.com/boltseal/boltseal/internal/governance/page/sample"
	"github.com/boltseal/boltseal/internal/governance/pageserver"
)

func main() {
	out := flag.String("out", "../docs/images", "`folder` that the pictures go to")
	flag.Parse()
	if err := draw(context.Background(), *out); err != nil {
		fmt.Fprintln(os.Stderr, "pictures:", err)
		os.Exit(1)
	}
}

func draw(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	in := sample.Fleet(64, 4)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_ = pageserver.Serve(ctx, l, pageserver.New(pageserver.Options{Source: func(context.Context) (page.Input, error) { return in, nil }}))
	}()
	b, err := chromium.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	for _, p := range []struct {
		name string
		q    page.Query
		v    chromium.View
	}{
		{"overview", page.Query{}, chromium.View{Width: 1280, Height: 800}},
		{"overview-dark-small", page.Query{}, chromium.View{Width: 360, Height: 800, Dark: true}},
		{"assignment", page.Query{Assignment: "production-denies"}, chromium.View{Width: 1280, Height: 1100}},
		{"cluster", page.Query{Cluster: "lon1"}, chromium.View{Width: 1280, Height: 900}},
		{"namespace", page.Query{Cluster: "lon1", Namespace: "shop"}, chromium.View{Width: 1280, Height: 560}},
		{"image", page.Query{Image: imageOf(in)}, chromium.View{Width: 1280, Height: 640}},
		{"exemption", page.Query{Exemption: "legacy-billing"}, chromium.View{Width: 1280, Height: 400}},
		{"what-if", page.Query{Change: "end-legacy-billing"}, chromium.View{Width: 1280, Height: 640, Dark: true}},
	} {
		tab, err := b.Open(ctx, "http://"+l.Addr().String()+"/?"+p.q.Encode(), p.v)
		if err != nil {
			return err
		}
		picture, err := tab.Picture(ctx)
		if err != nil {
			return err
		}
		small, err := fewColours(bytes.NewReader(picture))
		if err != nil {
			return err
		}
		name := filepath.Join(dir, "page-"+p.name+".png")
		if err := os.WriteFile(name, small, 0o644); err != nil {
			return err
		}
		fmt.Println(name, len(small))
	}
	return nil
}

func imageOf(in page.Input) string {
	for _, r := range in.Reports {
		for _, d := range r.Report.Demands {
			for _, c := range d.Components {
				return c.Image
			}
		}
	}
	return ""
}
