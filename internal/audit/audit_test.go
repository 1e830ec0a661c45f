package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/audit"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/policy"
)

func record(e *boltseal.Engine, r boltseal.Result) (id string, line []byte) {
	id = audit.NewID()
	return id, audit.EncodeEvidence(id, time.Now(), e, &r)
}

func TestReplay(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	all := h.EngineOf(t, testhouse.Options{Rule: policy.All})
	signed, _ := h.Signed("signed", h.Signer)
	twice, _ := h.Signed("twice", h.Signer, h.Signer)
	stranger, _ := h.Signed("stranger", h.Stranger)
	strangers, _ := h.Signed("strangers", h.Stranger, h.Stranger)
	unsigned, _ := h.Signed("unsigned")
	for _, tt := range []struct {
		name, image string
		engine      *boltseal.Engine
		want        boltseal.Decision
		changes     int
		says        string
	}{
		{"allowed by one", signed, h.Engine, boltseal.Allow, 1, "without the signature sha256:"},
		{"all of two", twice, all, boltseal.Allow, 2, "without the signature"},
		{"a stranger's", stranger, h.Engine, boltseal.Deny, 1, "were trusted; it is not: "},
		{"two strangers', one suffices", strangers, h.Engine, boltseal.Deny, 2, "were trusted"},
		{"nothing", unsigned, h.Engine, boltseal.Deny, 1, "nothing signed"},
		{"not there", h.Registry.Ref(testhouse.Repo, "gone"), h.Engine, boltseal.Deny, 1, "can be checked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := testhouse.Need(tt.engine.Verify(t.Context(), tt.image))(t)
			id, line := record(tt.engine, r)
			c := testhouse.Need(audit.Find(bytes.NewReader(line), id))(t)
			re := testhouse.Need(c.Evidence[id].Replay())(t)
			if !re.Agrees || re.Decision != tt.want || len(re.Changes) != tt.changes {
				t.Fatalf("%+v", re)
			}
			for _, ch := range re.Changes {
				if !strings.Contains(ch.What, tt.says) || (tt.want == boltseal.Deny && ch.How == "") {
					t.Errorf("%+v, want %q", ch, tt.says)
				}
			}
		})
	}
}

// TestReplayOfAForgedRecord: a record that says "allow" on evidence that does
// not support it does not agree.
func TestReplayOfAForgedRecord(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	image, _ := h.Signed("stranger", h.Stranger)
	r := h.Verify(t, image)
	r.Decision = boltseal.Allow
	id, line := record(h.Engine, r)
	c := testhouse.Need(audit.Find(bytes.NewReader(line), id))(t)
	if re, err := c.Evidence[id].Replay(); err != nil || re.Agrees || re.Decision != boltseal.Deny {
		t.Errorf("%+v, %v", re, err)
	}
}

func verdict(t *testing.T, id string, allow bool, record []byte) []byte {
	t.Helper()
	r := boltseal.Result{Reason: boltseal.Reason{Cause: boltseal.CauseNothingSigned, Message: "nothing signed"}}
	if allow {
		r = boltseal.Result{Decision: boltseal.Allow}
	}
	return audit.EncodeVerdict(id, &r, record)
}

// TestAppendDecision: the line reads back as what it was made of.
func TestAppendDecision(t *testing.T) {
	t.Parallel()
	r := boltseal.Result{Reason: boltseal.Reason{Cause: boltseal.CauseNothingSigned, Message: `say "no"`}}
	d := audit.Decision{Kind: audit.KindDecision, ID: "x", Time: time.Now().UTC(), Source: "admission", Decision: "denied", Took: 5, Generation: 2,
		TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", Spent: &audit.Spent{Body: time.Second, Images: 2 * time.Second},
		Request: &audit.Request{UID: "u", Kind: "Pod", Operation: "CREATE", User: `a"b`, DryRun: true}, Policies: []string{"p=deny", "q=warn"},
		Images: []audit.Image{{Image: "a", Container: "c", Namespace: "n", Verdict: audit.Verdict{Decision: "excluded", Message: "m"}},
			{Image: "b", LastGood: "2026-11-23T00:00:00Z", Unpinned: true, Encoded: audit.EncodeVerdict("ev", &r, []byte(`{"id":"ev"}`)),
				Spent: &audit.ImageSpent{Waited: time.Second, Joined: true, Token: time.Second, RegistryQueue: time.Millisecond, Slowest: &audit.SlowRequest{Host: `r"x`, Took: time.Second, Status: 429}}}}}
	b := audit.AppendDecision(nil, &d)
	var got audit.Decision
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	d.Images[1].Verdict, d.Images[1].Encoded = audit.Verdict{Decision: "not trusted", Cause: "nothing-signed", Message: `say "no"`, Evidence: "ev", Inline: []byte(`{"id":"ev"}`)}, nil
	if !reflect.DeepEqual(got, d) {
		t.Errorf("got %+v\nwant %+v", got, d)
	}
	quick := audit.Decision{Spent: &audit.Spent{Body: 999 * time.Microsecond}, Images: []audit.Image{{Image: "a", Spent: &audit.ImageSpent{Waited: 999 * time.Microsecond, Joined: true}}}}
	if b := audit.AppendDecision(nil, &quick); strings.Contains(string(b), "spent") {
		t.Errorf("what took no time is written: %s", b)
	}
	if b := audit.AppendDecision(nil, &audit.Decision{Images: []audit.Image{{Image: "not UTF-8 \xff"}}}); !json.Valid(b) {
		t.Errorf("%s", b)
	}
}

