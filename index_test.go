package boltseal_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/boltseal/boltseal"
	"github.com/boltseal/boltseal/internal/test/weight"
)

func digestOf(i int) string { return fmt.Sprintf("sha256:%064x", i) }

func entryText(i int, more string) string {
	return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":7%s}`, ocispec.MediaTypeImageManifest, digestOf(i), more)
}

func indexText(entries ...string) string {
	return `{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + strings.Join(entries, ",") + `]}`
}

func TestParseIndex(t *testing.T) {
	t.Parallel()
	amd := entryText(1, `,"platform":{"os":"linux","architecture":"amd64"},"annotations":{"a":"b"}`)
	good := indexText(amd, entryText(2, ""))
	ix, err := boltseal.ParseIndex(ocispec.MediaTypeImageIndex, []byte(good))
	if err != nil || len(ix.Manifests) != 2 || ix.Manifests[0].Platform.Architecture != "amd64" || ix.Manifests[1].Platform != nil || ix.Manifests[0].Annotations["a"] != "b" {
		t.Fatalf("%+v, %v", ix, err)
	}
	for name, text := range map[string]string{
		"without its own type":           strings.Replace(good, `"mediaType":"`+ocispec.MediaTypeImageIndex+`",`, "", 1),
		"one manifest for two platforms": indexText(amd, entryText(1, `,"platform":{"os":"linux","architecture":"arm64"}`)),
		"what the specification adds":    strings.Replace(good, `"schemaVersion"`, `"subject":null,"artifactType":"a/b","annotations":{"x":"y"},"schemaVersion"`, 1),
		"no entries":                     indexText(),
	} {
		if _, err := boltseal.ParseIndex(ocispec.MediaTypeImageIndex, []byte(text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "null": "null", "a list": "[]", "no manifests": `{"schemaVersion":2}`, "manifests null": `{"schemaVersion":2,"manifests":null}`,
		"manifests an object": `{"schemaVersion":2,"manifests":{}}`, "schema 1": strings.Replace(good, `:2,`, `:1,`, 1), "more behind it": good + "{}",
		"another type": strings.Replace(good, ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest, 1), "cut off": good[:len(good)-3],
		"manifests twice":              strings.Replace(good, `"manifests":`, `"manifests":[],"manifests":`, 1),
		"manifests in two cases":       strings.Replace(good, `"manifests":`, `"Manifests":[],"manifests":`, 1),
		"manifests in another case":    strings.Replace(good, `"manifests":`, `"Manifests":`, 1),
		"manifests by a Kelvin sign":   strings.Replace(good, `"manifests":`, `"manife\u017fts":[],"manifests":`, 1),
		"digest twice":                 indexText(strings.Replace(amd, `"size"`, `"digest":"`+digestOf(3)+`","size"`, 1)),
		"digest in two cases":          indexText(strings.Replace(amd, `"size"`, `"Digest":"`+digestOf(3)+`","size"`, 1)),
		"platform in another case":     indexText(entryText(1, `,"Platform":{"os":"linux","architecture":"s390x"}`)),
		"os in another case":           indexText(entryText(1, `,"platform":{"OS":"linux","architecture":"s390x"}`)),
		"an image manifest too":        strings.Replace(good, `"schemaVersion"`, `"config":{},"schemaVersion"`, 1),
		"an image manifest's layers":   strings.Replace(good, `"schemaVersion"`, `"layers":[],"schemaVersion"`, 1),
		"a schema 1 manifest too":      strings.Replace(good, `"schemaVersion"`, `"fsLayers":[],"schemaVersion"`, 1),
		"an entry null":                indexText("null"),
		"an entry without a digest":    indexText(`{"mediaType":"a/b","size":1}`),
		"an entry without a size":      indexText(strings.Replace(amd, `,"size":7`, "", 1)),
		"an entry without a type":      indexText(strings.Replace(amd, ocispec.MediaTypeImageManifest, "", 1)),
		"a size below zero":            indexText(strings.Replace(amd, `:7`, `:-1`, 1)),
		"a size too large":             indexText(strings.Replace(amd, `:7`, `:4611686018427387904`, 1)),
		"a digest that is none":        indexText(strings.Replace(amd, "sha256:", "sha256:../", 1)),
		"one digest of two sizes":      indexText(amd, strings.Replace(amd, `:7`, `:8`, 1)),
		"one digest of two types":      indexText(amd, strings.Replace(amd, ocispec.MediaTypeImageManifest, boltseal.MediaTypeDockerManifest, 1)),
		"a platform that is no object": indexText(entryText(1, `,"platform":"linux/amd64"`)),
	} {
		if ix, err := boltseal.ParseIndex(ocispec.MediaTypeImageIndex, []byte(text)); !errors.Is(err, boltseal.ErrMalformed) || len(ix.Manifests) > 0 {
			t.Errorf("%s: %+v, %v", name, ix, err)
		}
	}
	if _, err := boltseal.ParseIndex(ocispec.MediaTypeImageManifest, []byte(good)); !errors.Is(err, boltseal.ErrMalformed) {
		t.Error("served as an image manifest:", err)
	}
	if _, err := boltseal.ParseIndex(boltseal.MediaTypeDockerManifestList, []byte(good)); !errors.Is(err, boltseal.ErrMalformed) {
		t.Error("served as a list of Docker's:", err)
	}
	list := strings.Replace(good, ocispec.MediaTypeImageIndex, boltseal.MediaTypeDockerManifestList, 1)
	if _, err := boltseal.ParseIndex(boltseal.MediaTypeDockerManifestList, []byte(list)); err != nil {
		t.Error(err)
	}
	var many []string
	for i := range boltseal.MaxIndexManifests {
		many = append(many, entryText(i, ""))
	}
	if ix, err := boltseal.ParseIndex(ocispec.MediaTypeImageIndex, []byte(indexText(many...))); err != nil || len(ix.Manifests) != boltseal.MaxIndexManifests {
		t.Error(err)
	}
	many = append(many, entryText(len(many), ""))
	if _, err := boltseal.ParseIndex(ocispec.MediaTypeImageIndex, []byte(indexText(many...))); !errors.Is(err, boltseal.ErrLimit) || errors.Is(err, boltseal.ErrMalformed) {
		t.Error(err)
	}
}

// FuzzParseIndex: what is read is what encoding/json reads, which container
// runtimes read with; every entry is sound, and nothing is read from what is
// malformed.
func FuzzParseIndex(f *testing.F) {
	amd := entryText(1, `,"platform":{"os":"linux","architecture":"amd64","variant":"v3","os.version":"1","os.features":["a"]},"annotations":{"a":"b"}`)
	for _, seed := range []string{
		indexText(amd, entryText(2, "")), indexText(), "null", `{"schemaVersion":2,"manifests":[null]}`, indexText(amd, amd),
		strings.Replace(indexText(amd), `"manifests"`, `"Manifests"`, 1), strings.Replace(indexText(amd), `"digest"`, `"Digest":"x","digest"`, 1),
		strings.Replace(indexText(amd), `:7`, `:7.0`, 1), strings.Replace(indexText(amd), `"os"`, `"o\u017f":"x","os"`, 1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		weight.Bound{Floor: decodeFloor, Times: decodeTimes}.Check(t, len(b), func() { _, _ = boltseal.ParseIndex(ocispec.MediaTypeImageIndex, b) })
		ix, err := boltseal.ParseIndex(ocispec.MediaTypeImageIndex, b)
		if err != nil {
			if !errors.Is(err, boltseal.ErrMalformed) && !errors.Is(err, boltseal.ErrLimit) || len(ix.Manifests) > 0 {
				t.Fatalf("%+v, %v", ix, err)
			}
			return
		}
		var plain ocispec.Index
		if err := json.Unmarshal(b, &plain); err != nil {
			// What encoding/json does not read, no runtime runs.
			return
		}
		if len(plain.Manifests) != len(ix.Manifests) || len(ix.Manifests) > boltseal.MaxIndexManifests {
			t.Fatalf("%q: %d manifests, a runtime reads %d", b, len(ix.Manifests), len(plain.Manifests))
		}
		for i, d := range ix.Manifests {
			p := plain.Manifests[i]
			got, want := need(json.Marshal(d.Platform))(t), need(json.Marshal(p.Platform))(t)
			if d.Digest != p.Digest || d.Size != p.Size || d.MediaType != p.MediaType || !bytes.Equal(got, want) {
				t.Errorf("%q: %+v, a runtime reads %+v", b, d, p)
			}
			if boltseal.ValidateDescriptor(d) != nil || d.MediaType == "" {
				t.Errorf("%q: %+v", b, d)
			}
		}
	})
}

func TestParsePlatform(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"linux/amd64", "linux/arm64/v8", "linux/arm/v7", "windows/amd64", "linux/riscv64", "linux/arm64/v8.2"} {
		p, err := boltseal.ParsePlatform(s)
		var again boltseal.Platform
		if err != nil || p.String() != s || again.UnmarshalText(need(p.MarshalText())(t)) != nil || again != p {
			t.Errorf("%s: %v, %v", s, p, err)
		}
	}
	for _, s := range []string{"", "linux", "linux/", "/amd64", "linux/amd64/", "linux/amd64/v3/x", "Linux/amd64", "linux/x86_64", "linux/adm64", "lin/amd64", "linux/arm/7", "linux/arm64/new", "linux/arm/v1e3", "linux/arm/v-1", "linux/arm/v99999", " linux/amd64"} {
		if p, err := boltseal.ParsePlatform(s); !errors.Is(err, boltseal.ErrConfiguration) || p != (boltseal.Platform{}) {
			t.Errorf("%q: %v, %v", s, p, err)
		}
	}
	ok := []boltseal.Platform{need(boltseal.ParsePlatform("linux/amd64"))(t)}
	for _, m := range []boltseal.MultiArch{{Demand: "some"}, {Platforms: ok}, {Demand: boltseal.Named, Platforms: ok}, {Demand: boltseal.Whole, Platforms: ok},
		{Demand: boltseal.EachPlatform, Platforms: slices.Repeat(ok, boltseal.MaxPlatforms+1)}} {
		if err := m.Validate(); !errors.Is(err, boltseal.ErrConfiguration) {
			t.Errorf("%+v: %v", m, err)
		}
	}
}
