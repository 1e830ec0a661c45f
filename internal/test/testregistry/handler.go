package testregistry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// handle is the way of every request: log, delay, fault, authorization, content.
func (r *Registry) handle(w http.ResponseWriter, req *http.Request) {
	e := r.log.begin(req)
	lw := &loggingWriter{ResponseWriter: w, log: &r.log, entry: e}
	defer r.log.end(e, nil)
	if d := time.Duration(r.latency.Load()); d > 0 && !r.wait(req, d) {
		return
	}
	f, ok := r.faults.pick(req, e)
	if !ok {
		r.answer(lw, req, e)
		return
	}
	r.log.note(e, func(e *Request) { e.Fault = f.Kind })
	r.misbehave(lw, req, e, f)
}

// wait delays a request; false means that it, or the registry, is over.
func (r *Registry) wait(req *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-req.Context().Done():
	case <-r.done:
	}
	return false
}

// answer is the right answer to a request.
func (r *Registry) answer(w http.ResponseWriter, req *http.Request, e *Request) {
	if e.Class == Token && r.auth.onSameHost() {
		r.auth.issue(w, req)
		return
	}
	ok := r.auth.check(w, req, e)
	r.log.note(e, func(e *Request) { e.Authorized = ok })
	if !ok {
		return
	}
	if e.Class == Referrers && req.Method == http.MethodGet && !r.opts.NoReferrersAPI {
		r.serveReferrers(w, req, e)
		return
	}
	r.content.ServeHTTP(w, req)
}

// serveReferrers answers with one page (OCI distribution-spec 1.1, "Listing
// Referrers").
func (r *Registry) serveReferrers(w http.ResponseWriter, req *http.Request, e *Request) {
	subject, ok := validDigest(e.Target)
	if !ok {
		writeError(w, http.StatusBadRequest, "DIGEST_INVALID", "not a digest")
		return
	}
	q := req.URL.Query()
	filter := q.Get("artifactType")
	if r.opts.NoReferrersFilter {
		filter = ""
	}
	r.writePage(w, req.URL, r.store.listReferrers(e.Repo, subject, filter), q, filter)
}

func (r *Registry) writePage(w http.ResponseWriter, u *url.URL, list []ocispec.Descriptor, q url.Values, filter string) {
	if size := r.opts.PageSize; size > 0 {
		page, _ := strconv.Atoi(q.Get("page")) // absent or odd: the first one
		from := min(max(page, 0)*size, len(list))
		to := min(from+size, len(list))
		if to < len(list) {
			q.Set("page", strconv.Itoa(page+1))
			w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, u.Path, q.Encode()))
		}
		list = list[from:to]
	}
	if filter != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	writeIndex(w, list)
}

func writeIndex(w http.ResponseWriter, list []ocispec.Descriptor) {
	body, err := encodeIndex(list)
	if err != nil {
		writeError(w, http.StatusInternalServerError, "UNKNOWN", err.Error())
		return
	}
	w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write(body)
}

func encodeIndex(list []ocispec.Descriptor) ([]byte, error) {
	if list == nil {
		list = []ocispec.Descriptor{}
	}
	return json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: list})
}

// writeError answers in the form of the distribution-spec.
func writeError(w http.ResponseWriter, status int, code, message string) {
	type item struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body, _ := json.Marshal(struct { // strings always encode
		Errors []item `json:"errors"`
	}{[]item{{code, message}}})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// loggingWriter ends a request in the log before its last byte can reach the
// client: when its first byte leaves.
type loggingWriter struct {
	http.ResponseWriter
	log    *requestLog
	entry  *Request
	status bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *loggingWriter) WriteHeader(status int) {
	if !w.status {
		w.status = true
		w.log.end(w.entry, func(e *Request) { e.Status = status })
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *loggingWriter) Write(b []byte) (int, error) {
	if !w.status {
		w.WriteHeader(http.StatusOK)
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (w *loggingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