// TestNoDecisionIsTooLongToRecord: whoever asks for very much cannot keep that
// out of the log.
func TestNoDecisionIsTooLongToRecord(t *testing.T) {
	t.Parallel()
	var file bytes.Buffer
	l := audit.NewLog(&file, 0)
	d := audit.Decision{ID: "d", Decision: "not trusted", Images: make([]audit.Image, 10_000)}
	for i := range d.Images {
		d.Images[i].Image, d.Images[i].Verdict.Decision = strings.Repeat("\u00e9", 400), "deny"
	}
	l.Decision(&d)
	d.ID, d.Images = "e", d.Images[:1]
	d.Images[0].Image = strings.Repeat("é", 4<<20)
	l.Decision(&d)
	l.Close()
	if l.Dropped() != 0 {
		t.Fatal("dropped")
	}
	c := testhouse.Need(audit.Find(bytes.NewReader(file.Bytes()), "d"))(t)
	if n := len(c.Decision.Images); n < 100 || n+c.Decision.Omitted != 10_000 {
		t.Errorf("%d images, %d omitted", n, c.Decision.Omitted)
	}
	c = testhouse.Need(audit.Find(bytes.NewReader(file.Bytes()), "e"))(t)
	if n := len(c.Decision.Images[0].Image); n > 1100 || !strings.HasSuffix(c.Decision.Images[0].Image, "é…") {
		t.Errorf("an image of %d bytes", n)
	}
}

// TestDigestIsWrittenOnce: where the image's text has it already it is not written
// again, and it is read back all the same.
func TestDigestIsWrittenOnce(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0", 64)
	var file bytes.Buffer
	l := audit.NewLog(&file, 0)
	allow := verdict(t, "ev", true, nil)
	l.Decision(&audit.Decision{ID: "d", Images: []audit.Image{{Image: "r/a@" + digest, Digest: digest, Encoded: allow}, {Image: "r/a:v", Digest: digest, Encoded: allow},
		{Image: "r/a:w", Encoded: allow}, {Image: "r/a@" + digest, Verdict: audit.Verdict{Decision: audit.Excluded}}}})
	l.Close()
	if n := strings.Count(file.String(), `"digest":"`+digest+`"`); n != 1 {
		t.Errorf("written %d times: %s", n, file.String())
	}
	c := testhouse.Need(audit.Find(bytes.NewReader(file.Bytes()), "d"))(t)
	for i, want := range []string{digest, digest, "", ""} {
		if got := c.Decision.Images[i].Digest; got != want {
			t.Errorf("%d: %q", i, got)
		}
	}
}

// TestAppendEvidence: the line is what encoding/json writes.
func TestAppendEvidence(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	all := h.EngineOf(t, testhouse.Options{Rule: policy.All, ByType: map[string]policy.Rule{"x<y": policy.Any}})
	signed, pinned := h.Signed("signed", h.Signer, h.Stranger, h.Signer)
	unsigned, _ := h.Signed("unsigned")
	for _, e := range []*boltseal.Engine{h.Engine, all} {
		for _, image := range []string{signed, pinned, unsigned, h.Registry.Ref(testhouse.Repo, "gone")} {
			r := testhouse.Need(e.Verify(t.Context(), image))(t)
			compareEvidence(t, e, r)
			r.Incomplete = boltseal.Reason{Cause: boltseal.CauseUnavailable, Message: "a \"page\"", Remedy: "ask"}
			r.Truncated, r.Image, r.Subject.ArtifactType = "cut \"short\" <&>", "é\xff\u2028", "a/b"
			for i := range r.Evidence {
				ev := &r.Evidence[i]
				ev.TimestampAt, ev.Expiry, ev.Reason.Remedy = time.Now(), time.Now().UTC(), "do"
				ev.Signer, ev.Checks = nil, append(ev.Checks, boltseal.Check{Name: "a", Detail: "b\n"})
			}
			compareEvidence(t, e, r)
		}
	}
	compareEvidence(t, nil, boltseal.Result{})
}

