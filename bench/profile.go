package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
)

// profiled is where a server that is profiled answers.
const profiled = "127.0.0.1:6198"

// keepProfiles writes a CPU profile of two seconds, and after it an execution trace of
// one, to files whose names begin with path. done waits for them.
func keepProfiles(ctx context.Context, path string) (done func()) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, f := range []struct{ query, suffix string }{{"profile?seconds=2", ".cpu"}, {"trace?seconds=1", ".trace"}} {
			if err := keepProfile(ctx, f.query, path+f.suffix); err != nil {
				fmt.Fprintln(os.Stderr, "bench: profile:", err)
			}
		}
	})
	return wg.Wait
}

func keepProfile(ctx context.Context, query, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+profiled+"/debug/pprof/"+query, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, resp.Body)
	if e := out.Close(); err == nil {
		err = e
	}
	return err
}
