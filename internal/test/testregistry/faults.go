package testregistry

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Kind is what goes wrong.
type Kind string

// The kinds of fault. Those marked * change the right answer, and do nothing to
// a request that the registry refuses.
const (
	Hang             Kind = "hang"               // no answer until the client gives up
	Drip             Kind = "drip"               // * the body comes a byte at a time, one every Delay
	Status           Kind = "status"             // Status, with RetryAfter where that is set
	Reset            Kind = "reset"              // the connection is reset before an answer
	WrongBody        Kind = "wrong-body"         // * the body is Body, or the right one with a bit flipped
	TruncatedBody    Kind = "truncated-body"     // * the connection ends in the middle of the body
	ShortBody        Kind = "short-body"         // * a well-formed answer of half the body
	LongBody         Kind = "long-body"          // * Size more bytes follow the body (default 1 MiB)
	EndlessBody      Kind = "endless-body"       // * bytes without end, without a Content-Length
	WrongContentType Kind = "wrong-content-type" // * the Content-Type is Value
	WrongDigest      Kind = "wrong-digest"       // * Docker-Content-Digest is Value, or another digest
	NoHeaders        Kind = "no-headers"         // * without digest, type and length
	Redirect         Kind = "redirect"           // 307 to Value; "" means the same path on the host Host
	Link             Kind = "link"               // * referrers: the Link header is Value
	SelfLink         Kind = "self-link"          // * referrers: the page names itself as the next one
	ManyReferrers    Kind = "many-referrers"     // referrers: Size invented descriptors of Value's type
	FalseFilter      Kind = "false-filter"       // referrers: unfiltered, but claims that it has filtered
	Custom           Kind = "custom"             // Handler answers
	Changed          Kind = "changed"            // Change is made to the right answer, an error too
)

// Fault makes requests fail. All its conditions must hold.
type Fault struct {
	Kind Kind
	// Class, Repo and Method select requests; their zero values select all.
	Class  Class
	Repo   string
	Method string
	// Target selects requests for one tag or digest.
	Target string
	// Match selects further, where it is set.
	Match func(*http.Request) bool
	// Skip lets the first requests pass that it would hit.
	Skip int
	// Times is how many requests it hits. 0 means all.
	Times int
	// Probability is how likely it hits a request. 0 means always.
	Probability float64

	Status     int           // Status: default 503
	RetryAfter string        // Status: the header Retry-After
	Delay      time.Duration // Drip: between two bytes, default 10 ms
	Size       int           // LongBody: bytes; ManyReferrers: descriptors, default 5000
	Value      string        // see the kinds
	Host       string        // Redirect, Link: scheme and host to put in front of the request's path
	Body       []byte        // WrongBody
	Handler    http.Handler  // Custom
	Change     func(*Answer) // Changed
}

// faults is the list of what goes wrong. Its zero value is empty.
type faults struct {
	mu   sync.Mutex
	list []*activeFault
	rand *rand.Rand
}

type activeFault struct {
	Fault
	skipped, hits int
}

// Inject makes requests fail from now on, and returns the way back. Of several
// faults that fit, the one injected first applies.
func (r *Registry) Inject(f Fault) (remove func()) {
	a := &activeFault{Fault: f}
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	r.faults.list = append(r.faults.list, a)
	return func() {
		r.faults.mu.Lock()
		defer r.faults.mu.Unlock()
		r.faults.list = slices.DeleteFunc(slices.Clone(r.faults.list), func(b *activeFault) bool { return a == b })
	}
}

// ClearFaults ends all faults. Requests that hang go on hanging.
func (r *Registry) ClearFaults() {
	r.faults.mu.Lock()
	defer r.faults.mu.Unlock()
	r.faults.list = nil
}

// pick finds the fault that hits a request.
func (fs *faults) pick(req *http.Request, e *Request) (Fault, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	for _, f := range fs.list {
		if f.Class != Any && f.Class != e.Class || f.Repo != "" && f.Repo != e.Repo || f.Method != "" && f.Method != req.Method ||
			f.Target != "" && f.Target != e.Target || f.Match != nil && !f.Match(req) || f.Times > 0 && f.hits >= f.Times {
			continue
		}
		if f.Probability > 0 && fs.chance() >= f.Probability {
			continue
		}
		if f.skipped < f.Skip {
			f.skipped++
			continue
		}
		f.hits++
		return f.Fault, true
	}
	return Fault{}, false
}

// chance is in [0, 1), the same sequence in each registry.
func (fs *faults) chance() float64 {
	if fs.rand == nil {
		fs.rand = rand.New(rand.NewPCG(1, 2))
	}
	return fs.rand.Float64()
}

// misbehave answers a request wrongly.
func (r *Registry) misbehave(w *loggingWriter, req *http.Request, e *Request, f Fault) {
	switch f.Kind {
	case Hang:
		_, _ = io.Copy(io.Discard, req.Body) // a gone client is noticed only after the body
		select {
		case <-req.Context().Done():
		case <-r.done:
		}
	case Status:
		if f.RetryAfter != "" {
			w.Header().Set("Retry-After", f.RetryAfter)
		}
		status := orInt(f.Status, http.StatusServiceUnavailable)
		writeError(w, status, "UNAVAILABLE", http.StatusText(status))
	case Reset:
		resetConnection(w)
	case Redirect:
		w.Header().Set("Location", f.location(req))
		w.WriteHeader(http.StatusTemporaryRedirect)
	case ManyReferrers:
		r.writePage(w, req.URL, inventReferrers(orInt(f.Size, 5000), f.Value), req.URL.Query(), "")
	case FalseFilter:
		w.Header().Set("OCI-Filters-Applied", "artifactType")
		d, _ := validDigest(e.Target)
		writeIndex(w, r.store.listReferrers(e.Repo, d, ""))
	case Custom:
		f.Handler.ServeHTTP(w, req)
	case Changed:
		r.change(w, req, e, f)
	default:
		r.distort(w, req, e, f)
	}
}

