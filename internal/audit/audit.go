// Package audit writes one line for every decision and one for all evidence behind it, and reads them back.
package audit

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/policy"
)

// Kinds of lines.
const (
	KindDecision = "decision"
	KindEvidence = "evidence"
)

// Excluded is the decision about an image that every policy passes over.
const Excluded = "excluded"

// Evidence is what was found about one image, in a form that can be decided again.
type Evidence struct {
	Kind   string          `json:"kind"` // KindEvidence
	ID     string          `json:"id"`
	Time   time.Time       `json:"time"`
	Result boltseal.Result `json:"result"`
	// Policy is what decided; nil where nothing got as far as that.
	Policy *policy.Options `json:"policy,omitempty"`
}

// Decision is one answer to one request.
type Decision struct {
	Kind       string        `json:"kind"` // KindDecision
	ID         string        `json:"id"`
	Time       time.Time     `json:"time"`
	Source     string        `json:"source"`   // "admission" or "gatekeeper"
	Decision   string        `json:"decision"` // of an image: its Verdict; of an admission request: "allowed" or "denied", with what else
	Took       time.Duration `json:"tookNanoseconds"`
	Generation uint64        `json:"generation"` // of the configuration
	// TraceID is the id of the trace that the request was a part of, in hexadecimal
	// digits; "" where it was none.
	TraceID string `json:"traceID,omitempty"`
	// Spent is where the time went, nil where that is not known.
	Spent    *Spent   `json:"spentNanoseconds,omitempty"`
	Request  *Request `json:"request,omitempty"`
	Policies []string `json:"policies,omitempty"` // those that matched, with their action
	Images   []Image  `json:"images"`
	// Omitted is how many images are not in Images, for the line would be too long.
	Omitted int `json:"imagesOmitted,omitempty"`
}

// Request is what was asked to be admitted.
type Request struct {
	UID       string `json:"uid"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Operation string `json:"operation"`
	User      string `json:"user,omitempty"`
	DryRun    bool   `json:"dryRun,omitempty"`
}

// Image is one image of a request.
type Image struct {
	Image     string `json:"image"`
	Container string `json:"container,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	// Digest is what was judged. It is left out where Image ends with it, which
	// most do and which would be a third of the log.
	Digest string `json:"digest,omitempty"`
	Verdict
	// LastGood is when the registry last answered, where that had to do.
	LastGood string `json:"lastKnownGood,omitempty"`
	// Unpinned is set where it is trusted, and a policy demands its digest in place of
	// the tag that a Pod names it by.
	Unpinned bool `json:"unpinned,omitempty"`
	// Exempt are the policies that it does not satisfy and the exemptions that let it
	// pass, each as POLICY/EXEMPTION and until when.
	Exempt []string `json:"exempt,omitempty"`
	// Spent is where the time of its verification went, nil where none was waited for.
	Spent *ImageSpent `json:"spentNanoseconds,omitempty"`
	// Encoded is the Verdict as EncodeVerdict wrote it. It is what is written,
	// where it is set.
	Encoded []byte `json:"-"`
}

// Verdict is what was found about an image.
type Verdict struct {
	Decision string   `json:"decision"` // "trusted", "not trusted", "unknown" or "excluded"
	Cause    string   `json:"cause,omitempty"`
	Message  string   `json:"message,omitempty"`
	Evidence string   `json:"evidence,omitempty"` // ID of the line with the evidence
	Inline   Recorded `json:"record,omitempty"`   // the evidence itself, where the image was not allowed
}

// Recorded is an encoded Evidence.
type Recorded = json.RawMessage

// EncodeVerdict encodes members to stand in an Image. evidence is the line that
// EncodeEvidence wrote.
func EncodeVerdict(id string, r *boltseal.Result, evidence []byte) []byte {
	v := Verdict{Decision: r.Decision.String(), Evidence: id}
	if r.Decision != boltseal.Allow {
		v.Cause, v.Message, v.Inline = string(r.Reason.Cause), r.Reason.Message, evidence
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil
	}
	return bytes.Clone(bytes.TrimSuffix(bytes.TrimPrefix(b, []byte("{")), []byte("}")))
}

// NewID returns a fresh name for a decision or for evidence: 16 hexadecimal digits.
func NewID() string {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

// EncodeEvidence encodes what an engine found, as one line without its end.
func EncodeEvidence(id string, now time.Time, e *boltseal.Engine, r *boltseal.Result) []byte {
	ev := Evidence{Kind: KindEvidence, ID: id, Time: now.UTC(), Result: *r}
	if e != nil {
		if o, ok := policy.OptionsOf(e.Policy()); ok {
			ev.Policy = &o
		}
	}
	return AppendEvidence(make([]byte, 0, 2048), &ev)
}

// DefaultQueueBytes is how much a Log keeps that its writer has not taken yet.
const DefaultQueueBytes = 4 << 20

// Log writes lines in the background, so that no request waits for it. What
// its writer cannot take in time is counted and dropped.
type Log struct {
	w       io.Writer
	most    int
	lines   sync.Pool // of *[]byte
	mu      sync.Mutex
	pending []byte
	spare   []byte
	wake    chan struct{}
	done    chan struct{}
	closed  bool
	dropped atomic.Uint64
}

// NewLog makes a Log of at most queueBytes in memory; 0 means DefaultQueueBytes.
// A nil writer discards everything.
func NewLog(w io.Writer, queueBytes int) *Log {
	if queueBytes <= 0 {
		queueBytes = DefaultQueueBytes
	}
	l := &Log{w: w, most: queueBytes, wake: make(chan struct{}, 1), done: make(chan struct{})}
	if w == nil {
		l.closed = true
		close(l.done)
		return l
	}
	go l.run()
	return l
}

// Enabled reports whether lines go anywhere.
func (l *Log) Enabled() bool { return l.w != nil }

// Dropped counts the lines that the writer was too slow for.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Decision writes a line.
func (l *Log) Decision(d *Decision) {
	if l.w == nil {
		return
	}
	// It is encoded before the lock is taken: a line about a thousand images takes its
	// time, and others wait to add theirs.
	b, _ := l.lines.Get().(*[]byte)
	if b == nil {
		b = new([]byte)
	}
	*b = AppendDecision((*b)[:0], d)
	l.add(l.most, *b)
	if cap(*b) <= maxPooledLine {
		l.lines.Put(b)
	}
}

// maxPooledLine is the largest buffer that is kept for the next line.
const maxPooledLine = 64 << 10

// Line writes an encoded line. It leaves half of the queue to decisions.
func (l *Log) Line(b []byte) {
	l.add(l.most/2, b)
}

func (l *Log) add(most int, line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if len(l.pending)+len(line)+1 > most {
		l.dropped.Add(1)
		return
	}
	l.pending = append(append(l.pending, line...), '\n')
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Close writes what is pending.
func (l *Log) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.wake)
	}
	l.mu.Unlock()
	<-l.done
}

// gather is how long lines are gathered for one write.
const gather = 5 * time.Millisecond

func (l *Log) run() {
	defer close(l.done)
	for range l.wake {
		time.Sleep(gather)
		l.flush()
	}
	l.flush()
}

func (l *Log) flush() {
	l.mu.Lock()
	b := l.pending
	l.pending, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	if len(b) > 0 {
		_, _ = l.w.Write(b) // there is nobody to tell but the log that failed
	}
	const keep = 1 << 20 // a burst's buffer is given back
	if cap(b) <= keep {
		l.mu.Lock()
		l.spare = b
		l.mu.Unlock()
	}
}
