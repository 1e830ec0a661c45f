package product

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/boltseal/boltseal/e2e/process"
)

// AnyPort is an address to listen at whose port the kernel chooses: nobody else can take it meanwhile, and Listening
// tells which it is.
const AnyPort = "127.0.0.1:0"

// What Boltseal says that it listens for.
const (
	Main    = "provider and webhook"
	Health  = "health"
	Metrics = "metrics"
)

// listenTimeout is for what hangs.
const listenTimeout = 2 * time.Minute

var listening = regexp.MustCompile(`\bmsg=listening what=(?:"([^"]*)"|(\S+)) address=(\S+)`)

// Listening waits until a replica has said where it listens for each of what, and returns the addresses. Its log is
// read from an offset on, for another process may have written to the same file before.
func Listening(ctx context.Context, p *process.Process, offset int64, what ...string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	for {
		found, err := listeners(p.LogFile(), offset)
		if err != nil {
			return nil, err
		}
		missing := ""
		for _, w := range what {
			if found[w] == "" {
				missing = w
			}
		}
		if missing == "" {
			return found, nil
		}
		select {
		case <-p.Exited():
			return nil, p.Err()
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("%s does not say where it listens for %s; its log ends with:\n%s", p.Name(), missing, p.LogTail()), ctx.Err())
		case <-time.After(pollEvery):
		}
	}
}

// listeners are the addresses in a log, as text or JSON.
func listeners(file string, offset int64) (map[string]string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for line := range strings.Lines(string(b[min(offset, int64(len(b))):])) {
		if !strings.HasSuffix(line, "\n") {
			break // the rest is still being written
		}
		var j struct{ Msg, What, Address string }
		if m := listening.FindStringSubmatch(line); m != nil {
			found[m[1]+m[2]] = m[3]
		} else if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &j) == nil && j.Msg == "listening" {
			found[j.What] = j.Address
		}
	}
	return found, nil
}

// LogSize is how much a log has now, for Listening.
func LogSize(file string) int64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Size()
}
