package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal/internal/test/testca"
	"github.com/boltseal/boltseal/notation"
)

// serveHostile serves a registry in which every tag is an image of its own: bombs has four
// signatures of 4 MiB each, strangers fifty with a chain of ten that nobody trusts,
// and withheld keeps the last piece of 4 MiB of referrers back.
func serveHostile(ctx context.Context, kind, listen string) (host string, err error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return "", err
	}
	chain, err := testca.New(testca.Options{Intermediates: make([]testca.Spec, 8)})
	if err != nil {
		return "", err
	}
	bombs := map[string][]byte{}
	if kind == "bombs" {
		for i := range 4 {
			head := fmt.Sprintf(`{"schemaVersion":%d,"config":{},"layers":[`, 2+i)
			b := []byte(head + strings.TrimSuffix(strings.Repeat("{},", (4<<20-len(head)-2)/3), ",") + "]}")
			bombs[digest.FromBytes(b).String()] = b
		}
	}
	image := func(tag string) []byte { return fmt.Appendf(nil, `{"schemaVersion":2,"tag":%q}`, tag) }
	tags := newTags(image)
	s := &http.Server{BaseContext: func(net.Listener) context.Context { return ctx }, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		last := q.URL.Path[strings.LastIndexByte(q.URL.Path, '/')+1:]
		send := func(mediaType string, b []byte) {
			w.Header().Set("Content-Type", mediaType)
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			if !strings.Contains(q.URL.Path, "/referrers/") {
				w.Header().Set("Docker-Content-Digest", digest.FromBytes(b).String())
			}
			if q.Method != http.MethodHead {
				_, _ = w.Write(b)
			}
		}
		switch {
		case strings.Contains(q.URL.Path, "/referrers/") && kind == "withheld":
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			w.Header().Set("Content-Length", fmt.Sprint(4<<20))
			_, _ = w.Write(bytes.Repeat([]byte(" "), 4<<20-100))
			w.(http.Flusher).Flush()
			select {
			case <-q.Context().Done():
			case <-ctx.Done():
			}
		case strings.Contains(q.URL.Path, "/referrers/"):
			var list []string
			if kind == "bombs" {
				for d, b := range bombs {
					list = append(list, descriptorJSON(notation.ArtifactType, ocispec.MediaTypeImageManifest, digest.Digest(d), len(b)))
				}
			} else {
				list = tags.sign(last, chain)
			}
			send(ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[`+strings.Join(list, ",")+`]}`))
		case bombs[last] != nil:
			send(ocispec.MediaTypeImageManifest, bombs[last])
		default:
			b := tags.content(last)
			send(ocispec.MediaTypeImageManifest, b)
		}
	})}
	go func() { _ = s.Serve(l) }()
	context.AfterFunc(ctx, func() { _ = s.Close() })
	return l.Addr().String(), nil
}

func descriptorJSON(artifactType, mediaType string, d digest.Digest, size int) string {
	return fmt.Sprintf(`{"mediaType":%q,"artifactType":%q,"digest":%q,"size":%d}`, mediaType, artifactType, d, size)
}