func compareEvidence(t *testing.T, e *boltseal.Engine, r boltseal.Result) {
	t.Helper()
	now := time.Now().UTC()
	want := audit.Evidence{Kind: audit.KindEvidence, ID: "i", Time: now, Result: r}
	if e != nil {
		o, _ := policy.OptionsOf(e.Policy())
		want.Policy = &o
	}
	w := testhouse.Need(json.Marshal(want))(t)
	if got := audit.EncodeEvidence("i", now, e, &r); string(got) != string(w) {
		t.Errorf("got  %s\nwant %s", got, w)
	}
}

func BenchmarkEncodeEvidence(b *testing.B) {
	h := testhouse.New(b, testhouse.Options{})
	image, _ := h.Signed("v", h.Signer)
	r := h.Verify(b, image)
	for b.Loop() {
		audit.EncodeEvidence("0123456789abcdef", r.CollectedAt, h.Engine, &r)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	image, _ := h.Signed("v", h.Signer)
	evID, ev := record(h.Engine, h.Verify(t, image))
	denied, _ := h.Signed("none")
	inlineID, inline := record(h.Engine, h.Verify(t, denied))
	var file bytes.Buffer
	file.WriteString("2026/11/23 something else\n{\"level\":\"info\"}\n")
	file.Write(append(ev, '\n'))
	l := audit.NewLog(&file, 0)
	l.Decision(&audit.Decision{ID: "d1", Decision: "trusted", Images: []audit.Image{{Image: image, Encoded: verdict(t, evID, true, nil)}}})
	l.Decision(&audit.Decision{ID: "d2", Decision: "not trusted", Images: []audit.Image{{Image: denied, Encoded: verdict(t, inlineID, false, inline)}, {Image: image, Encoded: verdict(t, "rotated away", true, nil)}}})
	l.Close()
	for id, want := range map[string]string{"d1": evID, "d2": inlineID, evID: evID, "": inlineID} {
		c, err := audit.Find(bytes.NewReader(file.Bytes()), id)
		if err != nil || len(c.Evidence) != 1 || c.Evidence[want] == nil {
			t.Errorf("Find(%q) = %+v, %v", id, c, err)
		}
	}
	if _, err := audit.Find(bytes.NewReader(file.Bytes()), "other"); !errors.Is(err, audit.ErrNotFound) {
		t.Errorf("an ID that is not there: %v", err)
	}
}

// slow takes nothing until it is let go.
type slow struct {
	let chan struct{}
	got bytes.Buffer
}

func (s *slow) Write(b []byte) (int, error) {
	<-s.let
	return s.got.Write(b)
}

func TestASlowWriterHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	w := &slow{let: make(chan struct{})}
	l := audit.NewLog(w, 1000)
	for range 100 {
		l.Line(bytes.Repeat([]byte{'x'}, 99))
	}
	dropped := l.Dropped()
	if dropped < 80 {
		t.Errorf("%d lines dropped", dropped)
	}
	l.Decision(&audit.Decision{ID: "there is room for decisions still"})
	close(w.let)
	l.Close()
	l.Line([]byte("late"))
	if got := bytes.Count(w.got.Bytes(), []byte{'\n'}); uint64(got)+l.Dropped() != 101 || l.Dropped() != dropped || !strings.Contains(w.got.String(), "room for decisions") {
		t.Errorf("%d written, %d dropped", got, l.Dropped())
	}
	audit.NewLog(nil, 0).Close()
}

func TestUnknownIsExplainedByWhatWasInTheWay(t *testing.T) {
	t.Parallel()
	h := testhouse.New(t, testhouse.Options{})
	image, _ := h.Signed("v", h.Signer)
	h.Registry.Inject(testregistry.Fault{Kind: testregistry.Status, Status: 503, Class: testregistry.Blob})
	r := h.Verify(t, image)
	id, line := record(h.Engine, r)
	re := testhouse.Need(testhouse.Need(audit.Find(bytes.NewReader(line), id))(t).Evidence[id].Replay())(t)
	if !re.Agrees || re.Decision != boltseal.Unknown || len(re.Changes) != 1 || !strings.Contains(re.Changes[0].What, "503") {
		t.Errorf("%+v", re)
	}
}

func FuzzFind(f *testing.F) {
	f.Add([]byte(`{"kind":"evidence","id":"a","result":{"decision":"not trusted"}}`), "a")
	f.Add([]byte(`{"kind":"decision","id":"d","images":[{"image":"x","evidence":"a"}]}`), "d")
	f.Fuzz(func(t *testing.T, b []byte, id string) {
		c, err := audit.Find(bytes.NewReader(b), id)
		if err != nil {
			return
		}
		for _, ev := range c.Evidence {
			re, err := ev.Replay()
			if err == nil && re.Decision == boltseal.Allow && ev.Policy == nil && re.Agrees {
				t.Error("an allow that no policy has given")
			}
		}
	})
}