func (f Fault) location(req *http.Request) string {
	if f.Value != "" {
		return f.Value
	}
	return f.Host + req.URL.RequestURI()
}

// distort makes the right answer, and sends another.
func (r *Registry) distort(w *loggingWriter, req *http.Request, e *Request, f Fault) {
	rec := &recorder{header: http.Header{}, status: http.StatusOK}
	r.answer(rec, req, e)
	h, body := w.Header(), rec.body.Bytes()
	for k, v := range rec.header {
		h[k] = v
	}
	if rec.status >= http.StatusBadRequest {
		w.WriteHeader(rec.status)
		_, _ = w.Write(body)
		return
	}
	switch f.Kind {
	case WrongBody:
		body = f.wrong(body)
	case ShortBody:
		body = body[:len(body)/2]
	case LongBody:
		body = append(bytes.Clone(body), bytes.Repeat([]byte(" "), orInt(f.Size, 1<<20))...)
	case WrongContentType:
		h.Set("Content-Type", f.Value)
	case WrongDigest:
		value := f.Value
		if value == "" {
			value = digest.FromString("another").String()
		}
		h.Set("Docker-Content-Digest", value)
	case NoHeaders:
		h.Del("Docker-Content-Digest")
		h.Del("Content-Length")
		h["Content-Type"] = nil // or net/http guesses one
	case Link:
		value := f.Value
		if value == "" {
			value = fmt.Sprintf(`<%s>; rel="next"`, f.location(req))
		}
		h.Set("Link", value)
	case SelfLink:
		h.Set("Link", fmt.Sprintf(`<%s>; rel="next"`, req.URL.RequestURI()))
	}
	if h.Get("Content-Length") != "" && req.Method != http.MethodHead {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	switch f.Kind {
	case Drip:
		r.drip(w, req, rec.status, body, f)
	case EndlessBody:
		h.Del("Content-Length")
		w.WriteHeader(rec.status)
		chunk := bytes.Repeat([]byte(" "), 64<<10)
		for _, err := w.Write(body); err == nil; _, err = w.Write(chunk) {
		}
	case TruncatedBody:
		w.WriteHeader(rec.status)
		_, _ = w.Write(body[:len(body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	default:
		w.WriteHeader(rec.status)
		_, _ = w.Write(body)
	}
}

func (f Fault) wrong(body []byte) []byte {
	if f.Body != nil || len(body) == 0 {
		return f.Body
	}
	out := bytes.Clone(body)
	out[len(out)/2] ^= 1
	return out
}

func (r *Registry) drip(w *loggingWriter, req *http.Request, status int, body []byte, f Fault) {
	delay := f.Delay
	if delay <= 0 {
		delay = 10 * time.Millisecond
	}
	w.WriteHeader(status)
	flush := http.NewResponseController(w)
	for i := range body {
		if _, err := w.Write(body[i : i+1]); err != nil || flush.Flush() != nil || !r.wait(req, delay) {
			return
		}
	}
}

// resetConnection closes the connection without an answer: with a TCP reset where the
// protocol gives the connection away, by aborting the stream otherwise.
func resetConnection(w *loggingWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if c, ok := conn.(interface{ SetLinger(int) error }); ok {
		_ = c.SetLinger(0)
	}
	conn.Close()
}

// inventReferrers makes descriptors of manifests that do not exist.
func inventReferrers(n int, artifactType string) []ocispec.Descriptor {
	if artifactType == "" {
		artifactType = "application/vnd.cncf.notary.signature"
	}
	out := make([]ocispec.Descriptor, n)
	for i := range out {
		out[i] = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: artifactType,
			Digest: digest.FromString("invented " + strconv.Itoa(i)), Size: 700}
	}
	return out
}

func orInt(n, otherwise int) int {
	if n == 0 {
		return otherwise
	}
	return n
}

// Answer is an answer that a habit changes.
type Answer struct {
	Request *http.Request
	Target  string // the tag or digest at the path's end
	Status  int
	Header  http.Header
	Body    []byte
}

// change makes the right answer, and has it changed. The length that is stated is
// that of the body, unless the change set another one.
func (r *Registry) change(w *loggingWriter, req *http.Request, e *Request, f Fault) {
	rec := &recorder{header: http.Header{}, status: http.StatusOK}
	r.answer(rec, req, e)
	a := &Answer{Request: req, Target: e.Target, Status: rec.status, Header: rec.header, Body: rec.body.Bytes()}
	stated := a.Header.Get("Content-Length")
	f.Change(a)
	for k, v := range a.Header {
		w.Header()[k] = v
	}
	if req.Method != http.MethodHead && a.Header.Get("Content-Length") == stated {
		w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	}
	if a.Header.Get("Content-Type") == "" {
		w.Header()["Content-Type"] = nil // or net/http guesses one
	}
	w.WriteHeader(a.Status)
	if req.Method != http.MethodHead {
		_, _ = w.Write(a.Body)
	}
}

// recorder holds an answer back.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { return r.body.Write(b) }

// Scope is the token scope for pulling from a repository.
func Scope(repo string, actions ...string) string {
	if len(actions) == 0 {
		actions = []string{"pull"}
	}
	return "repository:" + repo + ":" + strings.Join(actions, ",")
}
