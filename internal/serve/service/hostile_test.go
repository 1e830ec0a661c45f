package service_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/internal/answer/memo"
	"github.com/boltseal/boltseal/internal/serve/server"
	"github.com/boltseal/boltseal/internal/serve/service"
	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/internal/test/testhouse"
	"github.com/boltseal/boltseal/internal/test/testregistry"
	"github.com/boltseal/boltseal/internal/test/testwait"
	"github.com/boltseal/boltseal/notation"
)

// stranger is a registry that anybody may have: images by tag, each with as many
// signatures as its owner likes.
type stranger struct {
	host    string
	mu      sync.Mutex
	content map[digest.Digest][]byte
	types   map[digest.Digest]string
	tags    map[string]digest.Digest
	lists   map[digest.Digest][]string // descriptors of referrers, as JSON
}

func newStranger(t *testing.T) *stranger {
	t.Helper()
	s := &stranger{content: map[digest.Digest][]byte{}, types: map[digest.Digest]string{}, tags: map[string]digest.Digest{},
		lists: map[digest.Digest][]string{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.host = strings.TrimPrefix(srv.URL, "http://")
	return s
}

func (s *stranger) put(mediaType string, b []byte) ocispec.Descriptor {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := digest.FromBytes(b)
	s.content[d], s.types[d] = b, mediaType
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

func describe(d ocispec.Descriptor) string {
	return fmt.Sprintf(`{"mediaType":%q,"artifactType":%q,"digest":%q,"size":%d}`, d.MediaType, notation.ArtifactType, d.Digest, d.Size)
}

// image puts an image there with signatures that sign makes, and returns its name.
func (s *stranger) image(tag string, signatures int, manifest func(i int, subject ocispec.Descriptor) []byte) string {
	subject := s.put(ocispec.MediaTypeImageManifest, fmt.Appendf(nil, `{"schemaVersion":2,"tag":%q}`, tag))
	for i := range signatures {
		d := s.put(ocispec.MediaTypeImageManifest, manifest(i, subject))
		s.mu.Lock()
		s.lists[subject.Digest] = append(s.lists[subject.Digest], describe(d))
		s.mu.Unlock()
	}
	s.mu.Lock()
	s.tags[tag] = subject.Digest
	s.mu.Unlock()
	return s.host + "/a/b:" + tag
}

// signature is the manifest of one with this envelope.
func (s *stranger) signature(i int, subject ocispec.Descriptor, e testca.Envelope) []byte {
	blob := s.put(e.MediaType, e.Content)
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":%s,"layers":[%s],"subject":%s,"annotations":{"i":"%d"}}`,
		ocispec.MediaTypeImageManifest, notation.ArtifactType, describe(s.put(ocispec.MediaTypeEmptyJSON, []byte("{}"))), describe(blob), describe(subject), i)
}

func (s *stranger) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := q.URL.Path[strings.LastIndexByte(q.URL.Path, '/')+1:]
	d := digest.Digest(last)
	if s.tags[last] != "" {
		d = s.tags[last]
	}
	if strings.Contains(q.URL.Path, "/referrers/") {
		w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
		fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[%s]}`, strings.Join(s.lists[d], ","))
		return
	}
	b, ok := s.content[d]
	if !ok {
		http.NotFound(w, q)
		return
	}
	w.Header().Set("Content-Type", s.types[d])
	w.Header().Set("Docker-Content-Digest", string(d))
	w.Header().Set("Content-Length", fmt.Sprint(len(b)))
	if q.Method != http.MethodHead {
		_, _ = w.Write(b)
	}
}

// TestLargeSignaturesAreNotFetched: nobody signs with a manifest of some megabytes,
// which takes a hundred times that to decode. What a list says of its size is a hint,
// so it is asked for, and its length is reason enough not to read it.
func TestLargeSignaturesAreNotRead(t *testing.T) {
	t.Parallel()
	r := start(t, testhouse.Options{}, service.Options{}, policy("prod", ""))
	s := newStranger(t)
	large := func(i int, _ ocispec.Descriptor) []byte {
		head := fmt.Sprintf(`{"schemaVersion":%d,"config":{},"layers":[`, 2+i)
		return []byte(head + strings.TrimSuffix(strings.Repeat("{},", (4<<20-len(head)-2)/3), ",") + "]}")
	}
	v := r.validate("team", s.image("large", 4, large))
	if v.Allowed || !strings.Contains(v.Result.Message, " bytes, at most 65536") {
		t.Errorf("%v: %v", v.Allowed, v.Result)
	}
}

// TestImagesOfStrangersCostNoVerdict: whoever fills a registry with signatures that
// nobody trusts gets each image denied for that, and a signed image of another
// namespace is admitted meanwhile.
func TestImagesOfStrangersCostNoVerdict(t *testing.T) {
	t.Parallel()
	// How long so many take is the machine's affair: they go on when who asked has left.
	r := start(t, testhouse.Options{}, service.Options{Memo: memo.Options{WorkTimeout: testwait.Patience}}, policy("prod", ""))
	s := newStranger(t)
	chain := testca.Test(t, testca.Options{Intermediates: make([]testca.Spec, 8)})
	var images []string
	for n := range 10 {
		var envelope testca.Envelope
		images = append(images, s.image(fmt.Sprint("t", n), 50, func(i int, subject ocispec.Descriptor) []byte {
			if i == 0 {
				envelope = testhouse.Need(chain.Sign(subject, testca.SignOptions{}))(t)
			}
			return s.signature(i, subject, envelope)
		}))
	}
	done := make(chan string)
	go func() {
		said, ctx := "", testwait.Context(t)
		for ctx.Err() == nil && (said == "" || strings.Contains(said, "no answer in time")) {
			v := r.validate("strangers", images...)
			said = fmt.Sprint(v.Allowed, v.Result.Message)
		}
		done <- said
	}()
	for n := range 5 {
		tag, _ := r.Signed(fmt.Sprint("good", n), r.Signer)
		if v := r.validate("team", tag); !v.Allowed {
			t.Errorf("a signed image is refused meanwhile: %v", v.Result)
		}
	}
	if said := <-done; strings.HasPrefix(said, "true") || !strings.Contains(said, "not trusted") {
		t.Error(said)
	}
}

// TestOneTenantStarvesNobody: one namespace that names many images of a registry
// which never answers, by either way into the webhook, keeps no other's image from
// being verified.
func TestOneTenantStarvesNobody(t *testing.T) {
	t.Parallel()
	for _, path := range []string{server.PathValidate, server.PathPin} {
		// The attacker's reviews wait until the end, so that what is refused is told by counts alone. None has more images
		// than a review asks for at a time: those behind would be asked for when the first ones' time is over.
		const reviews, each, work = 12, 50, 400
		r := start(t, testhouse.Options{}, service.Options{Memo: memo.Options{MaxWork: work, WorkTimeout: testwait.Patience},
			Server: server.Options{WebhookTimeout: testwait.Patience}}, policy("prod", ""))
		silent := testhouse.New(t, testhouse.Options{})
		t.Cleanup(silent.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang}))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		for n := range reviews {
			var images []string
			for i := range each {
				images = append(images, silent.Registry.Ref("x", fmt.Sprintf("t%d-%d", n, i)))
			}
			q := r.request(ctx, path, reviewOf(pod("attacker", images...)))
			go func() {
				if resp, err := r.client.Do(q); err == nil {
					_ = resp.Body.Close()
				}
			}()
		}
		eventually(t, "all are refused but a namespace's share", func() bool {
			n, _ := strconv.ParseFloat(r.metric("boltseal_overloaded_total"), 64)
			return n >= reviews*each-work/4
		})
		tag, _ := r.Signed("good", r.Signer)
		if v := r.validate("shop", tag); !v.Allowed {
			t.Errorf("%s: another namespace's image: %v", path, v.Result)
		}
	}
}

// TestWhoIsRefusedIsTriedOnceMore: where too many verifications are under way, a request
// waits once for all of its images, and asks once more for them: few of them are refused
// before that, and each of them once after it.
func TestWhoIsRefusedIsTriedOnceMore(t *testing.T) {
	t.Parallel()
	const images, most = 200, 64
	// A quarter of the work, one image, is for a namespace.
	r := start(t, testhouse.Options{}, service.Options{Memo: memo.Options{MaxWork: 4, WorkTimeout: testwait.Patience}, Server: server.Options{WebhookTimeout: testwait.Patience}}, policy("prod", ""))
	silent := testhouse.New(t, testhouse.Options{})
	t.Cleanup(silent.Registry.Inject(testregistry.Fault{Kind: testregistry.Hang}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	q := r.request(ctx, server.PathValidate, reviewOf(pod("shop", silent.Registry.Ref("x", "first"))))
	go func() {
		if resp, err := r.client.Do(q); err == nil {
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "the namespace has what is its own", func() bool { return r.metric("boltseal_verifications_in_flight") == "1" })
	var names []string
	for i := range images {
		names = append(names, silent.Registry.Ref("x", fmt.Sprint("t", i)))
	}
	if v := r.review(server.PathValidate, pod("shop", names...)); v.Allowed || !strings.Contains(v.Result.Message, "being verified") {
		t.Errorf("%+v", v)
	}
	if n := r.metric("boltseal_second_tries_total"); n != "1" {
		t.Errorf("%s requests waited", n)
	}
	if n, _ := strconv.Atoi(r.metric("boltseal_overloaded_total")); n <= images || n > images+most {
		t.Errorf("%d images were refused, of %d that were asked for twice", n, images)
	}
}
