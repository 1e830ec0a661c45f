// Package chromium drives a headless Chromium by the DevTools Protocol, over pipes.
package chromium

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"
)

// wait is how long an answer may take; only a browser that hangs needs as long.
const wait = 2 * time.Minute

// Browser is a running Chromium.
type Browser struct {
	cmd  *exec.Cmd
	dir  string
	out  *os.File
	in   *os.File
	done chan struct{}

	mu      sync.Mutex
	last    int
	answers map[int]chan message
	events  map[string]chan message // by session
}

type message struct {
	ID        int             `json:"id,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    any             `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// Start starts the Chromium that is installed, with a profile of its own.
func Start(ctx context.Context) (*Browser, error) {
	program, err := exec.LookPath("chromium")
	if err != nil {
		return nil, fmt.Errorf("the page is tested in Chromium: install the package chromium: %w", err)
	}
	dir, err := os.MkdirTemp("", "boltseal-chromium-")
	if err != nil {
		return nil, err
	}
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	b := &Browser{dir: dir, in: in, out: out, done: make(chan struct{}), answers: map[int]chan message{}, events: map[string]chan message{}}
	b.cmd = exec.CommandContext(ctx, program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--user-data-dir="+dir, "--remote-debugging-pipe", "about:blank")
	b.cmd.ExtraFiles = []*os.File{theirIn, theirOut}
	err = b.cmd.Start()
	_, _ = theirIn.Close(), theirOut.Close()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	go b.read()
	return b, nil
}

// Close ends it, and removes its profile.
func (b *Browser) Close() error {
	_, _ = b.call(context.Background(), "", "Browser.close", nil, nil)
	_ = b.in.Close()
	_ = b.cmd.Wait()
	_ = b.out.Close()
	return os.RemoveAll(b.dir)
}

func (b *Browser) read() {
	defer close(b.done)
	r := bufio.NewReader(b.out)
	for {
		text, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		to := b.events[m.SessionID]
		if m.ID != 0 {
			to = b.answers[m.ID]
			delete(b.answers, m.ID)
		}
		b.mu.Unlock()
		if to != nil {
			select {
			case to <- m:
			default: // more events than anybody waits for
			}
		}
	}
}

// call asks, and reads the answer into result, which may be nil.
func (b *Browser) call(ctx context.Context, session, method string, params, result any) (message, error) {
	answer := make(chan message, 1)
	b.mu.Lock()
	b.last++
	text, err := json.Marshal(message{ID: b.last, SessionID: session, Method: method, Params: params})
	if err == nil {
		b.answers[b.last] = answer
		_, err = b.in.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return message{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	select {
	case m := <-answer:
		if m.Error != nil {
			return m, fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			return m, json.Unmarshal(m.Result, result)
		}
		return m, nil
	case <-b.done:
		return message{}, fmt.Errorf("%s: Chromium ended", method)
	case <-ctx.Done():
		return message{}, fmt.Errorf("%s: %w", method, ctx.Err())
	}
}

// View is how a page is looked at.
type View struct {
	Width, Height int
	Dark          bool
}

// Tab is a page that is open.
type Tab struct {
	b       *Browser
	session string
	events  chan message
}

// Open opens an address and waits until it is there.
func (b *Browser) Open(ctx context.Context, url string, v View) (*Tab, error) {
	var target struct {
		TargetID  string `json:"targetId"`
		SessionID string `json:"sessionId"`
	}
	if _, err := b.call(ctx, "", "Target.createTarget", map[string]any{"url": "about:blank"}, &target); err != nil {
		return nil, err
	}
	if _, err := b.call(ctx, "", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target); err != nil {
		return nil, err
	}
	t := &Tab{b: b, session: target.SessionID, events: make(chan message, 1000)}
	b.mu.Lock()
	b.events[t.session] = t.events
	b.mu.Unlock()
	scheme := map[bool]string{true: "dark", false: "light"}[v.Dark]
	for _, c := range []struct {
		method string
		params any
	}{{"Page.enable", nil}, {"Log.enable", nil},
		{"Emulation.setDeviceMetricsOverride", map[string]any{"width": v.Width, "height": v.Height, "deviceScaleFactor": 1, "mobile": false}},
		{"Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}},
		{"Page.navigate", map[string]any{"url": url}}} {
		if _, err := b.call(ctx, t.session, c.method, c.params, nil); err != nil {
			return nil, err
		}
	}
	for {
		select {
		case m := <-t.events:
			if m.Method == "Page.loadEventFired" {
				return t, nil
			}
			if m.Method == "Log.entryAdded" {
				return nil, fmt.Errorf("Chromium complains of %s: %v", url, m.Params)
			}
		case <-b.done:
			return nil, errors.New("Chromium ended")
		case <-time.After(wait):
			return nil, fmt.Errorf("%s does not load", url)
		}
	}
}

// Evaluate runs an expression in the page, waits for what it promises, and reads the value.
func (t *Tab) Evaluate(ctx context.Context, expression string, value any) error {
	var r struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		ExceptionDetails json.RawMessage `json:"exceptionDetails"`
	}
	if _, err := t.b.call(ctx, t.session, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &r); err != nil {
		return err
	}
	if len(r.ExceptionDetails) > 0 {
		return fmt.Errorf("%.500s", r.ExceptionDetails)
	}
	if value == nil {
		return nil
	}
	return json.Unmarshal(r.Result.Value, value)
}

// Picture returns a PNG of what the view shows.
func (t *Tab) Picture(ctx context.Context) ([]byte, error) {
	return t.data(ctx, "Page.captureScreenshot", nil)
}

// Print returns a PDF of the page.
func (t *Tab) Print(ctx context.Context) ([]byte, error) {
	return t.data(ctx, "Page.printToPDF", map[string]any{"printBackground": false})
}

func (t *Tab) data(ctx context.Context, method string, params any) ([]byte, error) {
	var r struct {
		Data string `json:"data"`
	}
	if _, err := t.b.call(ctx, t.session, method, params, &r); err != nil {
		return nil, err
	}
	return base64.StdEncoding.DecodeString(r.Data)
}
