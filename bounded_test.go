package boltseal_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/weight"
)

// What decoding may allocate: a fixed sum, and so many times the text.
const (
	decodeFloor = 64 << 10
	decodeTimes = 48
)

// fill makes a document of about size bytes out of head, many units and tail.
func fill(size int, head string, unit func(i int) string, tail string) []byte {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len() < size-len(tail)-40; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(unit(i))
	}
	b.WriteString(tail)
	return []byte(b.String())
}

func repeat(s string) func(int) string { return func(int) string { return s } }

func emptyMember(i int) string { return fmt.Sprintf(`"%x":""`, i) }

// bombs are documents that would take many times their size to hold.
func bombs(size int) map[string][]byte {
	entry := `{"mediaType":"a/b","digest":"` + someDigest + `","size":1,`
	return map[string][]byte{
		"layers":                fill(size, `{"schemaVersion":2,"config":{},"layers":[`, repeat(`{}`), `]}`),
		"blobs":                 fill(size, `{"blobs":[`, repeat(`{}`), `]}`),
		"manifests":             fill(size, `{"schemaVersion":2,"manifests":[`, repeat(`{}`), `]}`),
		"annotations":           fill(size, `{"schemaVersion":2,"config":{},"annotations":{`, emptyMember, `}}`),
		"config.urls":           fill(size, `{"schemaVersion":2,"layers":[],"config":{"urls":[`, repeat(`""`), `]}}`),
		"config.annotations":    fill(size, `{"schemaVersion":2,"layers":[],"config":{"annotations":{`, emptyMember, `}}}`),
		"config.os.features":    fill(size, `{"schemaVersion":2,"layers":[],"config":{"platform":{"os.features":[`, repeat(`""`), `]}}}`),
		"subject.annotations":   fill(size, `{"schemaVersion":2,"config":{},"subject":{"annotations":{`, emptyMember, `}}}`),
		"layer.urls":            fill(size, `{"schemaVersion":2,"config":{},"layers":[`+entry+`"urls":[`, repeat(`""`), `]}]}`),
		"layer.annotations":     fill(size, `{"schemaVersion":2,"config":{},"layers":[`+entry+`"annotations":{`, emptyMember, `}}]}`),
		"platform.os.features":  fill(size, `{"schemaVersion":2,"manifests":[`+entry+`"platform":{"os.features":[`, repeat(`""`), `]}}]}`),
		"manifests.urls":        fill(size, `{"schemaVersion":2,"manifests":[`+entry+`"urls":[`, repeat(`""`), `]}]}`),
		"manifests.annotations": fill(size, `{"schemaVersion":2,"manifests":[`+entry+`"annotations":{`, emptyMember, `}}]}`),
		"unknown member":        fill(size, `{"schemaVersion":2,"config":{},"x":{`, emptyMember, `}}`),
		"nested":                fill(size, `{"schemaVersion":2,"config":{},"x":[`, repeat(`[[[[]]]]`), `]}`),
	}
}

// TestManifestsAreCountedWhileTheyAreDecoded: a manifest that is small enough to be
// read costs a multiple of its size, and one that is not costs nothing.
func TestManifestsAreCountedWhileTheyAreDecoded(t *testing.T) { // not parallel: it weighs
	for _, size := range []int{8 << 10, boltseal.MaxArtifactManifest, 1 << 20} {
		for name, b := range bombs(size) {
			mediaType := ocispec.MediaTypeImageManifest
			if name == "blobs" {
				mediaType = boltseal.MediaTypeORASArtifact
			}
			most := decodeFloor + decodeTimes*min(len(b), boltseal.MaxArtifactManifest)
			if len(b) > boltseal.MaxArtifactManifest {
				most = decodeFloor
			}
			var err error
			if n := weight.Allocated(func() { _, err = boltseal.ParseArtifactManifest(mediaType, b) }); n > most {
				t.Errorf("%s: %d bytes of text: %d bytes allocated, at most %d: %v", name, len(b), n, most, err)
			}
			if len(b) > boltseal.MaxArtifactManifest && !errors.Is(err, boltseal.ErrLimit) {
				t.Errorf("%s: %d bytes are read: %v", name, len(b), err)
			}
			if n, most := weight.Allocated(func() { _, err = boltseal.ParseIndex(ocispec.MediaTypeImageIndex, b) }), decodeFloor+decodeTimes*len(b); n > most {
				t.Errorf("%s as an index: %d bytes of text: %d bytes allocated, at most %d: %v", name, len(b), n, most, err)
			}
		}
	}
}
