package testregistry

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// DefaultMaxLog is how many requests are logged in full.
const DefaultMaxLog = 100_000

// Class is what a request is about, by its path.
type Class string

// The classes.
const (
	Any       Class = "" // in a Fault: every class
	Ping      Class = "ping"
	Manifest  Class = "manifest"
	Referrers Class = "referrers"
	Blob      Class = "blob"
	Upload    Class = "upload"
	Tags      Class = "tags"
	Token     Class = "token"
	Other     Class = "other"
)

// Request is one request that was received.
type Request struct {
	Method, Path, Query string
	Class               Class
	Repo                string // "" where the path names none
	Target              string // the tag or digest at the path's end
	Status              int    // 0 where no answer was sent
	Fault               Kind   // what was made to fail, "" for nothing
	Authorized          bool   // a valid token or password came with it
	Credentials         bool   // an Authorization header came with it
	Start, End          time.Time
	// Begun and Ended order the beginnings and the ends of all requests: they
	// are numbers without gaps, each used once. Ended is 0 while it runs.
	Begun, Ended uint64
}

// classifyPath reads a path of the distribution API.
func classifyPath(path string) (c Class, repo, target string) {
	if path == "/v2" || path == "/v2/" {
		return Ping, "", ""
	}
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok {
		if path == tokenPath {
			return Token, "", ""
		}
		return Other, "", ""
	}
	if r, _, ok := strings.Cut(rest, "/blobs/uploads"); ok {
		return Upload, r, ""
	}
	if r, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return Tags, r, ""
	}
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return Other, "", ""
	}
	rest, target = rest[:i], rest[i+1:]
	for suffix, c := range map[string]Class{"/manifests": Manifest, "/blobs": Blob, "/referrers": Referrers} {
		if r, ok := strings.CutSuffix(rest, suffix); ok {
			return c, r, target
		}
	}
	return Other, "", ""
}

// requestLog keeps requests. Its zero value is ready.
type requestLog struct {
	max int // as in Options.MaxLog

	mu       sync.Mutex
	order    uint64
	entries  []*Request
	counts   map[countKey]int
	running  int
	maxAtAll int
}

type countKey struct {
	class  Class
	method string
}

func (l *requestLog) begin(req *http.Request) *Request {
	class, repo, target := classifyPath(req.URL.Path)
	e := &Request{Method: req.Method, Path: req.URL.Path, Query: req.URL.RawQuery, Class: class, Repo: repo, Target: target,
		Credentials: req.Header.Get("Authorization") != "", Start: time.Now()}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.order++
	e.Begun = l.order
	if l.counts == nil {
		l.counts = map[countKey]int{}
	}
	l.counts[countKey{class, req.Method}]++
	l.running++
	l.maxAtAll = max(l.maxAtAll, l.running)
	limit := l.max
	if limit == 0 {
		limit = DefaultMaxLog
	}
	if len(l.entries) < limit {
		l.entries = append(l.entries, e)
	}
	return e
}

// end notes the end of a request. It comes before the last byte of the answer
// leaves, so that what a client does next begins after it.
func (l *requestLog) end(e *Request, set func(*Request)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if set != nil {
		set(e)
	}
	if e.Ended != 0 {
		return
	}
	l.order++
	e.Ended, e.End = l.order, time.Now()
	l.running--
}

// Requests is a copy of the log, in the order of arrival. A filter keeps the
// requests of one class; none keeps all.
func (r *Registry) Requests(classes ...Class) []Request {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	out := make([]Request, 0, len(r.log.entries))
	for _, e := range r.log.entries {
		if len(classes) == 0 || slices.Contains(classes, e.Class) {
			out = append(out, *e)
		}
	}
	return out
}

// Count is how many requests of a class came since the start or the last
// [Registry.ResetLog], by any of the methods; no method means all. Any counts
// all classes.
func (r *Registry) Count(class Class, methods ...string) int {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	n := 0
	for k, v := range r.log.counts {
		if (class == Any || k.class == class) && (len(methods) == 0 || slices.Contains(methods, k.method)) {
			n += v
		}
	}
	return n
}

// MaxConcurrent is the largest number of requests that ran at one time.
func (r *Registry) MaxConcurrent() int {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	return r.log.maxAtAll
}

// ResetLog forgets the requests so far.
func (r *Registry) ResetLog() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.log.entries, r.log.counts, r.log.maxAtAll = nil, nil, r.log.running
}

// SerialDepth is the number of serial round trips that the requests amount to:
// the largest number of them of which each began after the one before had ended.
func SerialDepth(requests []Request) int {
	done := slices.DeleteFunc(slices.Clone(requests), func(r Request) bool { return r.Ended == 0 })
	slices.SortFunc(done, func(a, b Request) int { return int(int64(a.Ended) - int64(b.Ended)) })
	depth, last := 0, uint64(0)
	for _, r := range done {
		if r.Begun > last {
			depth, last = depth+1, r.Ended
		}
	}
	return depth
}

// validDigest reports whether a path's end is a digest.
func validDigest(s string) (digest.Digest, bool) {
	d, err := digest.Parse(s)
	return d, err == nil
}

// note changes an entry.
func (l *requestLog) note(e *Request, set func(*Request)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set(e)
}
