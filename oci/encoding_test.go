package oci

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/weight"
)

const someSubject = digest.Digest("sha256:0000000000000000000000000000000000000000000000000000000000000000")

// deflated is content in one of the encodings that are taken off.
func deflated(tb testing.TB, coding string, content []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "zlib":
		w = zlib.NewWriter(&b)
	case "flate":
		w, _ = flate.NewWriter(&b, flate.BestCompression)
	default:
		w = gzip.NewWriter(&b)
	}
	if _, err := w.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// encodedAnswer is an answer that is held in a room; read is called before each read.
func encodedAnswer(ctx context.Context, share *roomShare, coding string, body []byte, read func()) *http.Response {
	in := io.Reader(iotest.HalfReader(bytes.NewReader(body)))
	if read != nil {
		in = &notedReader{bytes.NewReader(body), read}
	}
	return &http.Response{Header: http.Header{"Content-Encoding": {coding}}, ContentLength: -1,
		Body: &heldBody{ReadCloser: io.NopCloser(in), ctx: ctx, share: share}}
}

type notedReader struct {
	io.Reader
	read func()
}

func (r *notedReader) Read(b []byte) (int, error) {
	r.read()
	return r.Reader.Read(b[:min(len(b), 512)])
}

// TestEncodedBodies: what an encoding holds is what comes out, in each of the forms
// that servers send; what is none is told from a connection that fails.
func TestEncodedBodies(t *testing.T) {
	t.Parallel()
	content := []byte(strings.Repeat("some content ", 9000))
	for _, tc := range []struct {
		name, coding string
		body         []byte
		limit        int64
		want         error
	}{
		{"gzip", "gzip", deflated(t, "gzip", content), 1 << 20, nil},
		{"two parts", "x-gzip", append(deflated(t, "gzip", content[:100]), deflated(t, "gzip", content[100:])...), 1 << 20, nil},
		{"zlib", "deflate", deflated(t, "zlib", content), 1 << 20, nil},
		{"bare", "deflate", deflated(t, "flate", content), 1 << 20, nil},
		{"exactly", "gzip", deflated(t, "gzip", content), int64(len(content)), nil},
		{"one byte more", "gzip", deflated(t, "gzip", content), int64(len(content)) - 1, boltseal.ErrLimit},
		{"much that holds nothing", "gzip", bytes.Repeat(deflated(t, "gzip", nil), 9000), 1 << 10, boltseal.ErrLimit},
		{"cut", "gzip", deflated(t, "gzip", content)[:100], 1 << 20, boltseal.ErrUnusable},
		{"empty", "gzip", nil, 1 << 20, boltseal.ErrUnusable},
		{"empty", "deflate", nil, 1 << 20, boltseal.ErrUnusable},
		{"plain", "gzip", content, 1 << 20, boltseal.ErrUnusable},
		{"unknown", "br", content, 1 << 20, boltseal.ErrUnusable},
	} {
		share := NewRoom(0).enter("h", func() {})
		b, err := readBody(encodedAnswer(t.Context(), share, tc.coding, tc.body, nil), tc.limit)
		if !errors.Is(err, tc.want) || (err == nil) != (tc.want == nil) || err == nil && !bytes.Equal(b, content) {
			t.Errorf("%s as %s: %d bytes, %v", tc.name, tc.coding, len(b), err)
		}
		if err == nil && (share.held < int64(len(b)) || share.held > int64(cap(b))) {
			t.Errorf("%s: %d bytes (cap %d) held as %d", tc.name, len(b), cap(b), share.held)
		}
	}
	broken := errors.New("connection reset")
	resp := &http.Response{Header: http.Header{"Content-Encoding": {"gzip"}}, ContentLength: -1,
		Body: io.NopCloser(io.MultiReader(bytes.NewReader(deflated(t, "gzip", content)[:100]), iotest.ErrReader(broken)))}
	if _, err := readBody(resp, 1<<20); !errors.Is(err, broken) || errors.Is(err, boltseal.ErrUnusable) {
		t.Error(err)
	}
}

// TestBombsStayInTheRoom: a few KB that inflate to megabytes take room while they do,
// as what comes plainly does: nothing is made that there is no room for, and what
// waits for room does not hold what others wait for.
func TestBombsStayInTheRoom(t *testing.T) {
	bomb := deflated(t, "gzip", make([]byte, 4<<20))
	small := NewRoom(512 << 10)
	n := weight.Allocated(func() {
		share := small.enter("h", func() {})
		defer share.leave()
		if _, err := readBody(encodedAnswer(t.Context(), share, "gzip", bomb, nil), 8<<20); !errors.Is(err, boltseal.ErrLimit) {
			t.Errorf("4 MiB where there is room for 256 KiB: %v", err)
		}
	})
	if n > 1<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
	synctest.Test(t, func(t *testing.T) {
		r := NewRoom(24 << 20)
		var wg sync.WaitGroup
		var mu sync.Mutex
		ended := map[string]int{}
		for i := range 64 {
			wg.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				share := r.enter(string(rune('a'+i%8)), cancel)
				defer share.leave()
				resp := encodedAnswer(ctx, share, "gzip", bomb, func() {
					time.Sleep(10 * time.Millisecond) // waits: fake time, for the network
					r.mu.Lock()
					if r.used > r.most {
						t.Errorf("%d bytes are held", r.used)
					}
					r.mu.Unlock()
				})
				_, err := readBody(resp, 5<<20)
				share.arrived()
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					ended["whole"]++
				case errors.Is(err, boltseal.ErrUnavailable):
					ended["cut off"]++
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if ended["whole"] == 0 || ended["whole"]+ended["cut off"] != 64 || r.used != 0 {
			t.Errorf("%v, %d bytes are left", ended, r.used)
		}
	})
}

// TestTokensAndErrorsTakeRoom: what a token server says, and what an error says, are
// answers like all others.
func TestTokensAndErrorsTakeRoom(t *testing.T) {
	t.Parallel()
	room := NewRoom(1 << 20)
	var mu sync.Mutex
	most := map[string]int64{}
	held := func(path string, w http.ResponseWriter) {
		_ = http.NewResponseController(w).Flush()
		for began := time.Now(); time.Since(began) < time.Minute; { // until the client has begun to read
			room.mu.Lock()
			used := room.used
			room.mu.Unlock()
			if used > 0 {
				mu.Lock()
				most[path] = used
				mu.Unlock()
				return
			}
			time.Sleep(time.Millisecond) // waits: for the other end, which says nothing
		}
	}
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch {
		case req.URL.Path == "/token":
			held("token", w)
			_, _ = io.WriteString(w, `{"token":"x"}`)
		case req.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+s.URL+`/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			w.WriteHeader(http.StatusForbidden)
			held("error", w)
			_, _ = io.WriteString(w, `{"errors":[{"code":"DENIED"}]}`)
		}
	}))
	defer s.Close()
	r, err := NewRegistry(Options{Room: room})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ref := boltseal.Reference{Registry: strings.TrimPrefix(s.URL, "http://"), Repository: "a/b", Digest: someSubject}
	if _, err := r.Manifest(t.Context(), ref, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: someSubject, Size: 7}); !errors.Is(err, boltseal.ErrUnauthorized) {
		t.Error(err)
	}
	if most["token"] == 0 || most["error"] == 0 || room.used != 0 {
		t.Errorf("%v, %d bytes are left", most, room.used)
	}
}
