package service_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testhouse"
)

// TestLabelsAreBounded: whatever callers ask, the number of series stays, and no
// value of a label is theirs.
func TestLabelsAreBounded(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	signed, _ := r.Signed("v", r.Signer)
	const theirs = "chosen-by-a-caller"
	abuse := func(from, to int) {
		for i := from; i < to; i++ {
			name := fmt.Sprint(theirs, i)
			r.gatekeeper(server.PathVerify, signed, r.Registry.Ref("team/"+name, name), "["+name+"]"+signed, name+"/UPPER")
			q := pod(name, signed, r.Registry.Ref("team/app", name))
			q.Name, q.UserInfo.Username = name, name
			r.review(server.PathValidate, q)
			q.Kind.Kind = name
			r.review(server.PathValidate, q)
			r.post("/"+name, nil)
			r.post(server.PathPin+"?timeout="+name, []byte(name))
			req := testhouse.Need(http.NewRequestWithContext(t.Context(), strings.ToUpper(name), r.base+server.PathVerify, nil))(t)
			resp := testhouse.Need(r.client.Do(req))(t)
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	}
	series := func() (n int) {
		_, text := r.get(r.scrape + "/metrics")
		if strings.Contains(text, theirs) || strings.Contains(text, r.Registry.Host) {
			t.Errorf("a label is a caller's: %s", text)
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "boltseal_") {
				n++
			}
		}
		return n
	}
	abuse(0, 3)
	before := series()
	abuse(3, 40)
	if after := series(); after != before || before == 0 || before > 300 {
		t.Errorf("%d series, %d before", after, before)
	}
}

// TestABrokenReloadIsTold in the log, in a metric and where the readiness is told;
// what served before serves on.
func TestABrokenReloadIsTold(t *testing.T) {
	t.Parallel()
	log := &lockedBuffer{}
	r := start(t, testhouse.Options{}, service.Options{Log: slog.New(slog.NewTextHandler(log, nil))}, policy("prod", ""))
	tag, _ := r.Signed("v", r.Signer)
	good := config(r.Signer.Root().PEM(), policy("prod", ""))
	const failures = `boltseal_reloads_total{outcome="failure",what="config"}`
	for i, broken := range []string{"{", "kind: Nonsense\n", strings.Replace(good, "name: oras", "name: orass", 1), ""} {
		r.write(broken)
		eventually(t, fmt.Sprintf("failure %d is counted", i), func() bool { return r.metric(failures) == fmt.Sprint(i+1) })
		if r.metric("boltseal_config_last_load_successful") != "0" || r.metric("boltseal_config_generation") != "1" {
			t.Errorf("%q: the gauges say otherwise", broken)
		}
		if status, text := r.ready(); status != 200 || !strings.Contains(text, "[-] the present configuration does not apply: ") || !strings.Contains(text, "generation 1") {
			t.Errorf("%q: HTTP %d: %s", broken, status, text)
		}
		if got := strings.Count(log.String(), "the last good one goes on serving"); got != i+1 {
			t.Errorf("%q: logged %d times", broken, got)
		}
		if !r.validate("team", tag).Allowed || !r.gatekeeper(server.PathVerify, tag)[0].trusted() {
			t.Errorf("%q ended the last good configuration", broken)
		}
	}
	if err := os.Remove(r.file); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a file that is gone is counted", func() bool { return r.metric(failures) == "5" })
	if !r.validate("team", tag).Allowed {
		t.Error("a file that is gone ended the last good configuration")
	}
	r.write(good + "# mended\n")
	eventually(t, "mended", func() bool { return r.metric("boltseal_config_last_load_successful") == "1" })
	if _, text := r.ready(); strings.Contains(text, "[-]") {
		t.Errorf("after mending: %s", text)
	}
}
