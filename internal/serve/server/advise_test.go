package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal/internal/admission"
)

// adviceOn asks for advice, and returns the status, whether the change goes on, and the
// warnings.
func adviceOn(t *testing.T, s *Server, body string) (status int, allowed bool, warnings []string) {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, PathAdvise+"?timeout=2s", strings.NewReader(body))
	s.Handler().ServeHTTP(w, r)
	var a struct {
		Response struct {
			UID      string
			Allowed  bool
			Warnings []string
		}
	}
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil || a.Response.UID != "u" {
			t.Errorf("%s, %v", w.Body, err)
		}
	}
	return w.Code, a.Response.Allowed, a.Response.Warnings
}

func changeReview(rest string) string {
	return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","object":{"kind":"Store"` + rest + `}}}`
}

// TestAdviceNeverBlocks: whatever happens, the change goes on.
func TestAdviceNeverBlocks(t *testing.T) {
	t.Parallel()
	says := func(texts ...string) func(context.Context, admission.Change, bool) []string {
		return func(context.Context, admission.Change, bool) []string { return texts }
	}
	many := make([]string, 20)
	for i := range many {
		many[i] = strings.Repeat("é\n", 1000)
	}
	for name, c := range map[string]struct {
		body   string
		advise func(context.Context, admission.Change, bool) []string
		told   int
	}{
		"a warning":         {changeReview(""), says("look"), 1},
		"nothing to say":    {changeReview(""), says(), 0},
		"nobody advises":    {changeReview(""), nil, 0},
		"too many, too big": {changeReview(""), says(many...), maxWarnings},
		"too large":         {changeReview(`,"x":"` + strings.Repeat("x", maxAdvised) + `"`), says("look"), 0},
		"half a review":     {changeReview("")[:100], says("look"), 0},
		"no object":         {strings.Replace(changeReview(""), `"object"`, `"oldObject"`, 1), says("look"), 0},
		"a fault":           {changeReview(""), func(context.Context, admission.Change, bool) []string { panic("fault") }, 0},
	} {
		s := New(Options{Metrics: NewMetrics(Sources{}), Advise: c.advise})
		status, allowed, warnings := adviceOn(t, s, c.body)
		if status != http.StatusOK || !allowed || len(warnings) != c.told {
			t.Errorf("%s: %d, %t, %q", name, status, allowed, warnings)
		}
		total := 0
		for _, w := range warnings {
			total += len(w)
			if strings.Contains(w, "\n") {
				t.Errorf("%s: %q", name, w)
			}
		}
		if total > 4096 {
			t.Errorf("%s: %d bytes are cut by the API server", name, total)
		}
	}
	s := New(Options{Metrics: NewMetrics(Sources{})})
	if status, _, _ := adviceOn(t, s, "no review"); status != http.StatusBadRequest {
		t.Errorf("%d", status)
	}
}

// TestAdviceTakesNothingOfWhatPodsNeed: with as many changes under way as there may be,
// a further one goes on without warnings, and what judging Pods has is untouched.
func TestAdviceTakesNothingOfWhatPodsNeed(t *testing.T) {
	t.Parallel()
	begun, end := make(chan time.Duration, maxAdvising), make(chan struct{})
	s := New(Options{Metrics: NewMetrics(Sources{}), Advise: func(ctx context.Context, _ admission.Change, proven bool) []string {
		deadline, _ := ctx.Deadline()
		begun <- time.Until(deadline)
		<-end
		return []string{fmt.Sprint(proven)}
	}})
	answered := make(chan string, maxAdvising)
	for range maxAdvising {
		go func() {
			_, _, warnings := adviceOn(t, s, changeReview(""))
			answered <- fmt.Sprint(warnings)
		}()
	}
	for range maxAdvising {
		if left := <-begun; left > adviceTime {
			t.Errorf("%s for advice", left)
		}
	}
	if held := s.room.held(); held != 0 || s.advice.held() == 0 {
		t.Errorf("%d bytes of the room for Pods", held)
	}
	if status, allowed, warnings := adviceOn(t, s, changeReview("")); status != http.StatusOK || !allowed || len(warnings) > 0 {
		t.Errorf("one more: %d, %t, %q", status, allowed, warnings)
	}
	close(end)
	for range maxAdvising {
		if got := <-answered; got != "[false]" {
			t.Errorf("%s", got)
		}
	}
	if s.advice.held() != 0 {
		t.Error("something of the room is lost")
	}
}

type closedGate struct{}

func (closedGate) Check(*tls.ConnectionState) error { return errors.New("no certificate") }

// TestAdviceIsForWhoMayAsk: where the API server shows a certificate, nobody else is
// told anything.
func TestAdviceIsForWhoMayAsk(t *testing.T) {
	t.Parallel()
	asked := false
	s := New(Options{Metrics: NewMetrics(Sources{}), Webhook: closedGate{}, Advise: func(context.Context, admission.Change, bool) []string {
		asked = true
		return []string{"look"}
	}})
	if status, allowed, warnings := adviceOn(t, s, changeReview("")); status != http.StatusOK || !allowed || len(warnings) > 0 || asked {
		t.Errorf("%d, %t, %q, asked %t", status, allowed, warnings, asked)
	}
}
